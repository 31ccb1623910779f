"""Map: depth and segments of the clean images of one bucket, by the backends that the settings name."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import AfterValidator, BaseModel

from storage import samples
from storage.commits import sha256_of_output
from storage.ledger import SCORES, read_table, write_table
from storage.records import Image, Plane, ShardReport, WorkShard
from storage.shards import ShardWriter, read_member
from tasks.annotators import check_name, open_annotator
from tasks.progress import finished, quarantined, working_on

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
    """Which backend makes each annotation, and for those with a model its weights.

    weights: a local folder or `hub-id@revision`; the embedded backends, the defaults, need none.
    """

    depth: Name = "depth_prior"
    depth_weights: str = ""
    segments: Name = "superpixels"
    segments_weights: str = ""


class Runner:
    """The two annotators, opened once; annotates work shards until it is dropped."""

    def __init__(self, options: Options, device: str) -> None:
        self._depth = open_annotator(options.depth, device, options.depth_weights)
        self._segments = open_annotator(options.segments, device, options.segments_weights)
        for annotator, kind in ((self._depth, "depth"), (self._segments, "segments")):
            if annotator.kind != kind:
                raise ValueError(f"annotator {annotator.backend} makes {annotator.kind}, not {kind}")

    def run(self, shard: WorkShard) -> ShardReport:
        """Annotate one work shard.

        inputs: the stem of the bucket's clean images and, where not all are wanted, the table of scenes whose kept
        rows are. Publishes `<output>.tar` with `<key>.depth.png` (16 bits) and `<key>.segments.png`, and
        `<output>.parquet` with one row per image.
        """
        stem, lost = shard.inputs[0], quarantined(shard)
        rows: list[Row] = []
        with ShardWriter(Path(shard.output + ".tar")) as writer:
            for clean in _wanted(shard.inputs):
                working_on(shard, clean["key"])
                if clean["key"] in lost:
                    rows.append(_blank(clean["key"]) | {"reason": "crash"})
                    continue
                data = read_member(Path(stem + ".tar"), clean["offset"], clean["size"])
                rows.append(self._annotate(clean["key"], samples.decode_image(data), writer))
        write_table(Path(shard.output + ".parquet"), rows, SCHEMA)
        finished(shard)
        rejected = Counter(row["reason"] for row in rows if row["reason"])
        sha256, size = sha256_of_output(shard.output)
        kept = len(rows) - sum(rejected.values())
        return ShardReport(shard=shard, kept=kept, rejected=dict(rejected), bytes=size, sha256=sha256)

    def _annotate(self, key: str, image: Image, writer: ShardWriter) -> Row:
        depth, segments = self._depth.annotate(image), self._segments.annotate(image)
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
