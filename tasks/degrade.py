"""Map: make the planned pairs of one bucket and one degradation or combination, through recipes."""

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, SerializeAsAny

from degradations import load
from degradations.pairs.calibrate import Band, draw_calibrated
from degradations.pairs.contract import Options as DegradationOptions
from degradations.pairs.contract import Stage
from degradations.pairs.coupled import steps_of
from degradations.pairs.recipes import draw, inputs_of
from degradations.pairs.render import render
from storage import samples
from storage.canonical import encode
from storage.commits import sha256_of_output
from storage.errors import SettingsError, SourceError
from storage.ledger import read_table, write_table
from storage.records import Image, Pair, Recipe, Scene, ShardReport, Source, WorkShard, level
from storage.shards import ShardWriter, read_member
from tasks.crawl import RIGHTS_TABLES
from tasks.decode import decode
from tasks.progress import finished, quarantined, working_on
from tasks.prompts import instruction

Row = Mapping[str, Any]

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("pair", pa.string()),  # the Pair record as canonical JSON
        ("members", pa.string()),  # JSON: suffix -> [offset, size] in this unit's tar
    ]
)


class Options(BaseModel, frozen=True, extra="forbid"):
    """degradations: the options of each step this unit may draw. codec: of the pixels, lossless either way.

    calibrate: the band of PSNR, dB, of each of the five levels, which pairs are brought into; empty leaves them alone.
    """

    degradations: dict[str, SerializeAsAny[DegradationOptions]] = {}
    codec: samples.Codec = "webp"
    calibrate: tuple[Band, ...] = ()


def run(shard: WorkShard, options: Options) -> ShardReport:
    """Render every planned pair of `shard`.

    inputs: the plan (Parquet), the stem of the bucket's clean images, the stem of its annotations. Publishes
    `<output>.tar` with `<key>.degraded`, and where a step changed or read it `<key>.clean`, `<key>.original` and
    `<key>.overlay-<degradation>`, and `<output>.parquet` with one row per planned pair.
    """
    plan, clean_stem, annotations_stem = shard.inputs
    bucket = _Bucket(clean_stem, annotations_stem, options.degradations)
    lost = quarantined(shard)
    rows = []
    with ShardWriter(Path(shard.output + ".tar")) as writer:
        for planned in read_table(Path(plan)):
            working_on(shard, planned["key"])
            rows.append(_make(planned, bucket, writer, options, crashed=planned["key"] in lost))
    write_table(Path(shard.output + ".parquet"), rows, SCHEMA)
    finished(shard)
    return _report(shard, rows)


class _Bucket:
    """The clean images and annotations of one bucket, read when asked for; the last few stay decoded."""

    def __init__(self, clean_stem: str, annotations_stem: str, options: Mapping[str, DegradationOptions]) -> None:
        self.clean_stem, self.annotations_stem, self.options = clean_stem, annotations_stem, options
        self.clean_rows = {row["key"]: row for row in read_table(Path(clean_stem + ".parquet")) if row["key"]}
        self.annotation_rows = {row["key"]: row for row in read_table(Path(annotations_stem + ".parquet"))}
        self.image = lru_cache(maxsize=4)(self._image)
        self.annotation = lru_cache(maxsize=4)(self._annotation)

    def scene(self, planned: Row) -> Scene:
        """Return the scene of a planned pair, with the annotations and the overlay its steps read."""
        key = planned["source_key"]
        wanted = [(step, load(step)) for step in steps_of(planned["name"])]
        reads = frozenset[str]().union(*(degradation.needs | degradation.reads for _, degradation in wanted))
        image = self.image(key)
        overlays = {
            step: fit(self.image(planned["overlay"]), image.shape)
            for step, degradation in wanted
            if degradation.overlay == "photograph" and planned["overlay"]
        }
        for step, degradation in wanted:
            if degradation.overlay == "pattern" and (folder := getattr(self.options.get(step), "patterns", None)):
                overlays[step] = fit(pattern(step, folder, planned["seed"]), image.shape)
        return Scene(
            key=key,
            image=image,
            source=self.source(key),
            depth=self.annotation(key, "depth") if "depth" in reads else None,
            segments=self.annotation(key, "segments") if "segments" in reads else None,
            frames=self.frames(key) if "frames" in reads and _starts_with_frames(planned["name"]) else None,
            overlays=overlays,
        )

    def source(self, key: str) -> Source:
        """Return where the photograph `key` comes from."""
        return source_of(self.clean_rows[key])

    def _image(self, key: str) -> Image:
        row = self.clean_rows[key]
        return samples.decode_image(read_member(Path(self.clean_stem + ".tar"), row["offset"], row["size"]))

    def frames(self, key: str) -> Image | None:
        """Return the clip around the clean image `key`, uint8 (K, H, W, 3); None for a photograph."""
        row = self.clean_rows[key]
        if not row["frames_count"]:
            return None
        data = read_member(Path(self.clean_stem + ".tar"), row["frames_offset"], row["frames_size"])
        return samples.decode_frames(data, row["frames_count"])

    def _annotation(self, key: str, kind: str) -> NDArray[Any]:
        row = self.annotation_rows[key]
        data = read_member(Path(self.annotations_stem + ".tar"), row[f"{kind}_offset"], row[f"{kind}_size"])
        return samples.decode_depth(data) if kind == "depth" else samples.decode_labels(data)


