"""Map: depth and segments of the clean images of one bucket, by the backends that the settings name."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, model_validator

from storage import samples
from storage.commits import sha256_of_output
from storage.ledger import SCORES, read_table, write_table
from storage.records import Image, Plane, ShardReport, WorkShard
from storage.shards import ShardWriter, read_member
from tasks.annotators import Annotator, check_name, needs_weights, open_annotator
from tasks.annotators.midas import Options as MidasOptions
from tasks.annotators.sam2 import Options as Sam2Options
from tasks.preparing import Group, grouped, in_turn, writable
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

    def open(self, kind: str, device: str) -> Annotator:
        """Return the annotator of a kind, loaded on `device`; raises ValueError if it makes another kind."""
        name = getattr(self, kind)
        annotator = open_annotator(name, device, getattr(self, f"{kind}_weights"), getattr(self, name, None))
        if annotator.kind != kind:
            raise ValueError(f"annotator {annotator.backend} makes {annotator.kind}, not {kind}")
        return annotator


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A group of images, uint8 (H, W, 3), with the annotations that need no weights: by kind, in the same order."""

    keys: tuple[str, ...]
    images: tuple[Image, ...]
    made: Mapping[str, tuple[NDArray[Any], ...]]


class Runner:
    """The two annotators, opened once; annotates work shards until it is dropped."""

    def __init__(self, options: Options, device: str) -> None:
        self._options = options
        self._depth = options.open("depth", device)
        self._segments = options.open("segments", device)

    def run(self, shard: WorkShard, prepared: Iterable[Ready] | None = None) -> ShardReport:
        """Annotate one work shard.

        inputs: the stem of the bucket's clean images and, where not all are wanted, the table of scenes whose kept
        rows are. Publishes `<output>.tar` with `<key>.depth.png` (16 bits) and `<key>.segments.png`, and
        `<output>.parquet` with one row per image. prepared: its groups; None prepares each when it is its turn.
        """
        lost = quarantined(shard)
        rows = [_blank(row["key"]) | {"reason": "crash"} for row in _wanted(shard.inputs) if row["key"] in lost]
        if prepared is None:
            prepared = in_turn(groups(shard, self._options), partial(prepare, options=self._options), shard)
        with ShardWriter(Path(shard.output + ".tar")) as writer:
            for ready in prepared:
                rows += self._annotate(ready, writer)
        rows.sort(key=lambda row: str(row["key"]))
        write_table(Path(shard.output + ".parquet"), rows, SCHEMA)
        finished(shard)
        rejected = Counter(row["reason"] for row in rows if row["reason"])
        sha256, size = sha256_of_output(shard.output)
        kept = len(rows) - sum(rejected.values())
        return ShardReport(shard=shard, kept=kept, rejected=dict(rejected), bytes=size, sha256=sha256)

    def _annotate(self, ready: Ready, writer: ShardWriter) -> list[Row]:
        images = [writable(image) for image in ready.images]
        depths = ready.made.get("depth") or self._depth.annotate_all(images)
        segments = ready.made.get("segments") or self._segments.annotate_all(images)
        return [self._stored(*made, writer) for made in zip(ready.keys, depths, segments, strict=True)]

    def _stored(self, key: str, depth: Plane, segments: Image, writer: ShardWriter) -> Row:
        members = {"depth.png": samples.encode_depth(depth), "segments.png": samples.encode_labels(segments)}
        placed = writer.add(key, members)
        return _blank(key) | {
            "depth_backend": self._depth.backend,
            "depth_offset": placed["depth.png"][0],
            "depth_size": placed["depth.png"][1],
            "segments_backend": self._segments.backend,
            "segments_offset": placed["segments.png"][0],
            "segments_size": placed["segments.png"][1],
            "scores": _scores(depth, segments),
        }


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
    """Return the decoded images of a group, annotated by whatever needs no weights."""
    images = tuple(_image(row) for row in group.rows)
    embedded = [kind for kind in ("depth", "segments") if not needs_weights(getattr(options, kind))]
    made = {kind: tuple(options.open(kind, "cpu").annotate_all(images)) for kind in embedded}
    return Ready(keys=group.keys, images=images, made=made)


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
