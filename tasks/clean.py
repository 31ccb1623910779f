"""Map: the photographs of one bucket as clean images: decoded, upright, in sRGB, without metadata, each once.

A video or an image sequence gives several: the middle frame of each clip, with the clip beside it.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field

from degradations.numerics.light import decode as light_of
from degradations.numerics.light import encode as srgb_of
from storage import samples
from storage.commits import sha256_of_output
from storage.errors import SourceError
from storage.ledger import SCORES, read_table, write_table
from storage.records import Image, ShardReport, WorkShard
from storage.shards import ShardWriter
from tasks.clips import Clip, clip_key, clips_of, frames_sha256, speed_of
from tasks.clips import Options as ClipOptions
from tasks.crawl import RIGHTS_TABLES, path_of
from tasks.decode import MAX_PIXELS, Decoded, decode
from tasks.footage import Footage, Limits, is_footage, open_footage
from tasks.image_statistics import is_grey, statistics
from tasks.progress import finished, quarantined, working_on

SCHEMA = pa.schema(
    [
        ("uri", pa.string()),
        ("sha256", pa.string()),
        ("bytes", pa.int64()),
        ("licence", pa.string()),
        ("author", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("key", pa.string()),  # empty unless kept
        ("duplicate_of", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("format", pa.string()),
        ("notes", pa.string()),  # what decoding assumed or converted, by commas
        ("offset", pa.int64()),  # of the image in this unit's tar
        ("size", pa.int64()),
        ("frames_offset", pa.int64()),  # of the clip, where there is one
        ("frames_size", pa.int64()),
        ("frames_count", pa.int32()),
        ("frames_sha256", pa.string()),  # of the decoded frames, as recipes name them
        ("scores", SCORES),
    ]
)
UNWANTED = (  # nothing is wrong with these files
    *("duplicate", "greyscale", "rights_table", "too_small"),
    *("scene_cut", "still_clip", "too_fast", "too_few_frames"),
)
PLACE = ("offset", "size")

Row = dict[str, Any]


class Options(BaseModel, frozen=True, extra="forbid"):
    """Which photographs become clean images.

    min_side, max_pixels: others are rejected. max_side: larger ones are reduced, by area in linear light, which also
    hides their noise and artefacts; by default none is. grey: whether a photograph without colour is kept; as the
    clean side of a pair it teaches a restorer to take colour away. codec: of the pixels, lossless either way. clips:
    what is made of moving pictures.
    """

    min_side: Annotated[int, Field(ge=16)] = 512
    max_pixels: Annotated[int, Field(ge=256, le=MAX_PIXELS)] = MAX_PIXELS
    max_side: Annotated[int, Field(ge=16)] | None = None
    grey: Literal["reject", "keep"] = "reject"
    codec: samples.Codec = "webp"
    clips: ClipOptions = ClipOptions()


def run(shard: WorkShard, options: Options) -> ShardReport:
    """Decode and store the photographs of `shard`.

    inputs: the folder, and the sources of the bucket (Parquet: uri, sha256, bytes, licence, author, frames). Publishes
    `<output>.tar` with `<key>.clean`, key the first 24 digits of the file's hash, and `<output>.parquet` with one row
    per source. Of files with equal bytes the first uri is kept. A clip has a row and a key of its own
    (`tasks.clips.clip_key`), a uri that ends in `#frame=` and the number of its clean image, and `<key>.frames`.
    """
    folder, lost = Path(shard.inputs[0]), quarantined(shard)
    kept: dict[str, Row] = {}
    rows = list[Row]()
    with ShardWriter(Path(shard.output + ".tar")) as writer:
        for source in sorted(read_table(Path(shard.inputs[1])), key=lambda row: str(row["uri"])):
            working_on(shard, key_of(source["sha256"]))
            rows.extend(_rows(source, folder, writer, options, kept, lost))
    write_table(Path(shard.output + ".parquet"), rows, SCHEMA)
    finished(shard)
    rejected = Counter(row["reason"] for row in rows if row["reason"])
    sha256, size = sha256_of_output(shard.output)
    num_kept = len(rows) - sum(rejected.values())
    return ShardReport(shard=shard, kept=num_kept, rejected=dict(rejected), bytes=size, sha256=sha256)


def key_of(sha256: str) -> str:
    """Return the key of the clean image made of a file with this hash."""
    return sha256[:24]


def photograph(data: bytes, options: Options) -> Decoded:
    """Return the clean image that `options` make of a file's bytes; raises SourceError with the reason it is none."""
    decoded = decode(data, max_pixels=options.max_pixels, min_side=options.min_side)
    image = _wanted(decoded.image, options)
    if image is decoded.image:
        return decoded
    return Decoded(image=image, format=decoded.format, notes=(*decoded.notes, "reduced"))


def _wanted(image: Image, options: Options) -> Image:
    """Return `image`, reduced if it is too large; raises SourceError if it is grey or would be too small."""
    if options.grey == "reject" and is_grey(image):
        raise SourceError("greyscale", "the photograph has no colour")
    if options.max_side is None or max(image.shape) <= options.max_side:
        return image
    small = reduced(image, options.max_side)
    if min(small.shape[:2]) < options.min_side:
        raise SourceError("too_small", f"reduced to {small.shape[1]} x {small.shape[0]} a side is too small")
    return small


