"""The main job without an orchestrator: which work shards there are, what they read, and the exchanges between them.

Each map stage is a list of units whose commit keys hash what they depend on; units that are committed are left alone,
the rest is handed to `run_units` (Prefect waves on Ray, or this process). Every exchange reads ledgers and writes small
tables named by their content, so a table that did not change redoes nothing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

import degradations
from degradations.pairs.coupled import steps_of
from filters._contract import Filter
from filters.duplicate import Duplicate
from filters.strength import Strength
from flows.measuring import Measured, Measuring, Target
from flows.photographs import Photographs
from flows.settings import Settings
from flows.work import Observer, RunUnits, Units
from storage.canonical import digest
from storage.files import sha256_of
from storage.ledger import SCORES, read_table
from storage.records import ShardReport
from tasks import degrade, measure, mixture
from tasks.deduplicate import group_alike, identity_of
from tasks.degrade import Options as DegradeOptions
from tasks.judge import first_reason, judge
from tasks.shuffle import shard_bits
from tasks.split import split_by_group, with_siblings

Row = dict[str, Any]

SCENES = pa.schema(
    [
        ("key", pa.string()),
        ("keep", pa.bool_()),
        ("split", pa.string()),
        ("group", pa.string()),
        ("filter", pa.string()),
        ("reason", pa.string()),
        ("duplicate_of", pa.string()),
        ("scores", SCORES),
    ]
)
PLAN = pa.schema(
    [
        ("key", pa.string()),
        ("source_key", pa.string()),
        ("split", pa.string()),
        ("name", pa.string()),
        ("severity", pa.float64()),
        ("level", pa.int8()),
        ("seed", pa.int64()),
        ("overlay", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedUnit:
    """One degrade unit: the pairs of one name in one bucket, where their plan stands and what they were made from.

    scores: the passes that measured them: filters without models, those with, and those that see only survivors.
    """

    bucket: int
    name: str
    plan: Path
    pairs: ShardReport
    scores: tuple[ShardReport, ...]


class Pipeline:
    """The stages of one build, in order; each method returns what the next one needs."""

    def __init__(self, settings: Settings, run_units: RunUnits, observer: Observer) -> None:
        self.settings, self.root = settings, Path(settings.output)
        self._units = Units(settings, run_units, observer)
        self.photographs = Photographs(self._units)
        self._measuring = Measuring(self._units)
        self.work = self._units.folder
        self.surplus: list[tuple[int, Row]] = []  # planned pairs that their quota leaves out, with their bucket

    # -- scenes -----------------------------------------------------------------------------------------------------

    def clean(self, tables: Mapping[int, Path]) -> dict[int, ShardReport]:
        """Decode, orient, convert and store the photographs of every bucket."""
        options = self.settings.clean_options()
        folder = self.settings.source.folder
        units = [
            self._units.make("clean", _bucket_name(bucket), options, (folder, str(table)), [table.stem])
            for bucket, table in tables.items()
        ]
        return dict(zip(tables, self._units.run("clean", units), strict=True))

    def measure_images(self, cleaned: Mapping[int, ShardReport]) -> dict[int, Measured]:
        """Measure every clean image once."""
        targets = [
            Target(f"{_bucket_name(bucket)}-images", (report.shard.output,), [report.sha256])
            for bucket, report in cleaned.items()
        ]
        measured = dict(zip(cleaned, self._measuring.all("image", targets), strict=True))
        if not self._measuring.last("image"):
            return measured
        scenes = self.judge_images(cleaned, measured)
        kept = [_kept(scenes[bucket]) for bucket in cleaned]
        return dict(zip(cleaned, self._measuring.survivors("image", targets, measured.values(), kept), strict=True))

    def judge_images(self, cleaned: Mapping[int, ShardReport], measured: Mapping[int, Measured]) -> dict[int, Path]:
        """Group photographs that show the same, split the groups, judge every image; one table of scenes a bucket."""
        duplicate = self.settings.filters_of("image").get("duplicate")
        embedded = isinstance(duplicate, Duplicate) and duplicate.similarity is not None
        found = [
            identity_of(row, embedded=embedded)
            for bucket in cleaned
            for row in _scored(cleaned[bucket], measured[bucket])
        ]
        groups = self._groups(found)
        sources = {row["key"]: row["sha256"] for row in found}
        families = with_siblings({key: first for key, (first, _) in groups.items()}, sources)
        splits = split_by_group(families, fraction=self.settings.mixture.validation)
        filters = self.settings.filters_of("image")
        tables = {}
        for bucket in cleaned:  # read again: the rows of all buckets at once are what memory would grow with
            rows = [
                _scene_row(row, groups[row["key"]], families[row["key"]], splits[row["key"]], filters)
                for row in _scored(cleaned[bucket], measured[bucket])
            ]
            tables[bucket] = self._units.table(f"scenes/{_bucket_name(bucket)}", rows, SCENES)
        return tables

    def annotate(self, cleaned: Mapping[int, ShardReport], scenes: Mapping[int, Path]) -> dict[int, ShardReport]:
        """Make depth and segments of the scenes that were kept."""
        units = [
            self._units.make(
                "annotate",
                _bucket_name(bucket),
                self.settings.annotate,
                (report.shard.output, str(scenes[bucket])),
                [report.sha256, digest(_kept(scenes[bucket]))],
                actor=True,
                models=self._units.models_of(["annotate"]),
            )
            for bucket, report in cleaned.items()
        ]
        return dict(zip(cleaned, self._units.run("annotate", units), strict=True))

    # -- pairs ------------------------------------------------------------------------------------------------------

    def plan(
        self, scenes: Mapping[int, Path], annotated: Mapping[int, ShardReport]
    ) -> tuple[dict[tuple[int, str], Path], dict[str, int]]:
        """Plan the pairs of every bucket; return the plan of each (bucket, name) and the planned pairs per split."""
        surplus = self._surplus(scenes, annotated)
        tables, totals = {}, Counter[str]()
        self.surplus = []
        for bucket in scenes:
            rows = self._plan_bucket(scenes[bucket], annotated[bucket])
            for scene in read_table(scenes[bucket], columns=("split",)):  # kept or not: verdicts move no shard borders
                totals[scene["split"]] += self.settings.mixture.variants
            for name in sorted({row["name"] for row in rows}):
                chosen = [row for row in rows if row["name"] == name and row["key"] not in surplus]
                tables[bucket, name] = self._units.table(f"plan/{_bucket_name(bucket)}-{name}", chosen, PLAN)
            self.surplus += [(bucket, row) for row in rows if row["key"] in surplus]
        return tables, dict(totals)

    def degrade(
        self,
        plans: Mapping[tuple[int, str], Path],
        cleaned: Mapping[int, ShardReport],
        annotated: Mapping[int, ShardReport],
    ) -> list[ShardReport]:
        """Render every planned pair, one unit for each bucket and name."""
        units = []
        for (bucket, name), plan in plans.items():
            inputs = (str(plan), cleaned[bucket].shard.output, annotated[bucket].shard.output)
            options = self._degrade_options(name)
            reads = [annotated[bucket].sha256] if _reads_annotations(name) else []
            depends = [plan.stem, cleaned[bucket].sha256, *reads, *_given_files(options)]
            units.append(self._units.make("degrade", f"{_bucket_name(bucket)}-{name}", options, inputs, depends))
        return self._units.run("degrade", units)

    def measure_pairs(
        self,
        plans: Mapping[tuple[int, str], Path],
        made: Sequence[ShardReport],
        cleaned: Mapping[int, ShardReport],
    ) -> list[PlannedUnit]:
        """Measure every pair once."""
        targets = [
            Target(
                f"{_bucket_name(bucket)}-{name}",
                (report.shard.output, cleaned[bucket].shard.output),
                [report.sha256, cleaned[bucket].sha256],
            )
            for ((bucket, name), report) in zip(plans, made, strict=True)
        ]
        measured = self._measuring.all("pair", targets)
        if self._measuring.last("pair"):
            kept = [self._measuring.kept_pairs(*unit) for unit in zip(made, measured, strict=True)]
            measured = self._measuring.survivors("pair", targets, measured, kept)
        return [
            PlannedUnit(bucket=bucket, name=name, plan=plan, pairs=pairs, scores=scores)
            for ((bucket, name), plan), pairs, scores in zip(plans.items(), made, measured, strict=True)
        ]

    # -- shards -----------------------------------------------------------------------------------------------------

    def pack(self, plans: Sequence[tuple[str, Path, str]]) -> list[ShardReport]:
        """Write the shards; `plans` holds (shard name, plan table, digest of its content)."""
        units = [
            self._units.make("pack", name, self.settings.pack, (str(table),), [content])
            for name, table, content in plans
        ]
        return self._units.run("pack", units)

    def bits(self, totals: Mapping[str, int]) -> dict[str, int]:
        """Return split -> how many bits of the pair's hash name its shard."""
        target = self.settings.pack.pairs_per_shard
        return {split: shard_bits(total, target) for split, total in sorted(totals.items())}

    @property
    def models(self) -> dict[str, str]:
        """See `Units.models`."""
        return self._units.models

    # -- machinery --------------------------------------------------------------------------------------------------

    def _groups(self, rows: Sequence[Row]) -> dict[str, tuple[str, int]]:
        duplicate = self.settings.filters_of("image").get("duplicate")
        alone = {row["key"]: (row["key"], 0) for row in rows}
        if duplicate is None:
            return alone
        measured = [row for row in rows if not row["reason"]]
        assert isinstance(duplicate, Duplicate)
        return {**alone, **group_alike(measured, duplicate)}

    def _plan_bucket(self, scenes: Path, annotated: ShardReport) -> list[Row]:
        annotations = read_table(Path(annotated.shard.output + ".parquet"), columns=("key", "reason"))
        usable = {row["key"] for row in annotations if not row["reason"]}
        rows = [{**row, "keep": row["key"] in usable} for row in read_table(scenes)]
        return mixture.plan_bucket(rows, self.settings.mixture, seed=self.settings.seed)

    def _surplus(self, scenes: Mapping[int, Path], annotated: Mapping[int, ShardReport]) -> set[str]:
        """Return the keys that quotas leave out: the buckets are planned once for their names, and then once more."""
        if not self.settings.mixture.quotas:
            return set()
        planned = (row for bucket in scenes for row in self._plan_bucket(scenes[bucket], annotated[bucket]))
        named = [{"key": row["key"], "name": row["name"]} for row in planned]
        return mixture.over_quota(named, self.settings.mixture.quotas)

    def _degrade_options(self, name: str) -> DegradeOptions:
        every = self.settings.degradation_options()
        return DegradeOptions(
            degradations={step: every[step] for step in steps_of(name)},
            codec=self.settings.pack.codec,
            calibrate=self._bands(name) if self.settings.mixture.calibrate else (),
        )

    def _bands(self, name: str) -> tuple[tuple[float, float], ...]:
        strength = self.settings.filters.strength or Strength()
        return tuple(strength.band(name, level)["psnr"] for level in range(1, 6))


