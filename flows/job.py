"""One whole build, from the lease to the manifest, whoever runs the units.

The flow runs them in Prefect waves on Ray; `pairforge judge` and the tests run them in their own process. The result is
the same, byte for byte.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from flows.collection import kept_photographs
from flows.pipeline import Pipeline
from flows.report import write_report
from flows.settings import Settings
from flows.staging import code, put_in_place, stage_version
from flows.verdicts import judge_pairs
from flows.work import Observer, RunUnits
from storage.canonical import digest, encode
from storage.files import publish_bytes, remove_asides
from storage.ledger import IMAGES, read_table, write_table
from storage.manifest import read_manifest
from storage.records import Manifest, ShardReport

Row = dict[str, Any]

BUCKETS_PER_PART = 16  # of the ledger of images: about a thousand rows, some megabytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a build came to. images and pairs: counts by "kept" and by reason of those that were not."""

    root: Path
    manifest: Manifest
    images: Mapping[str, int]
    pairs: Mapping[str, int]
    unchanged: bool


def finished(settings: Settings) -> Manifest | None:
    """Return the manifest if these settings, files and code are what the current version was built from."""
    root = Path(settings.output)
    note = root / ".work" / "finished.json"
    if not note.exists() or not (root / "manifest.json").exists():
        return None
    manifest = read_manifest(root)
    now = {**_state(Pipeline(settings, lambda stage, units: None, _Nobody())), "version": manifest.dataset_version}
    return manifest if json.loads(note.read_bytes()) == now else None


def run_job(settings: Settings, run_units: RunUnits, observer: Observer, *, version: int | None = None) -> Outcome:
    """Build the dataset of `settings`; the caller holds the lease. Stages that are committed are not done again.

    version: the dataset version this must come to; SettingsError, before anything is published, if it is another.
    """
    root = Path(settings.output)
    remove_asides(root)
    pipeline = Pipeline(settings, run_units, observer)
    state = _state(pipeline)
    _ = pipeline.models  # weights that are missing are told before anything is begun
    pipeline.photographs.fix_buckets()
    tables, unreadable = pipeline.photographs.by_bucket(pipeline.photographs.crawl())
    cleaned = pipeline.clean(tables)
    scenes = pipeline.judge_images(cleaned, pipeline.measure_images(cleaned))
    shutil.rmtree(pipeline.work / "publish", ignore_errors=True)
    made = (_collect if settings.source.shows else _make_pairs)(pipeline, cleaned, scenes)
    images = _write_images(pipeline.work, unreadable, cleaned, scenes, made.annotated)
    staged = stage_version(
        settings,
        made.packed,
        [*made.ledger, *images.parts],
        images.licences,
        layout={"buckets": pipeline.photographs.buckets, **made.layout},
        models=pipeline.models,
        photographs=made.photographs,
    )
    changed = put_in_place(root, staged, expected=version)
    write_report(root)
    note_finished(settings, staged.manifest.dataset_version, state)
    return Outcome(root=root, manifest=staged.manifest, images=images.counts, pairs=made.pairs, unchanged=not changed)


def note_finished(settings: Settings, version: int, state: Mapping[str, str] | None = None) -> None:
    """Write down what the current version was made from, so that the same command again starts nothing.

    state: what it was when the build began; files that came since then are news to the next build.
    """
    made_from = state or _state(Pipeline(settings, lambda stage, units: None, _Nobody()))
    note = Path(settings.output) / ".work" / "finished.json"
    publish_bytes(note, encode({**made_from, "version": version}), kind="commit")


def _state(pipeline: Pipeline) -> dict[str, str]:
    settings, models = pipeline.settings.digest(), digest(pipeline.models)
    return {"settings": settings, "code": code(), "files": pipeline.photographs.digest(), "models": models}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """What was made of the scenes. packed: stems of shards. ledger: its parts. pairs: counts, as in Outcome."""

    pairs: Mapping[str, int]
    packed: Sequence[str] = ()
    ledger: Sequence[Path] = ()
    layout: Mapping[str, int] = field(default_factory=dict)
    annotated: Mapping[int, ShardReport] = field(default_factory=dict)
    photographs: Mapping[str, Path] = field(default_factory=dict)


