"""Map: look at every clean image or every pair of a unit once, and store what the filters measured."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, SerializeAsAny

from filters._contract import Embedded, Filter, Measure, Sample, Scores, Split, scores_in
from storage import samples
from storage.canonical import decode
from storage.commits import sha256_of_output
from storage.ledger import SCORES, read_table, write_table
from storage.records import Image, Pair, ShardReport, WorkShard
from storage.shards import read_member
from tasks.preparing import Beside, Group, grouped, in_turn, writable
from tasks.progress import finished, may_work_together, quarantined

BATCH = 8  # samples decoded at a time; a filter whose option `batch` is larger gets as many

SCHEMA = pa.schema([("key", pa.string()), ("reason", pa.string()), ("scores", SCORES)])
EMBEDDINGS = SCHEMA.append(pa.field("embedding", pa.binary()))  # of a unit that one of the filters embeds


class Options(BaseModel, frozen=True, extra="forbid"):
    """filters: name -> options of each filter that measures this unit."""

    filters: dict[str, SerializeAsAny[Filter]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A group of images or pairs, decoded. made: filter -> what its `prepare` made of each.

    samples: empty where every filter has what it needs, so that no pixels travel for nothing.
    """

    keys: tuple[str, ...]
    samples: tuple[Sample, ...]
    made: Mapping[str, tuple[Any, ...]]


class Runner:
    """Filters opened once; measures units until it is dropped."""

    def __init__(self, options: Options, device: str) -> None:
        self._options = options
        self._measures: dict[str, Measure] = {name: item.open(device) for name, item in options.filters.items()}

    def run(self, shard: WorkShard, beside: Beside | None = None) -> ShardReport:
        """Measure one unit; see `run`. beside: prepares its groups; None: each is prepared here, in turn."""
        lost, prepared = quarantined(shard), beside.prepared if beside else self._in_turn(shard)
        rows = [row for ready in prepared for row in self._rows(ready)]
        rows.extend({"key": key, "reason": "crash", "scores": {}} for key in sorted(lost))
        schema = EMBEDDINGS if any("embedding" in row for row in rows) else SCHEMA
        write_table(Path(shard.output + ".parquet"), sorted(rows, key=lambda row: str(row["key"])), schema)
        finished(shard)
        sha256, size = sha256_of_output(shard.output)
        rejected = {"crash": len(lost)} if lost else {}
        return ShardReport(shard=shard, kept=len(rows) - len(lost), rejected=rejected, bytes=size, sha256=sha256)

    def _in_turn(self, shard: WorkShard) -> Iterable[Ready]:
        return in_turn(groups(shard, self._options), partial(prepare, options=self._options), shard)

    def _rows(self, ready: Ready) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = [{"key": key, "reason": "", "scores": {}} for key in ready.keys]
        samples = [_writable(sample) for sample in ready.samples]
        for name, measure in self._measures.items():
            made = ready.made.get(name)
            found = measure(samples) if made is None else _second_step(measure)(made)
            for row, one in zip(rows, found, strict=True):
                row["scores"].update({f"{name}.{score}": float(value) for score, value in scores_in(one).items()})
                if isinstance(one, Embedded):
                    row["embedding"] = one.embedding
        return rows


def open(options: Options, device: str) -> Runner:  # noqa: A001  the name every model stage gives this
    """Return a runner with its filters loaded on `device`."""
    return Runner(options, device)


def run(shard: WorkShard, options: Options) -> ShardReport:
    """Measure the clean images (one stem: theirs) or the pairs (two: their stem and that of the clean images).

    Where the last input is a table of keys, only these are measured.
    """
    return open(options, "cpu").run(shard)


def groups(shard: WorkShard, options: Options) -> list[Group]:
    """Return the images or pairs of `shard` as they are measured together, quarantined ones left out."""
    sizes = [getattr(item, "batch", BATCH) for item in options.filters.values()]
    return grouped(_rows_of(shard.inputs, quarantined(shard)), max([BATCH, *sizes]) if may_work_together(shard) else 1)


def prepare(group: Group, options: Options) -> Ready:
    """Return a group decoded, with what the filters that can do some of their work ahead make of it."""
    image = lru_cache(maxsize=4)(_image)  # the variants of a photograph share its clean side
    found = tuple(_sample(row, image) for row in group.rows)
    first = {name: item.prepare() for name, item in options.filters.items()}
    made = {name: tuple(map(step, found)) for name, step in first.items() if step is not None}
    return Ready(keys=group.keys, samples=() if len(made) == len(first) else found, made=made)


def read_scores(stems: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return key -> row of one unit that was measured in several passes: scores together, the first reason there is.

    A row has an `embedding`, bytes of float16 (D,), where a filter that embeds looked at it.
    """
    rows = {row["key"]: row for row in read_table(Path(stems[0] + ".parquet"))}
    for stem in stems[1:]:
        for row in read_table(Path(stem + ".parquet")):
            first = rows[row["key"]]
            scores = {**first["scores"], **row["scores"]}
            rows[row["key"]] = {**first, **row, "reason": first["reason"] or row["reason"], "scores": scores}
    return rows


def _rows_of(inputs: tuple[str, ...], lost: frozenset[str]) -> list[dict[str, Any]]:
    """Return what is to be measured, in order of work: key, where the clean image lies, and for pairs their row."""
    wanted: set[str] | None = None
    if inputs[-1].endswith(".parquet"):
        inputs, wanted = inputs[:-1], {row["key"] for row in read_table(Path(inputs[-1]))}
    table = read_table(Path(inputs[-1] + ".parquet"))
    clean = {row["key"]: (inputs[-1], row["offset"], row["size"]) for row in table if row["status"] == "kept"}
    if len(inputs) == 1:
        found = [{"key": key, "clean": place} for key, place in sorted(clean.items())]
    else:
        made = (row for row in read_table(Path(inputs[0] + ".parquet")) if row["status"] == "made")
        found = [
            {"key": row["key"], "clean": clean[row["key"][:24]], "pairs": inputs[0]}
            | {name: row[name] for name in ("pair", "members")}
            for row in made
        ]
    return [row for row in found if row["key"] not in lost and (wanted is None or row["key"] in wanted)]


def _sample(row: Mapping[str, Any], image: Callable[[str, int, int], Image]) -> Sample:
    if "pair" not in row:
        return Sample(key=row["key"], clean=image(*row["clean"]))
    pair = decode(Pair, row["pair"].encode())
    members = {suffix.split(".")[0]: place for suffix, place in json.loads(row["members"]).items()}
    degraded = image(row["pairs"], *members["degraded"])
    clean = image(row["pairs"], *members["clean"]) if "clean" in members else image(*row["clean"])
    return Sample(key=pair.key, clean=clean, degraded=degraded, recipe=pair.recipe)


def _image(stem: str, offset: int, size: int) -> Image:
    return samples.decode_image(read_member(Path(f"{stem}.tar"), offset, size))


def _second_step(measure: Measure) -> Callable[[Sequence[Any]], Sequence[Scores | Embedded]]:
    assert isinstance(measure, Split), "what has a first step has a second one"
    return measure.score


def _writable(sample: Sample) -> Sample:
    degraded = None if sample.degraded is None else writable(sample.degraded)
    return replace(sample, clean=writable(sample.clean), degraded=degraded)
