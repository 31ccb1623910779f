"""A whole small dataset, written in a second with the functions of `storage`: for tests of what reads a dataset.

Its pictures are drawn here, not degraded by `degradations`, so it is no subject for replay; everything else is as a
build publishes it. Every hash holds, every ledger adds up.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from storage import samples
from storage.canonical import digest, encode
from storage.files import publish_bytes, sha256_of
from storage.ledger import IMAGES, PAIRS, write_table
from storage.manifest import write_manifest
from storage.records import FORMAT_VERSION, Image, Manifest, Pair, PublishedFile, Recipe, Source, Step, level
from storage.shards import ShardWriter, dali_index
from tasks import degrade

Row = dict[str, Any]

NAMES = ("blur", "haze", "noise")
HOSTILE = "<script>alert('x')</script>\"&quot;\n\u202egpj.exe ]]>-->.jpg"
SPLITS = ("train", "validation")
CLEAN = pa.schema(
    [("key", pa.string()), ("status", pa.string()), ("offset", pa.int64()), ("size", pa.int64())]
)  # of what the clean stage writes, the columns that the work folder is read by


@dataclass(frozen=True, slots=True, kw_only=True)
class Photograph:
    """One clean image and where it comes from."""

    key: str
    image: Image
    source: Source


def make_dataset(
    root: Path,
    *,
    names: Sequence[str] = NAMES,
    photographs: int = 4,
    shape: tuple[int, int] = (96, 144),
    uri: str = "photographs/{number}.jpg",
    licence: str = "CC0-1.0",
    images: Sequence[Image] = (),
) -> Path:
    """Write a dataset with a pair of every name, level and photograph at `root`, its work folder beside it.

    One pair of each name is dropped as too weak, one fails, one is over its quota; besides the kept photographs one is
    dropped as blurred, one as too small and one cannot be read. images: used instead of drawn ones.
    """
    known = [_photograph(number, shape, uri, licence, images) for number in range(photographs)]
    blurred = _photograph(photographs, shape, uri, licence, ())
    rows = [row for place, name in enumerate(names) for row in _pair_rows(name, known, 10 * place)]
    _write_clean(root, [*known, blurred])
    units = [_write_unit(root, name, [row for row in rows if row["name"] == name], known) for name in names]
    kept = [row for row in rows if row["status"] == "kept"]
    members = {key: found for unit in units for key, found in unit.items()}
    shards = [_write_shards(root, split, [row for row in kept if row["split"] == split], members) for split in SPLITS]
    write_table(root / "ledger" / "pairs-000000.parquet", [_ledger_row(row) for row in rows], PAIRS)
    write_table(root / "ledger" / "images-000000.parquet", _image_rows(known, blurred, uri, licence), IMAGES)
    publish_bytes(root / "settings.json", json.dumps(settings()).encode())
    publish_bytes(root / ".work" / "timings.json", json.dumps(timings(len(rows))).encode())
    _write_manifest(root, [entry for both in shards for entry in both])
    return root


def settings() -> Row:
    """Return the settings the dataset says it was made with."""
    return {
        "seed": 7,
        "dataset": {"name": "small", "images_per_bucket": 64},
        "filters": {"strength": {"psnr": [6.0, 45.0], "measured": False}, "clean_quality": {}, "alignment": False},
    }


def timings(pairs: int) -> Row:
    """Return what `.work/timings.json` holds."""
    seconds = {"crawl": 0.4, "clean": 2.5, "annotate": 3.5, "degrade": 41.0, "measure": 17.25, "pack": 1.5}
    return {stage: {"seconds": value, "items": pairs} for stage, value in seconds.items()}


def drawn(number: int, shape: tuple[int, int]) -> Image:
    """Return a picture with a sky, hills and texture; another one for each number."""
    rng = np.random.default_rng(number)
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]] / np.reshape(shape, (2, 1, 1))
    ridge = 0.45 + 0.12 * np.sin(7 * columns + number) + 0.06 * np.sin(19 * columns + 2 * number)
    ground = cv2.GaussianBlur(rng.normal(0, 1, shape), (0, 0), 1.2)[..., None]
    colours = rng.uniform(0.25, 0.75, (2, 3))
    sky = colours[0] * 0.5 + (1 - rows[..., None]) * 0.5
    land = colours[1] * (0.35 + 0.5 * rows[..., None]) + 0.25 * ground
    mixed = np.where((rows > ridge)[..., None], land, sky)
    return np.asarray(np.clip(255 * mixed, 0, 255), dtype=np.uint8)


def degraded(image: Image, name: str, severity: float, seed: int) -> Image:
    """Return `image` blurred, veiled or with noise, whatever `name` most resembles; stronger with severity."""
    if name == "blur":
        return np.asarray(cv2.GaussianBlur(image, (0, 0), 0.3 + 4 * severity), dtype=np.uint8)
    if name == "noise":
        noise = np.random.default_rng(seed).normal(0, 60 * severity, image.shape)
        return np.asarray(np.clip(image + noise, 0, 255), dtype=np.uint8)
    return np.asarray(image * (1 - 0.8 * severity) + 170 * severity, dtype=np.uint8)


def _photograph(number: int, shape: tuple[int, int], uri: str, licence: str, images: Sequence[Image]) -> Photograph:
    image = images[number % len(images)] if images else drawn(number, shape)
    file = hashlib.sha256(f"file {number}".encode()).hexdigest()
    source = Source(
        uri=uri.format(number=number),
        licence=licence,
        author=f"author {number}",
        sha256=file,
        width=image.shape[1],
        height=image.shape[0],
    )
    return Photograph(key=samples.pixels_sha256(image)[:24], image=image, source=source)


def _pair_rows(name: str, known: Sequence[Photograph], variant: int) -> list[Row]:
    """Return the rows of all levels, and three that were lost; the keys of a name begin at `variant`."""
    rows = [_pair_row(name, photograph, number, variant) for photograph in known for number in range(1, 6)]
    fates = (("dropped", "strength", "too_weak"), ("failed", "degrade", "crash"), ("dropped", "mixture", "over_quota"))
    lost = [
        rows[0] | {"key": f"{known[0].key}-{variant + at:03d}", "status": status, "stage": stage, "reason": reason}
        for at, (status, stage, reason) in enumerate(fates, start=6)
    ]
    lost[0]["scores"] = {"strength.psnr": 61.0, "strength.ssim": 0.98, "strength.area": 0.5}
    for row in lost[1:]:
        row.update(scores={}, recipe=None)
    return [*rows, *lost]


def _pair_row(name: str, photograph: Photograph, number: int, variant: int) -> Row:
    severity = 0.2 * number - 0.1
    key = f"{photograph.key}-{variant + number:03d}"
    step = Step(degradation=name, params={"amount": severity, "seed": number}, inputs={})
    content = {"name": name, "severity": severity, "steps": [step]}
    bad = degraded(photograph.image, name, severity, number)
    return {
        "key": key,
        "photograph": photograph,
        "degraded": bad,
        "name": name,
        "severity": severity,
        "level": level(severity),
        "split": SPLITS[int(photograph.key[:2], 16) % 4 == 0],
        "status": "kept",
        "stage": "",
        "reason": "",
        "recipe": Recipe(name=name, severity=severity, steps=(step,), digest=digest(content)),
        "scores": {
            "strength.psnr": float(cv2.PSNR(photograph.image, bad)),
            "strength.ssim": 1 - severity / 2,
            "strength.area": 0.5,
            "alignment.shift_px": severity / 10,
        },
    }


def _pair(row: Row) -> Pair:
    photograph: Photograph = row["photograph"]
    return Pair(
        key=row["key"],
        clean=samples.pixels_sha256(photograph.image),
        degraded=samples.pixels_sha256(row["degraded"]),
        width=photograph.image.shape[1],
        height=photograph.image.shape[0],
        recipe=row["recipe"],
        source=photograph.source,
        instruction=f"Remove the {row['name']}.",
        caption="",
        origin="synthetic",
    )


def _ledger_row(row: Row) -> Row:
    photograph: Photograph = row["photograph"]
    shown = {name: row[name] for name in ("key", "split", "name", "severity", "level", "status", "stage", "reason")}
    return shown | {
        "source_key": photograph.key,
        "source_sha256": photograph.source.sha256,
        "bucket": 0,
        "degradations": [row["name"]] if row["recipe"] else [],
        "detail": "the worker died on this pair twice" if row["reason"] == "crash" else "",
        "recipe": encode(row["recipe"]).decode() if row["recipe"] else "",
        "scores": row["scores"],
        "shard": f"{row['split']}-000000" if row["status"] == "kept" else "",
    }


def _image_rows(known: Sequence[Photograph], blurred: Photograph, uri: str, licence: str) -> list[Row]:
    texts = dict.fromkeys(("detail", "key", "format", "split", "duplicate_of", "author"), "")
    blank = {**texts, "licence": licence, "bucket": 0, "bytes": 1000, "width": 0, "height": 0, "scores": {}}
    kept = [_image_row(blank, photograph) for photograph in known]
    soft = _image_row(blank, blurred) | {"status": "dropped", "stage": "clean_quality", "reason": "blurred"}
    soft["scores"] = {**kept[0]["scores"], "clean_quality.edge_width": 9.0}
    lost = {"small": ("dropped", "clean", "too_small"), "gone": ("failed", "crawl", "unreadable")}
    others = [
        {**blank, "uri": uri.format(number=name), "sha256": digest(name) if stage == "clean" else ""}
        | {"status": status, "stage": stage, "reason": reason, "detail": f"{name}, says {uri.format(number=name)}"}
        for name, (status, stage, reason) in lost.items()
    ]
    return sorted([*kept, soft, *others], key=lambda row: str(row["uri"]))


def _image_row(blank: Row, photograph: Photograph) -> Row:
    source = photograph.source
    named = {name: getattr(source, name) for name in ("uri", "sha256", "licence", "author", "width", "height")}
    scores = {
        "resolution.width": float(source.width),
        "clean_quality.edge_width": 1 + int(photograph.key[:2], 16) / 256,
        "duplicate.phash_high": float(int(photograph.key[:8], 16)),
    }
    row = blank | named | {"key": photograph.key, "status": "kept", "stage": "clean", "reason": "", "format": "jpeg"}
    return row | {"split": "train", "scores": scores}


def _write_clean(root: Path, known: Sequence[Photograph]) -> None:
    stem, rows = root / ".work" / "clean" / f"b000000-{'0' * 16}", []
    with ShardWriter(stem.with_suffix(".tar")) as writer:
        for photograph in known:
            placed = writer.add(photograph.key, {"webp": samples.encode_image(photograph.image)})
            offset, size = placed["webp"]
            rows.append({"key": photograph.key, "status": "kept", "offset": offset, "size": size})
    write_table(stem.with_suffix(".parquet"), rows, CLEAN)


def _write_unit(root: Path, name: str, rows: Sequence[Row], known: Sequence[Photograph]) -> dict[str, dict[str, bytes]]:
    """Write what the degrade stage leaves; return the members of each pair that was made, by key."""
    clean = {photograph.key: samples.encode_image(photograph.image) for photograph in known}
    stem, table, found = root / ".work" / "degrade" / f"b000000-{name}-{'1' * 16}", [], {}
    with ShardWriter(stem.with_suffix(".tar")) as writer:
        for row in rows:
            blank = {
                "key": row["key"],
                "status": "failed",
                "reason": "crash",
                "detail": "",
                "pair": "",
                "members": "{}",
            }
            if row["recipe"] is None:
                table.append(blank)
                continue
            bad = samples.encode_image(row["degraded"])
            places = json.dumps(writer.add(row["key"], {"degraded.webp": bad}), sort_keys=True)
            made = {"status": "made", "reason": "", "pair": encode(_pair(row)).decode(), "members": places}
            table.append(blank | made)
            found[row["key"]] = {"clean.webp": clean[row["photograph"].key], "degraded.webp": bad}
    write_table(stem.with_suffix(".parquet"), table, degrade.SCHEMA)
    return found


def _write_shards(
    root: Path, split: str, rows: Sequence[Row], members: Mapping[str, Mapping[str, bytes]]
) -> tuple[PublishedFile, PublishedFile]:
    shard, beside = (root / folder / f"{split}-000000.tar" for folder in ("shards", "annotations"))
    with ShardWriter(shard) as pixels, ShardWriter(beside) as annotations:
        for row in sorted(rows, key=lambda row: digest(row["key"])):
            record = json.loads(encode(_pair(row))) | {"scores": row["scores"]}
            pixels.add(row["key"], {**members[row["key"]], "json": encode(record)})
            annotations.add(row["key"], {"json": encode({row["name"]: {}})})
    counts = Counter(row["name"] for row in rows)
    publish_bytes(shard.with_suffix(".idx"), dali_index(pixels))
    publish_bytes(beside.with_suffix(".idx"), dali_index(annotations))
    return _entry(root, pixels, len(rows), counts), _entry(root, annotations, len(rows), {})


def _entry(root: Path, writer: ShardWriter, pairs: int, counts: Mapping[str, int]) -> PublishedFile:
    name = writer.path.relative_to(root).as_posix()
    return PublishedFile(name=name, pairs=pairs, bytes=writer.bytes, sha256=writer.sha256, counts=counts)


def _write_manifest(root: Path, tars: Sequence[PublishedFile]) -> None:
    plain = [
        *sorted((root / "ledger").glob("*.parquet")),
        *sorted(root.glob("*/*.idx")),
        root / "settings.json",
    ]
    files = [
        PublishedFile(
            name=path.relative_to(root).as_posix(),
            pairs=0,
            bytes=path.stat().st_size,
            sha256=sha256_of(path),
            counts={},
        )
        for path in plain
    ]
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        dataset_version=1,
        settings_digest=digest(settings()),
        code_version=digest("code"),
        shards=tuple(entry for entry in tars if entry.name.startswith("shards/")),
        files=tuple(sorted([*(entry for entry in tars if entry.name.startswith("annotations/")), *files], key=_name)),
        layout={"buckets": 1},
    )
    write_manifest(root, manifest)


def _name(entry: PublishedFile) -> str:
    return entry.name
