"""Map: depth and segments of the clean images of one bucket, by the backends that the settings name."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import pyarrow as pa
from pydantic import AfterValidator, BaseModel, model_validator

from storage import samples
from storage.commits import sha256_of_output
from storage.ledger import SCORES, read_table, write_table
from storage.records import Image, Plane, ShardReport, WorkShard
from storage.shards import ShardWriter, read_member
from tasks.annotators import (
    Annotator,
    Kind,
    Prepare,
    check_name,
    finish_of,
    needs_weights,
    open_annotator,
    open_prepare,
)
from tasks.annotators.midas import Options as MidasOptions
from tasks.annotators.sam2 import Options as Sam2Options
from tasks.preparing import Beside, Group, grouped, in_turn
from tasks.progress import finished, may_work_together, quarantined

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("reason", pa.string()),  # empty unless there are no annotations
        ("depth_backend", pa.string()),
        ("depth_offset", pa.int64()),
        ("depth_size", pa.int64()),
        ("segments_backend", pa.string()),
        ("segments_offset", pa.int64()),
        ("segments_size", pa.int64()),
        ("scores", SCORES),
    ]
)
FAR = 0.01  # inverse depth up to which haze sees no end

Row = dict[str, Any]
Name = Annotated[str, AfterValidator(check_name)]


class Options(BaseModel, frozen=True, extra="forbid"):
    """Which backend makes each annotation, and for those with a model its weights and how it runs.

    weights: a local folder or `hub-id@revision`; the embedded backends, the defaults, need none. midas, sam2: the
    options of the backend of that name.
    """

    depth: Name = "depth_prior"
    depth_weights: str = ""
    segments: Name = "superpixels"
    segments_weights: str = ""
    midas: MidasOptions = MidasOptions()
    sam2: Sam2Options = Sam2Options()

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        """Refuse what would be ignored: weights and options of a backend that is not chosen change no result."""
        for kind, name, weights in (
            ("depth", self.depth, self.depth_weights),
            ("segments", self.segments, self.segments_weights),
        ):
            if needs_weights(name) != bool(weights):
                wanted = "a local folder or hub-id@revision" if needs_weights(name) else "no weights"
                raise ValueError(f"{kind} = {name!r} needs {wanted} as {kind}_weights")
        for name in ("midas", "sam2"):
            if name not in (self.depth, self.segments) and getattr(self, name) != type(getattr(self, name))():
                raise ValueError(f"the options of {name} are set, but no annotation is made by {name}")
        return self

    @property
    def batch(self) -> int:
        """Images that go through the models together."""
        chosen = [getattr(self, name).batch for name in {self.depth, self.segments} if needs_weights(name)]
        return max([1, *map(int, chosen)])

    def open_prepare(self, kind: Kind) -> Prepare:
        """Return the first step of the annotator of a kind, without its weights."""
        name = getattr(self, kind)
        return open_prepare(name, getattr(self, f"{kind}_weights"), getattr(self, name, None))

    def open(self, kind: Kind, device: str) -> Annotator:
        """Return the annotator of a kind, loaded on `device`; raises ValueError if it makes another kind."""
        name = getattr(self, kind)
        annotator = open_annotator(name, device, getattr(self, f"{kind}_weights"), getattr(self, name, None))
        if annotator.kind != kind:
            raise ValueError(f"annotator {annotator.backend} makes {annotator.kind}, not {kind}")
        return annotator


KINDS: tuple[Kind, ...] = ("depth", "segments")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A group of images, uint8 (H, W, 3), and by kind what its backend makes of each before the model, in order."""

    keys: tuple[str, ...]
    images: tuple[Image, ...]
    prepared: Mapping[Kind, tuple[Any, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A group of images with what the backends' models found of each, by kind."""

    keys: tuple[str, ...]
    images: tuple[Image, ...]
    found: Mapping[Kind, tuple[Any, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The annotations of one image as they are stored: file suffix -> content, and its scores."""

    key: str
    members: Mapping[str, bytes]
    scores: Mapping[str, float]


class Runner:
    """The two annotators, opened once; annotates work shards until it is dropped."""

    def __init__(self, options: Options, device: str) -> None:
        self._options = options
        self._annotators = {kind: options.open(kind, device) for kind in KINDS}

    def run(self, shard: WorkShard, beside: Beside | None = None) -> ShardReport:
        """Annotate one work shard.

        inputs: the stem of the bucket's clean images and, where not all are wanted, the table of scenes whose kept
        rows are. Publishes `<output>.tar` with `<key>.depth.png` (16 bits) and `<key>.segments.png`, and
        `<output>.parquet` with one row per image. beside: prepares and finishes its groups; None: each here, in turn.
        """
        lost = quarantined(shard)
        rows = [_blank(row["key"]) | {"reason": "crash"} for row in _wanted(shard.inputs) if row["key"] in lost]
        with ShardWriter(Path(shard.output + ".tar")) as writer:
            beside = beside or self._alone(shard)
            for group in beside.finished(map(self._find, beside.prepared)):
                rows += [self._stored(one, writer) for one in group]
        rows.sort(key=lambda row: str(row["key"]))
        write_table(Path(shard.output + ".parquet"), rows, SCHEMA)
        finished(shard)
        rejected = Counter(row["reason"] for row in rows if row["reason"])
        sha256, size = sha256_of_output(shard.output)
        kept = len(rows) - sum(rejected.values())
        return ShardReport(shard=shard, kept=kept, rejected=dict(rejected), bytes=size, sha256=sha256)

    def _alone(self, shard: WorkShard) -> Beside:
        prepared = in_turn(groups(shard, self._options), partial(prepare, options=self._options), shard)
        return Beside(prepared=prepared, finished=partial(map, partial(finish, options=self._options)))

    def _find(self, ready: Ready) -> Found:
        found = {kind: tuple(one.predict_all(ready.prepared[kind])) for kind, one in self._annotators.items()}
        return Found(keys=ready.keys, images=ready.images, found=found)

    def _stored(self, one: Finished, writer: ShardWriter) -> Row:
        row = _blank(one.key) | {"scores": one.scores}
        placed = writer.add(one.key, one.members)
        for kind, annotator in self._annotators.items():
            offset, size = placed[f"{kind}.png"]
            row |= {f"{kind}_backend": annotator.backend, f"{kind}_offset": offset, f"{kind}_size": size}
        return row


def open(options: Options, device: str) -> Runner:  # noqa: A001  (the name every stage with weights gives this)
    """Return a runner whose annotators are loaded on `device`; raises ValueError if one does not make its kind."""
    return Runner(options, device)


def run(shard: WorkShard, options: Options) -> ShardReport:
    """Annotate one work shard on the CPU; see `Runner.run`."""
    return open(options, "cpu").run(shard)


def groups(shard: WorkShard, options: Options) -> list[Group]:
    """Return the images of `shard` as they go through the models, quarantined ones left out."""
    lost = quarantined(shard)
    rows = [{**row, "stem": shard.inputs[0]} for row in _wanted(shard.inputs) if row["key"] not in lost]
    return grouped(rows, options.batch if may_work_together(shard) else 1)


def prepare(group: Group, options: Options) -> Ready:
    """Return the images of a group, decoded, and what of their annotation needs no weights before the model."""
    images = tuple(_image(row) for row in group.rows)
    prepared = {kind: tuple(map(options.open_prepare(kind), images)) for kind in KINDS}
    return Ready(keys=group.keys, images=images, prepared=prepared)


def finish(group: Found, options: Options) -> list[Finished]:
    """Return the annotations of a group, coded, in order."""
    depths, segments = (map(finish_of(getattr(options, kind)), group.found[kind], group.images) for kind in KINDS)
    return [_coded(*one) for one in zip(group.keys, depths, segments, strict=True)]


def _coded(key: str, depth: Plane, segments: Image) -> Finished:
    members = {"depth.png": samples.encode_depth(depth), "segments.png": samples.encode_labels(segments)}
    return Finished(key=key, members=members, scores=_scores(depth, segments))


def _image(row: Mapping[str, Any]) -> Image:
    return samples.decode_image(read_member(Path(row["stem"] + ".tar"), row["offset"], row["size"]))


def _wanted(inputs: tuple[str, ...]) -> list[Row]:
    clean = [row for row in read_table(Path(inputs[0] + ".parquet")) if row["status"] == "kept"]
    if len(inputs) > 1:
        scenes = {row["key"] for row in read_table(Path(inputs[1])) if row["keep"]}
        clean = [row for row in clean if row["key"] in scenes]
    return sorted(clean, key=lambda row: str(row["key"]))


def _blank(key: str) -> Row:
    places = dict.fromkeys(("depth_offset", "depth_size", "segments_offset", "segments_size"), 0)
    return {"key": key, "reason": "", "depth_backend": "", "segments_backend": "", "scores": {}} | places


def _scores(depth: Plane, segments: Image) -> dict[str, float]:
    sample = depth[::4, ::4]
    low, high = (float(value) for value in np.quantile(sample, (0.05, 0.95)))
    areas = np.bincount(segments.ravel())
    found = {
        "depth.p5": low,
        "depth.p95": high,
        "depth.spread": high - low,
        "depth.sky_fraction": float(np.mean(sample <= FAR)),
        "segments.count": float(np.count_nonzero(areas)),
        "segments.largest": float(areas.max()) / segments.size,
    }
    return {name: round(value, 6) for name, value in found.items()}
