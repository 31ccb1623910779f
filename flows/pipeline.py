"""The main job without an orchestrator: which work shards there are, what they read, and the exchanges between them.

Each map stage is a list of units whose commit keys hash what they depend on; units that are committed are left alone,
the rest is handed to `run_units` (Prefect waves on Ray, or this process). Every exchange reads ledgers and writes small
tables named by their content, so a table that did not change redoes nothing.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import pyarrow as pa
from pydantic import BaseModel

import degradations
from degradations._coupled import steps_of
from filters._contract import Filter
from filters.duplicate import Duplicate
from filters.strength import Strength
from flows.settings import Settings
from storage.canonical import decode, digest, encode
from storage.commits import code_version, commit_key, read_commit
from storage.files import publish_bytes, sha256_of
from storage.ledger import SCORES, read_table, write_table
from storage.records import Pair, ShardReport, WorkShard
from storage.weights import identity
from tasks import crawl, degrade, measure, mixture
from tasks.crawl import Listing
from tasks.deduplicate import group_alike, identity_of
from tasks.degrade import Options as DegradeOptions
from tasks.footage import sequence_of, with_sequences
from tasks.judge import first_reason, judge
from tasks.shuffle import shard_bits
from tasks.split import split_by_group, with_siblings
from tasks.units import Unit

Row = dict[str, Any]
Subject = Literal["image", "pair"]
Measured = tuple[ShardReport, ...]  # the passes that measured one unit
RunUnits = Callable[[str, Sequence[Unit]], None]

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
KEYS = pa.schema([("key", pa.string())])
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


class Observer(Protocol):
    """Whoever watches a build: a terminal, Prefect artifacts, metrics."""

    def stage(self, stage: str, *, done: int, total: int, items: int) -> None:
        """`done` of `total` units of `stage` are committed, holding `items` images or pairs."""


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


@dataclass(frozen=True, slots=True)
class _Target:
    """What one measure unit looks at: its name, its inputs, and what they are known by."""

    bucket: str
    inputs: tuple[str, ...]
    depends: Sequence[str]


class Pipeline:
    """The stages of one build, in order; each method returns what the next one needs."""

    def __init__(self, settings: Settings, run_units: RunUnits, observer: Observer) -> None:
        self.settings, self.run_units, self.observer = settings, run_units, observer
        self.root = Path(settings.output)
        self.work = self.root / ".work"
        self.surplus: list[tuple[int, Row]] = []  # planned pairs that their quota leaves out, with their bucket

    # -- sources ----------------------------------------------------------------------------------------------------

    def crawl(self) -> list[ShardReport]:
        """List the folder and hash every file; files whose size, time and inode are known are not read again."""
        rights = crawl.rights_digest(Path(self.settings.source.folder))
        parts = self._parts(self.listing)
        units = [self._crawl_unit(part, rows, rights) for part, rows in enumerate(parts) if rows]
        return self._run("crawl", units)

    def bucket_sources(self, reports: Iterable[ShardReport]) -> tuple[dict[int, Path], Path]:
        """Return the table of readable sources of each bucket, and the table of those that could not be read."""
        buckets: dict[int, list[Row]] = {}
        failed, found = list[Row](), list[Row]()
        for report in reports:
            for row in read_table(Path(report.shard.output + ".parquet")):
                (failed if row["status"] == "failed" else found).append(row)
        for row in with_sequences(found):
            buckets.setdefault(crawl.bucket_of(row["sha256"], self.buckets), []).append(row)
        tables = {
            bucket: self._table(f"sources/b{bucket:06d}", sorted(rows, key=lambda row: str(row["uri"])), crawl.SOURCES)
            for bucket, rows in sorted(buckets.items())
        }
        return tables, self._table("sources/failed", sorted(failed, key=lambda row: str(row["uri"])), crawl.SCHEMA)

    def clean(self, tables: Mapping[int, Path]) -> dict[int, ShardReport]:
        """Decode, orient, convert and store the photographs of every bucket."""
        options = self.settings.clean_options()
        folder = self.settings.source.folder
        units = [
            self._unit("clean", _bucket_name(bucket), options, (folder, str(table)), [table.stem])
            for bucket, table in tables.items()
        ]
        return dict(zip(tables, self._run("clean", units), strict=True))

    # -- scenes -----------------------------------------------------------------------------------------------------

    def measure_images(self, cleaned: Mapping[int, ShardReport]) -> dict[int, Measured]:
        """Measure every clean image once."""
        targets = [
            _Target(f"{_bucket_name(bucket)}-images", (report.shard.output,), [report.sha256])
            for bucket, report in cleaned.items()
        ]
        measured = dict(zip(cleaned, self._measure_all("image", targets), strict=True))
        if not self._last("image"):
            return measured
        scenes = self.judge_images(cleaned, measured)
        kept = [_kept(scenes[bucket]) for bucket in cleaned]
        return dict(zip(cleaned, self._measure_survivors("image", targets, measured.values(), kept), strict=True))

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
            tables[bucket] = self._table(f"scenes/{_bucket_name(bucket)}", rows, SCENES)
        return tables

    def annotate(self, cleaned: Mapping[int, ShardReport], scenes: Mapping[int, Path]) -> dict[int, ShardReport]:
        """Make depth and segments of the scenes that were kept."""
        units = [
            self._unit(
                "annotate",
                _bucket_name(bucket),
                self.settings.annotate,
                (report.shard.output, str(scenes[bucket])),
                [report.sha256, digest(_kept(scenes[bucket]))],
                actor=True,
                models=self._models_of(["annotate"]),
            )
            for bucket, report in cleaned.items()
        ]
        return dict(zip(cleaned, self._run("annotate", units), strict=True))

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
                tables[bucket, name] = self._table(f"plan/{_bucket_name(bucket)}-{name}", chosen, PLAN)
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
            depends = [plan.stem, cleaned[bucket].sha256, *reads, *_pattern_files(options)]
            units.append(self._unit("degrade", f"{_bucket_name(bucket)}-{name}", options, inputs, depends))
        return self._run("degrade", units)

    def measure_pairs(
        self,
        plans: Mapping[tuple[int, str], Path],
        made: Sequence[ShardReport],
        cleaned: Mapping[int, ShardReport],
    ) -> list[PlannedUnit]:
        """Measure every pair once."""
        targets = [
            _Target(
                f"{_bucket_name(bucket)}-{name}",
                (report.shard.output, cleaned[bucket].shard.output),
                [report.sha256, cleaned[bucket].sha256],
            )
            for ((bucket, name), report) in zip(plans, made, strict=True)
        ]
        measured = self._measure_all("pair", targets)
        if self._last("pair"):
            kept = [self._kept_pairs(*unit) for unit in zip(made, measured, strict=True)]
            measured = self._measure_survivors("pair", targets, measured, kept)
        return [
            PlannedUnit(bucket=bucket, name=name, plan=plan, pairs=pairs, scores=scores)
            for ((bucket, name), plan), pairs, scores in zip(plans.items(), made, measured, strict=True)
        ]

    # -- shards -----------------------------------------------------------------------------------------------------

    def pack(self, plans: Sequence[tuple[str, Path, str]]) -> list[ShardReport]:
        """Write the shards; `plans` holds (shard name, plan table, digest of its content)."""
        units = [
            self._unit("pack", name, self.settings.pack, (str(table),), [content]) for name, table, content in plans
        ]
        return self._run("pack", units)

    def bits(self, totals: Mapping[str, int]) -> dict[str, int]:
        """Return split -> how many bits of the pair's hash name its shard."""
        target = self.settings.pack.pairs_per_shard
        return {split: shard_bits(total, target) for split, total in sorted(totals.items())}

    # -- models -----------------------------------------------------------------------------------------------------

    @cached_property
    def models(self) -> dict[str, str]:
        """Setting -> what identifies the model it names: its reference and the sha256 of what is loaded.

        Raises SettingsError where weights are not there, before anything is begun.
        """
        options = self.settings.annotate
        named = {f"annotate.{kind}_weights": getattr(options, f"{kind}_weights") for kind in ("depth", "segments")}
        for name, item in (self.settings.filters_of("image") | self.settings.filters_of("pair")).items():
            named |= {f"filters.{name}.{option}": reference for option, reference in item.models().items()}
        return {setting: self._identity(setting, reference) for setting, reference in named.items() if reference}

    def _identity(self, setting: str, reference: str) -> str:
        if not setting.endswith("weights"):
            return reference  # the name a server knows it by
        return f"{Path(reference).name}:{identity(reference, notes=self.work / 'models.json')}"

    def _models_of(self, prefixes: Iterable[str]) -> list[str]:
        chosen = tuple(f"{prefix}." for prefix in prefixes)
        return [f"{setting}={model}" for setting, model in sorted(self.models.items()) if setting.startswith(chosen)]

    # -- machinery --------------------------------------------------------------------------------------------------

    @cached_property
    def buckets(self) -> int:
        """The number of buckets: fixed when the dataset is made, from the files there were then."""
        layout = self.work / "layout.json"
        if layout.exists():
            return int(json.loads(layout.read_bytes())["buckets"])
        published = self.root / "manifest.json"
        if published.exists():
            return int(json.loads(published.read_bytes())["layout"]["buckets"])
        return max(1, -(-len(self.listing) // self.settings.dataset.images_per_bucket))

    @cached_property
    def listing(self) -> list[Listing]:
        """Every file of the folder, or as many as the limit lets through, in the order of their uris."""
        found = list(crawl.list_folder(Path(self.settings.source.folder)))
        limit = self.settings.source.limit or len(found)
        units = {item.uri: sequence_of(item.uri) or item.uri for item in found}  # a sequence comes whole
        chosen = set(sorted(set(units.values()), key=digest)[:limit])
        return sorted((item for item in found if units[item.uri] in chosen), key=lambda item: item.uri)

    def fix_layout(self) -> None:
        """Write the number of buckets down, so that photographs added later do not change it."""
        publish_bytes(self.work / "layout.json", encode({"buckets": self.buckets}), kind="commit")

    def listing_digest(self) -> str:
        """Return a digest of the folder: what is there, and size, time and inode of each file."""
        return digest([(item.uri, item.size, item.mtime_ns, item.inode) for item in self.listing])

    def _parts(self, listing: Sequence[Listing]) -> list[list[Listing]]:
        parts: list[list[Listing]] = [[] for _ in range(self.buckets)]
        for item in listing:
            parts[int(digest(item.uri)[:8], 16) % self.buckets].append(item)
        return parts

    def _crawl_unit(self, part: int, rows: Sequence[Listing], rights: str) -> Unit:
        options = crawl.Options(licence=self.settings.source.licence, author=self.settings.source.author)
        content = encode([(item.uri, item.size, item.mtime_ns, item.inode) for item in rows])
        table = self._bytes(f"listing/p{part:06d}", content)
        inputs = (self.settings.source.folder, str(table))
        return self._unit("crawl", f"p{part:06d}", options, inputs, [table.stem, rights])

    def _groups(self, rows: Sequence[Row]) -> dict[str, tuple[str, int]]:
        duplicate = self.settings.filters_of("image").get("duplicate")
        alone = {row["key"]: (row["key"], 0) for row in rows}
        if duplicate is None:
            return alone
        measured = [row for row in rows if not row["reason"]]
        assert isinstance(duplicate, Duplicate)
        return {**alone, **group_alike(measured, distance=duplicate.distance, similarity=duplicate.similarity)}

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

    def _measure_all(self, subject: Subject, targets: Sequence[_Target]) -> list[Measured]:
        """Measure by the filters without models on CPU workers and, at the same time, by those with on their own."""
        every = self.settings.filters_of(subject)
        plain = {name: item for name, item in every.items() if not item.needs_weights and not item.on_survivors}
        with_models = {name: item for name, item in every.items() if item.needs_weights and not item.on_survivors}
        passes = [("", plain), *([("-models", with_models)] if with_models else [])]
        units = [self._measure_unit(target, *one) for target in targets for one in passes]
        reports = self._run("measure", units, label=f"measure {subject}s")
        return [tuple(reports[at : at + len(passes)]) for at in range(0, len(reports), len(passes))]

    def _measure_survivors(
        self, subject: Subject, targets: Sequence[_Target], measured: Iterable[Measured], kept: Sequence[Sequence[str]]
    ) -> list[Measured]:
        """Measure what the other filters keep by those that are too dear for the rest."""
        units = []
        for target, keys in zip(targets, kept, strict=True):
            table = self._table(f"survivors/{target.bucket}", [{"key": key} for key in keys], KEYS)
            chosen = replace(target, inputs=(*target.inputs, str(table)), depends=[*target.depends, table.stem])
            units.append(self._measure_unit(chosen, "-survivors", self._last(subject)))
        last = self._run("measure", units, label=f"measure {subject}s that survive")
        return [(*before, report) for before, report in zip(measured, last, strict=True)]

    def _measure_unit(self, target: _Target, suffix: str, filters: Mapping[str, Filter]) -> Unit:
        options = measure.Options(filters={name: item.measuring() for name, item in filters.items()})
        models = self._models_of(f"filters.{name}" for name in filters)
        actor = any(item.needs_weights for item in filters.values())
        name = target.bucket + suffix
        return self._unit("measure", name, options, target.inputs, target.depends, actor=actor, models=models)

    def _last(self, subject: Subject) -> dict[str, Filter]:
        return {name: item for name, item in self.settings.filters_of(subject).items() if item.on_survivors}

    def _kept_pairs(self, made: ShardReport, measured: Measured) -> list[str]:
        """Return the keys of the pairs that every filter but the last ones keeps."""
        scores = measure.read_scores([report.shard.output for report in measured])
        filters = self.settings.filters_of("pair")
        rows = (row for row in read_table(Path(made.shard.output + ".parquet")) if row["key"] in scores)
        return [row["key"] for row in rows if _is_kept(filters, scores[row["key"]], row)]

    def _unit(
        self,
        stage: str,
        bucket: str,
        options: BaseModel,
        inputs: tuple[str, ...],
        depends: Sequence[str],
        *,
        actor: bool = False,
        models: Sequence[str] = (),
    ) -> Unit:
        module, seed = f"tasks.{stage}", self.settings.seed
        code = code_version(module)
        key = commit_key(stage=stage, code=code, options=options, inputs=depends, seed=seed, models=models)
        output = str(self.work / stage / f"{bucket}-{key[:16]}")
        shard = WorkShard(stage=stage, bucket=bucket, inputs=inputs, output=output, seed=self.settings.seed)
        return Unit(stage=module, shard=shard, options=options, actor=actor, cost=1.0)

    def _run(self, stage: str, units: Sequence[Unit], *, label: str = "") -> list[ShardReport]:
        done = {unit.shard.output: read_commit(unit.shard.output) for unit in units}
        pending = [unit for unit in units if done[unit.shard.output] is None]
        committed = [report for report in done.values() if report]
        items = sum(report.kept + sum(report.rejected.values()) for report in committed)
        self.observer.stage(label or stage, done=len(committed), total=len(units), items=items)
        if pending:
            self.run_units(label or stage, pending)
        return [_committed(unit, done[unit.shard.output]) for unit in units]

    def _table(self, name: str, rows: Sequence[Row], schema: pa.Schema) -> Path:
        path = self.work / f"{name}-{digest(rows)[:16]}.parquet"
        if not path.exists():
            write_table(path, rows, schema)
        return path

    def _bytes(self, name: str, content: bytes) -> Path:
        path = self.work / f"{name}-{digest(content.decode())[:16]}.json"
        if not path.exists():
            publish_bytes(path, content)
        return path


def _bucket_name(bucket: int) -> str:
    return f"b{bucket:06d}"


def _committed(unit: Unit, known: ShardReport | None) -> ShardReport:
    report = known or read_commit(unit.shard.output)
    assert report, f"{unit.shard.output} was run but not committed"
    return replace(report, shard=unit.shard)  # the dataset may have been moved since


def _is_kept(filters: Mapping[str, Filter], scored: Row, made: Row) -> bool:
    if scored["reason"]:
        return False
    recipe = decode(Pair, made["pair"].encode()).recipe
    return not first_reason(judge(filters, scored["scores"], recipe))[1]


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


def _pattern_files(options: DegradeOptions) -> list[str]:
    folders = [getattr(item, "patterns", None) for item in options.degradations.values()]
    return [sha256_of(file) for folder in folders if folder for file in degrade.patterns_of(folder)]