def _make_pairs(pipeline: Pipeline, cleaned: Mapping[int, ShardReport], scenes: Mapping[int, Path]) -> _Made:
    annotated = pipeline.annotate(cleaned, scenes)
    plans, totals = pipeline.plan(scenes, annotated)
    units = pipeline.measure_pairs(plans, pipeline.degrade(plans, cleaned, annotated), cleaned)
    filters, bits = pipeline.settings.filters_of("pair"), pipeline.bits(totals)
    judged = judge_pairs(units, cleaned, pipeline.surplus, filters=filters, bits=bits, work=pipeline.work)
    return _Made(
        pairs={"kept": judged.kept, **judged.rejected},
        packed=[report.shard.output for report in pipeline.pack(judged.shards)],
        ledger=judged.ledger,
        layout={f"{split}_bits": number for split, number in bits.items()},
        annotated=annotated,
    )


def _collect(pipeline: Pipeline, cleaned: Mapping[int, ShardReport], scenes: Mapping[int, Path]) -> _Made:
    settings = pipeline.settings
    shows, codec, work = settings.source.shows, settings.pack.codec, pipeline.work / "publish"
    found = kept_photographs(cleaned, scenes, shows=shows, codec=codec, work=work)
    return _Made(pairs={"kept": 0}, photographs=found)


class _Nobody:
    def stage(self, stage: str, *, done: int, total: int, items: int) -> None:
        """Look away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Images:
    parts: Sequence[Path]
    counts: Mapping[str, int]
    licences: Mapping[str, int]


def _write_images(
    work: Path,
    unreadable: Path,
    cleaned: Mapping[int, ShardReport],
    scenes: Mapping[int, Path],
    annotated: Mapping[int, ShardReport],
) -> _Images:
    counts, licences, parts = Counter[str](), Counter[str](), list[Path]()
    for part, buckets in groupby(sorted(cleaned), key=lambda bucket: bucket // BUCKETS_PER_PART):
        rows = [
            row
            for bucket in buckets
            for row in _image_rows(bucket, cleaned[bucket], scenes[bucket], annotated.get(bucket))
        ]
        licences.update(row["licence"] for row in rows if row["status"] == "kept")
        parts.append(_write_image_part(work, f"images-{part:06d}", rows, counts))
    failed = [{**_blank_image(), **row, "stage": "crawl", "bucket": -1} for row in read_table(unreadable)]
    if failed:
        parts.append(_write_image_part(work, "images-unreadable", failed, counts))
    return _Images(parts=parts, counts=counts, licences=licences)


def _write_image_part(work: Path, name: str, rows: Sequence[Row], counts: Counter[str]) -> Path:
    counts.update("kept" if row["status"] == "kept" else row["reason"] for row in rows)
    path = work / "publish" / "ledger" / f"{name}.parquet"
    columns = set(IMAGES.names)
    picked = [{name: row.get(name) for name in columns} for row in rows]
    write_table(path, sorted(picked, key=lambda row: str(row["uri"])), IMAGES)
    return path


def _image_rows(bucket: int, cleaned: ShardReport, scenes: Path, annotated: ShardReport | None) -> Iterator[Row]:
    judged = {row["key"]: row for row in read_table(scenes)}
    made = read_table(Path(annotated.shard.output + ".parquet")) if annotated else []
    bare = {row["key"]: row["reason"] for row in made if row["reason"]}
    for row in read_table(Path(cleaned.shard.output + ".parquet")):
        full = {**_blank_image(), **row, "bucket": bucket, "stage": row.get("stage") or "clean"}
        scene = judged.get(row["key"]) if row["status"] == "kept" else None
        if scene is None:
            yield full
            continue
        dropped = {} if scene["keep"] else {"status": "dropped", "stage": scene["filter"], "reason": scene["reason"]}
        if row["key"] in bare:
            dropped = {"status": "failed", "stage": "annotate", "reason": bare[row["key"]]}
        kept = {"split": scene["split"], "duplicate_of": scene["duplicate_of"], "scores": scene["scores"]}
        yield {**full, **kept, **dropped}


def _blank_image() -> Row:
    texts = dict.fromkeys(("detail", "key", "format", "split", "duplicate_of", "licence", "author"), "")
    return {**texts, "bytes": 0, "width": 0, "height": 0, "scores": {}}
