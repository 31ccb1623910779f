"""From scores to shards: judge every pair once more, write the ledger, and say which pair goes into which shard.

Works through one unit at a time and spools kept pairs to files, one for each slice of the hash, so that memory does not
grow with the dataset.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

from filters._contract import Filter
from flows.pipeline import PlannedUnit
from storage.canonical import decode, digest, encode
from storage.files import publish_bytes
from storage.ledger import PAIRS, read_table, write_table
from storage.records import Pair, ShardReport
from tasks import pack
from tasks.judge import first_reason, judge
from tasks.measure import read_scores
from tasks.shuffle import Spool

Row = dict[str, Any]
Place = tuple[str, int, int]

BUCKETS_PER_PART = 4  # of the ledger of pairs: some thousands of rows, some megabytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the verdicts come to: shard name -> plan table and digest, the ledger's parts, and counts."""

    shards: Sequence[tuple[str, Path, str]]
    ledger: Sequence[Path]
    kept: int
    rejected: Mapping[str, int]


def judge_pairs(
    units: Sequence[PlannedUnit],
    cleaned: Mapping[int, ShardReport],
    surplus: Sequence[tuple[int, Row]],
    *,
    filters: Mapping[str, Filter],
    bits: Mapping[str, int],
    work: Path,
) -> Judged:
    """Judge the pairs of all units and return what is to be packed.

    cleaned: the clean stage's report of each bucket. surplus: planned rows left out for their quota, with their bucket.
    work: scratch folder; its subfolder `verdicts` is made anew.
    """
    folder = work / "verdicts"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    spool = Spool(folder, bits)
    parts, counts = list[int](), Counter[str]()
    over = {bucket: [row for _, row in rows] for bucket, rows in groupby(surplus, key=lambda item: item[0])}
    for part, group in groupby(sorted(units, key=lambda unit: (unit.bucket, unit.name)), key=_part_of):
        rows = list(_part_rows(list(group), cleaned, over, filters, spool))
        counts.update(row["reason"] or "kept" for row in rows)
        publish_bytes(folder / f"part-{part}.json", encode(rows))
        parts.append(part)
    spool.flush()
    names = spool.names()
    ledger = [_write_part(work, folder, part, names) for part in parts]
    shards = [plan_shard(work, name, spool.read(slot)) for slot, name in names.items()]
    kept = counts.pop("kept", 0)
    return Judged(shards=shards, ledger=ledger, kept=kept, rejected=dict(counts))


def _part_of(unit: PlannedUnit) -> int:
    return unit.bucket // BUCKETS_PER_PART


def _part_rows(
    units: Sequence[PlannedUnit],
    cleaned: Mapping[int, ShardReport],
    over: Mapping[int, Sequence[Row]],
    filters: Mapping[str, Filter],
    spool: Spool,
) -> Iterator[Row]:
    @lru_cache(maxsize=1)
    def clean_rows(bucket: int) -> dict[str, Row]:
        rows = read_table(Path(cleaned[bucket].shard.output + ".parquet"))
        return {row["key"]: row for row in rows if row["status"] == "kept"}

    for unit in units:
        made = {row["key"]: row for row in read_table(Path(unit.pairs.shard.output + ".parquet"))}
        measured = read_scores([report.shard.output for report in unit.scores])
        for planned in read_table(unit.plan):
            row = _judged(unit, planned, made[planned["key"]], measured.get(planned["key"]), filters)
            if row["status"] == "kept":
                clean = clean_rows(unit.bucket)[planned["source_key"]]
                split, index = spool.add(row["split"], _to_pack(unit, made[row["key"]], row, clean, cleaned))
                row["shard"] = f"{split}/{index}"
            yield row
    for bucket in sorted({unit.bucket for unit in units}):
        for planned in over.get(bucket, ()):
            yield {**_blank(bucket, planned), "status": "dropped", "stage": "mixture", "reason": "over_quota"}


