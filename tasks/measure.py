"""Map: look at every clean image or every pair of a unit once, and store what the filters measured."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, SerializeAsAny

from filters._contract import Embedded, Filter, Measure, Sample, scores_in
from storage import samples
from storage.canonical import decode
from storage.commits import sha256_of_output
from storage.ledger import SCORES, read_table, write_table
from storage.records import Image, Pair, ShardReport, WorkShard
from storage.shards import read_member
from tasks.progress import finished, quarantined, working_on

BATCH = 8  # samples decoded at a time; a filter whose option `batch` is larger gets as many

SCHEMA = pa.schema([("key", pa.string()), ("reason", pa.string()), ("scores", SCORES)])
EMBEDDINGS = SCHEMA.append(pa.field("embedding", pa.binary()))  # of a unit that one of the filters embeds


class Options(BaseModel, frozen=True, extra="forbid"):
    """filters: name -> options of each filter that measures this unit."""

    filters: dict[str, SerializeAsAny[Filter]]


class Runner:
    """Filters opened once; measures units until it is dropped."""

    def __init__(self, options: Options, device: str) -> None:
        self._measures: dict[str, Measure] = {name: item.open(device) for name, item in options.filters.items()}
        self._batch = max([BATCH, *(getattr(item, "batch", BATCH) for item in options.filters.values())])

    def run(self, shard: WorkShard) -> ShardReport:
        """Measure one unit; see `run`."""
        lost = quarantined(shard)
        rows: list[dict[str, Any]] = []
        stream = _samples(shard.inputs, lost, shard)
        while batch := list(islice(stream, self._batch)):
            rows.extend(self._rows(batch))
        rows.extend({"key": key, "reason": "crash", "scores": {}} for key in sorted(lost))
        schema = EMBEDDINGS if any("embedding" in row for row in rows) else SCHEMA
        write_table(Path(shard.output + ".parquet"), sorted(rows, key=lambda row: str(row["key"])), schema)
        finished(shard)
        sha256, size = sha256_of_output(shard.output)
        rejected = {"crash": len(lost)} if lost else {}
        return ShardReport(shard=shard, kept=len(rows) - len(lost), rejected=rejected, bytes=size, sha256=sha256)

    def _rows(self, batch: list[Sample]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = [{"key": sample.key, "reason": "", "scores": {}} for sample in batch]
        for name, measure in self._measures.items():
            for row, one in zip(rows, measure(batch), strict=True):
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


def _samples(inputs: tuple[str, ...], lost: frozenset[str], shard: WorkShard) -> Iterator[Sample]:
    wanted: set[str] | None = None
    if inputs[-1].endswith(".parquet"):
        inputs, wanted = inputs[:-1], {row["key"] for row in read_table(Path(inputs[-1]))}
    clean_stem = inputs[-1]
    clean_rows = {row["key"]: row for row in read_table(Path(clean_stem + ".parquet")) if row["status"] == "kept"}

    @lru_cache(maxsize=4)
    def clean(key: str) -> Image:
        row = clean_rows[key]
        return samples.decode_image(read_member(Path(clean_stem + ".tar"), row["offset"], row["size"]))

    if len(inputs) == 1:
        for key in sorted(set(clean_rows) - lost if wanted is None else wanted - lost):
            working_on(shard, key)
            yield Sample(key=key, clean=clean(key))
        return
    pairs_stem = inputs[0]
    for row in read_table(Path(pairs_stem + ".parquet")):
        if row["status"] == "made" and row["key"] not in lost and (wanted is None or row["key"] in wanted):
            working_on(shard, row["key"])
            yield _pair_sample(row, Path(pairs_stem + ".tar"), clean)


def _pair_sample(row: Mapping[str, Any], tar: Path, clean: Any) -> Sample:
    pair = decode(Pair, row["pair"].encode())
    members = {suffix.split(".")[0]: place for suffix, place in json.loads(row["members"]).items()}
    degraded = samples.decode_image(read_member(tar, *members["degraded"]))
    own = samples.decode_image(read_member(tar, *members["clean"])) if "clean" in members else clean(pair.key[:24])
    return Sample(key=pair.key, clean=own, degraded=degraded, recipe=pair.recipe)