def _bucket_name(bucket: int) -> str:
    return f"b{bucket:06d}"


def _scored(cleaned: ShardReport, measured: Measured) -> list[Row]:
    found = measure.read_scores([report.shard.output for report in measured])
    rows = [row for row in read_table(Path(cleaned.shard.output + ".parquet")) if row["status"] == "kept"]
    both = [(row, found[row["key"]]) for row in rows]
    return [{**row, **its, "scores": {**row["scores"], **its["scores"]}} for row, its in both]


def _scene_row(row: Row, group: tuple[str, int], family: str, split: str, filters: Mapping[str, Filter]) -> Row:
    first, rank = group
    scores = {**row["scores"], "duplicate.rank": float(rank)}
    by, reason = ("measure", row["reason"]) if row["reason"] else first_reason(judge(filters, scores))
    return {
        "key": row["key"],
        "keep": not reason,
        "split": split,
        "group": family,
        "filter": by,
        "reason": reason,
        "duplicate_of": first if rank else "",
        "scores": scores,
    }


def _kept(scenes: Path) -> list[str]:
    return [row["key"] for row in read_table(scenes) if row["keep"]]


def _reads_annotations(name: str) -> bool:
    steps = [degradations.load(step) for step in steps_of(name)]
    return any({"depth", "segments"} & (step.needs | step.reads) for step in steps)


def _given_files(options: DegradeOptions) -> list[str]:
    """Return the hashes of the files that the user gives; `check_source` has looked at them."""
    given = options.degradations.values()
    folders = [folder for item in given if (folder := getattr(item, "patterns", None))]
    weights = [Path(file) for item in given if (file := getattr(item, "model_weights", None))]
    return [
        sha256_of(file) for file in [*(path for folder in folders for path in degrade.patterns_of(folder)), *weights]
    ]