def _rows(
    source: Mapping[str, Any],
    folder: Path,
    writer: ShardWriter,
    options: Options,
    kept: dict[str, Row],
    lost: frozenset[str],
) -> list[Row]:
    """Return the rows of one source; `kept` holds the first row kept of each source before it, by the source's key."""
    row = {name: source[name] for name in ("uri", "sha256", "bytes", "licence", "author")}
    row |= dict.fromkeys(("reason", "detail", "key", "duplicate_of", "format", "notes", "frames_sha256"), "")
    row |= dict.fromkeys(("width", "height", "offset", "size", "frames_offset", "frames_size", "frames_count"), 0)
    key = key_of(source["sha256"])
    if first := kept.get(key):
        error = SourceError("duplicate", f"the bytes are those of {first['uri']}")
        return [_rejected(row, error) | {"duplicate_of": first["key"]}]
    rows = list[Row]()
    try:
        if key in lost:
            raise SourceError("crash", "the worker died on this file twice")
        if row["uri"].rpartition("/")[2] in RIGHTS_TABLES:
            raise SourceError("rights_table", "it says whose the photographs are")
        if is_footage(source, folder):
            limits = Limits(min_side=options.min_side, max_pixels=options.max_pixels)
            with open_footage(source, folder, limits) as footage:
                rows.extend(_clip_rows(row, footage, writer, options))
        else:
            rows.append(row | _kept(key, photograph(_read(folder, source), options), writer, options))
    except SourceError as error:
        rows.append(_rejected(row, error))
    for found in (row for row in rows if row["status"] == "kept"):
        kept.setdefault(key, found)
    return rows


def _clip_rows(row: Row, footage: Footage, writer: ShardWriter, options: Options) -> Iterator[Row]:
    for clip in clips_of(footage, options.clips):
        own = row | {"uri": f"{row['uri']}#frame={clip.index}"}
        try:
            yield own | _kept_clip(clip_key(row["sha256"], clip.index), clip, footage.format, writer, options)
        except SourceError as error:
            yield _rejected(own, error)


def _rejected(row: Row, error: SourceError) -> Row:
    status = "dropped" if error.reason in UNWANTED else "failed"
    return row | {"status": status, "reason": error.reason, "detail": str(error), "scores": {}}


def _kept_clip(key: str, clip: Clip, name: str, writer: ShardWriter, options: Options) -> Row:
    speed = speed_of(clip, options.clips)
    frames, notes = clip.frames, tuple[str, ...]()
    if _wanted(clip.clean, options).shape != clip.clean.shape:
        assert options.max_side
        frames, notes = np.stack([reduced(frame, options.max_side) for frame in frames]), ("reduced",)
    middle = Decoded(image=frames[len(frames) // 2], format=name, notes=notes)
    row = _kept(key, middle, writer, options, {"frames.png": samples.encode_frames(frames)})
    scores = row["scores"] | {"clip.speed": round(speed, 3)}
    return row | {"frames_count": len(frames), "frames_sha256": frames_sha256(frames), "scores": scores}


def _kept(
    key: str, decoded: Decoded, writer: ShardWriter, options: Options, beside: Mapping[str, bytes] | None = None
) -> Row:
    suffix = f"clean{samples.IMAGE_SUFFIX[options.codec]}"
    placed = writer.add(key, {suffix: samples.encode_image(decoded.image, options.codec), **(beside or {})})
    offset, size = placed.pop(suffix)
    frames = {f"frames_{name}": value for place in placed.values() for name, value in zip(PLACE, place, strict=True)}
    return frames | {
        "status": "kept",
        "key": key,
        "width": decoded.image.shape[1],
        "height": decoded.image.shape[0],
        "format": decoded.format,
        "notes": ",".join(decoded.notes),
        "offset": offset,
        "size": size,
        "scores": {f"clean.{name}": value for name, value in statistics(decoded.image).items()},
    }


def _read(folder: Path, source: Mapping[str, Any]) -> bytes:
    try:
        with path_of(folder, source["uri"]).open("rb") as file:
            data = file.read(source["bytes"] + 1)
    except OSError as error:
        raise SourceError("changed", f"it can no longer be read: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != source["sha256"]:
        raise SourceError("changed", "its bytes are not those that were crawled")
    return data


def reduced(image: Image, max_side: int) -> Image:
    """Return `image`, uint8 (H, W, 3), reduced to the longer side `max_side`, by area in linear light."""
    ratio = max_side / max(image.shape)
    size = (max(1, round(image.shape[1] * ratio)), max(1, round(image.shape[0] * ratio)))
    table = np.rint(light_of(np.arange(256, dtype=np.uint8)) * 65535).astype(np.uint16)
    light = cv2.resize(cv2.LUT(image, table), size, interpolation=cv2.INTER_AREA)  # 16 bits: half of float32's memory
    return srgb_of(light.astype(np.float32) * np.float32(1 / 65535))
