"""Why the sampled rejects were rejected: the score that decided, and the picture while the work folder still has it."""

import glob
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.deciding import Decided, deciding, judges_of
from flows.report_pictures import Picture, Pictures
from storage import samples
from storage.errors import ShardError
from storage.ledger import iter_rows
from storage.records import Image
from storage.shards import read_member

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """One reject as it is shown. key: what `explain` takes. title: of a pair what was asked for, else the file."""

    key: str
    title: str
    status: str
    stage: str
    reason: str
    detail: str
    deciding: Mapping[str, Decided]
    clean: Picture | None
    degraded: Picture | None
    source: Row


def rejects(
    root: Path, rows: Sequence[Row], settings: Mapping[str, Any], typical: Mapping[str, float], pictures: Pictures
) -> list[Reject]:
    """Return how the rows are shown. settings: the published ones. typical: the median of each score of kept rows."""
    judges = judges_of(settings)
    return [_reject(root, row, deciding(row, judges, typical), pictures) for row in rows]


def _reject(root: Path, row: Row, scores: Mapping[str, Decided], pictures: Pictures) -> Reject:
    is_pair = "recipe" in row
    found = _pair(root, row) if is_pair else _photograph(root, row)
    clean, degraded, source = None, None, row
    if found:
        first, second, source = found
        clean, degraded = (pictures.one(first), None) if second is None else pictures.pair(first, second)
    return Reject(
        key=row["key"] or row["sha256"] or row["uri"],
        title=f"{row['name']}, level {row['level']}" if is_pair else row["uri"],
        status=row["status"],
        stage=row["stage"],
        reason=row["reason"],
        detail=row["detail"] or "",
        deciding=dict(sorted(scores.items())),
        clean=clean,
        degraded=degraded,
        source=source,
    )


def _photograph(root: Path, row: Row) -> tuple[Image, None, Row] | None:
    image = _clean_image(root, row["bucket"], row["key"]) if row["key"] else None
    return None if image is None else (image, None, row)


def _pair(root: Path, row: Row) -> tuple[Image, Image, Row] | None:
    """Return both sides and the source of a pair that was made with the recipe in the ledger, if still there."""
    recipe = json.loads(row["recipe"]) if row["recipe"] else None
    for table in _units(root, "degrade", f"b{row['bucket']:06d}-{row['name']}"):
        for made in _matching(table, "key", row["key"]):
            pair = json.loads(made["pair"]) if made["pair"] else {}
            if recipe and pair.get("recipe") == recipe:
                return _both(root, table, row, json.loads(made["members"]), pair["source"])
    return None


def _both(
    root: Path, table: Path, row: Row, members: Mapping[str, tuple[int, int]], source: Row
) -> tuple[Image, Image, Row] | None:
    sides = {suffix.partition(".")[0]: place for suffix, place in members.items()}
    tar = table.with_suffix(".tar")
    degraded = _member(tar, *sides["degraded"]) if "degraded" in sides else None
    clean = _member(tar, *sides["clean"]) if "clean" in sides else _clean_image(root, row["bucket"], row["source_key"])
    return None if clean is None or degraded is None or clean.shape != degraded.shape else (clean, degraded, source)


def _clean_image(root: Path, bucket: int, key: str) -> Image | None:
    for table in _units(root, "clean", f"b{bucket:06d}"):
        for row in _matching(table, "key", key):
            if row.get("size"):
                return _member(table.with_suffix(".tar"), row["offset"], row["size"])
    return None


def _units(root: Path, stage: str, bucket: str) -> list[Path]:
    return sorted((root / ".work" / stage).glob(f"{glob.escape(bucket)}-{'[0-9a-f]' * 16}.parquet"))


def _matching(table: Path, column: str, value: str) -> Iterator[Row]:
    try:
        yield from (row for row in iter_rows(table) if row[column] == value)
    except ShardError:  # half-deleted work files: the reject is shown without its picture
        return


def _member(tar: Path, offset: int, size: int) -> Image | None:
    try:
        return samples.decode_image(read_member(tar, offset, size))
    except (OSError, ShardError):
        return None