def _starts_with_frames(name: str) -> bool:
    """Tell whether a clip would be the first to act: its frames lack what other steps do to the light before it."""
    others = (load(step) for step in steps_of(name) if "frames" not in load(step).reads)
    return all(part.stage > Stage.OPTICS for other in others for part in other.parts)


def source_of(row: Row) -> Source:
    """Return the source record of a row of the clean stage."""
    names = ("uri", "licence", "author", "sha256", "width", "height")
    return Source(**{name: row[name] for name in names})


def patterns_of(folder: str) -> list[Path]:
    """Return the files of a pattern folder, sorted, but for hidden ones and tables of rights.

    Raises SettingsError if there is none.
    """
    found = Path(folder).glob("**/*") if Path(folder).is_dir() else ()
    files = sorted(path for path in found if path.is_file() and not _is_aside(path))
    if not files:
        raise SettingsError(f"the pattern folder {folder} holds no files; name a folder of images or leave it out")
    return files


def pattern(name: str, folder: str, seed: int) -> Image:
    """Return one pattern of the user's folder for degradation `name`, chosen by `seed`.

    Raises SourceError, which names the file, if it is not an image.
    """
    files = patterns_of(folder)
    file = files[seed % len(files)]
    try:
        return decode(file.read_bytes(), backdrop=load(name).backdrop).image
    except SourceError as error:
        raise SourceError(error.reason, f"pattern {file.name}: {error}") from error


def _is_aside(path: Path) -> bool:
    return path.name.startswith(".") or path.name in RIGHTS_TABLES


def fit(overlay: Image, shape: tuple[int, ...]) -> Image:
    """Return `overlay` scaled and centre-cropped, aspect kept, to the height and width of `shape`."""
    scale = max(shape[0] / overlay.shape[0], shape[1] / overlay.shape[1])
    size = (max(shape[1], round(overlay.shape[1] * scale)), max(shape[0], round(overlay.shape[0] * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    scaled = cv2.resize(overlay, size, interpolation=interpolation)
    top, left = (scaled.shape[0] - shape[0]) // 2, (scaled.shape[1] - shape[1]) // 2
    return np.ascontiguousarray(scaled[top : top + shape[0], left : left + shape[1]])


def _make(planned: Row, bucket: _Bucket, writer: ShardWriter, options: Options, *, crashed: bool) -> dict[str, Any]:
    if crashed:
        return _row(planned, reason="crash", detail="the worker died on this pair twice")
    try:
        scene = bucket.scene(planned)
        second = bucket.source(planned["overlay"]) if planned["overlay"] else None
        pair, members = make_pair(planned, scene, options, second=second)
    except SourceError as error:
        return _row(planned, reason=error.reason, detail=str(error))
    placed = writer.add(planned["key"], members)
    return _row(planned, pair=encode(pair).decode(), members=json.dumps(placed, sort_keys=True))


def make_pair(
    planned: Row, scene: Scene, options: Options, *, second: Source | None = None
) -> tuple[Pair, dict[str, bytes]]:
    """Return the pair of a planned row and the members to store beside the clean image, encoded."""
    recipe = _recipe(planned, scene, options)
    rendered = render(scene, recipe)
    suffix = samples.IMAGE_SUFFIX[options.codec]
    members = {f"degraded{suffix}": samples.encode_image(rendered.degraded, options.codec)}
    if rendered.clean is not scene.image:
        members[f"clean{suffix}"] = samples.encode_image(rendered.clean, options.codec)
        members[f"original{suffix}"] = samples.encode_image(scene.image, options.codec)
    for name, overlay in _overlays(scene, planned["name"]):
        members[f"{name}{suffix}"] = samples.encode_image(overlay, options.codec)
    assert scene.source is not None
    pair = Pair(
        key=planned["key"],
        clean=samples.pixels_sha256(rendered.clean),
        degraded=samples.pixels_sha256(rendered.degraded),
        width=scene.image.shape[1],
        height=scene.image.shape[0],
        recipe=recipe,
        source=scene.source,
        instruction=instruction(planned["name"]),
        caption=scene.caption,
        origin="synthetic",
        second=second,
    )
    return pair, members


def _recipe(planned: Row, scene: Scene, options: Options) -> Recipe:
    name, severity, seed = planned["name"], planned["severity"], planned["seed"]
    if not options.calibrate:
        return draw(name, severity, scene, seed=seed, options=options.degradations)
    band = options.calibrate[level(severity) - 1]
    return draw_calibrated(name, severity, scene, seed=seed, band=band, options=options.degradations)


def _overlays(scene: Scene, name: str) -> Iterator[tuple[str, Image]]:
    for step in steps_of(name):
        for read, array in inputs_of(load(step), step, scene).items():
            if read.startswith("overlay-"):
                yield read, array


def _row(planned: Row, *, reason: str = "", detail: str = "", pair: str = "", members: str = "{}") -> dict[str, Any]:
    status = "failed" if reason else "made"
    return {
        "key": planned["key"],
        "status": status,
        "reason": reason,
        "detail": detail,
        "pair": pair,
        "members": members,
    }


def _report(shard: WorkShard, rows: list[dict[str, Any]]) -> ShardReport:
    rejected: dict[str, int] = {}
    for row in rows:
        if row["reason"]:
            rejected[row["reason"]] = rejected.get(row["reason"], 0) + 1
    sha256, size = sha256_of_output(shard.output)
    kept = len(rows) - sum(rejected.values())
    return ShardReport(shard=shard, kept=kept, rejected=rejected, bytes=size, sha256=sha256)