def _blank(bucket: int, planned: Row) -> Row:
    return {
        "key": planned["key"],
        "source_key": planned["source_key"],
        "source_sha256": "",
        "bucket": bucket,
        "split": planned["split"],
        "name": planned["name"],
        "degradations": [],
        "severity": planned["severity"],
        "level": planned["level"],
        "status": "",
        "stage": "",
        "reason": "",
        "detail": "",
        "recipe": "",
        "scores": {},
        "shard": "",
    }


def _judged(unit: PlannedUnit, planned: Row, made: Row, measured: Row | None, filters: Mapping[str, Filter]) -> Row:
    row = _blank(unit.bucket, planned)
    if made["status"] != "made":
        return {**row, "status": "failed", "stage": "degrade", "reason": made["reason"], "detail": made["detail"]}
    pair = decode(Pair, made["pair"].encode())
    row["source_sha256"] = pair.source.sha256
    row["degradations"] = [step.degradation for step in pair.recipe.steps]
    row["recipe"] = encode(pair.recipe).decode()
    if measured is None or measured["reason"]:
        reason = measured["reason"] if measured else "not_measured"
        return {**row, "status": "failed", "stage": "measure", "reason": reason}
    row["scores"] = measured["scores"]
    by, reason = first_reason(judge(filters, measured["scores"], pair.recipe))
    return {**row, "status": "dropped" if reason else "kept", "stage": by, "reason": reason}


def _to_pack(unit: PlannedUnit, made: Row, row: Row, clean: Row, cleaned: Mapping[int, ShardReport]) -> Row:
    tar, clean_tar = (f"{report.shard.output}.tar" for report in (unit.pairs, cleaned[unit.bucket]))
    own = {suffix: (tar, *place) for suffix, place in json.loads(made["members"]).items()}
    pixels = {suffix: place for suffix, place in own.items() if suffix.startswith(("clean.", "degraded."))}
    beside = {suffix: place for suffix, place in own.items() if suffix not in pixels}
    extension = next(iter(own)).rsplit(".", 1)[1]
    pixels.setdefault(f"clean.{extension}", (clean_tar, clean["offset"], clean["size"]))
    read = {name for step in json.loads(row["recipe"])["steps"] for name in step["inputs"]}
    beside.update(_annotation_places(unit, row["source_key"], read))
    if "frames" in read:
        beside["frames.png"] = (clean_tar, clean["frames_offset"], clean["frames_size"])
    pair = {**json.loads(made["pair"]), "scores": row["scores"]}
    return {"key": row["key"], "pair": encode(pair).decode(), "pixels": pixels, "annotations": beside}


def _annotation_places(unit: PlannedUnit, key: str, read: set[str]) -> dict[str, Place]:
    kinds = [kind for kind in ("depth", "segments") if kind in read]
    if not kinds:
        return {}
    stem = unit.pairs.shard.inputs[2]
    row = _annotation_rows(stem)[key]
    return {f"{kind}.png": (stem + ".tar", row[f"{kind}_offset"], row[f"{kind}_size"]) for kind in kinds}


@lru_cache(maxsize=2)
def _annotation_rows(stem: str) -> dict[str, Row]:
    return {row["key"]: row for row in read_table(Path(stem + ".parquet"))}


def _write_part(work: Path, folder: Path, part: int, names: Mapping[tuple[str, int], str]) -> Path:
    labels = {f"{split}/{index}": name for (split, index), name in names.items()}
    rows = json.loads((folder / f"part-{part}.json").read_bytes())
    for row in rows:
        row["shard"] = labels.get(row["shard"], "")
    path = work / "publish" / "ledger" / f"pairs-{part:06d}.parquet"
    write_table(path, sorted(rows, key=lambda row: str(row["key"])), PAIRS)
    return path


def plan_shard(work: Path, name: str, rows: Sequence[Row]) -> tuple[str, Path, str]:
    """Write the plan of a shard and return its name, the table and the digest of what the shard will hold."""
    content = digest([(row["pair"], sorted(row["pixels"]), sorted(row["annotations"])) for row in rows])
    path = work / "shuffle" / f"{name}-{content[:16]}.parquet"
    table = [
        {**row, "pixels": json.dumps(row["pixels"]), "annotations": json.dumps(row["annotations"])} for row in rows
    ]
    write_table(path, table, pack.PLAN)
    return name, path, content
