"""Cut a published dataset again with other thresholds, from its ledger and its shards alone.

What is newly dropped stays in the ledger; what is newly kept is copied from an older version that held it. Only what no
version holds must be rendered again, which is a build.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filters._contract import Filter
from flows.dataset import Dataset
from flows.job import Outcome, note_finished
from flows.report import write_report
from flows.settings import Settings
from flows.staging import put_in_place, stage_version
from flows.verdicts import plan_shard
from storage.canonical import decode, digest
from storage.commits import code_version, commit_key, read_commit, write_commit
from storage.ledger import IMAGES, PAIRS, iter_rows, write_table
from storage.records import Recipe, WorkShard
from tasks import pack
from tasks.judge import first_reason, judge, unmeasured
from tasks.shuffle import Spool

Row = dict[str, Any]
Verdict = tuple[str, str, str]  # status, stage and reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What other thresholds would change. unstored: newly kept, but in no version. unplanned: images without pairs."""

    images: Mapping[str, int]
    pairs: Mapping[str, int]
    added: int
    removed: int
    unstored: int
    unplanned: int

    @property
    def needs_build(self) -> bool:
        """Whether something must be rendered that no version holds."""
        return bool(self.unstored or self.unplanned)


@dataclass(slots=True)
class _Count:
    images: Counter[str] = field(default_factory=Counter)
    pairs: Counter[str] = field(default_factory=Counter)
    added: int = 0
    removed: int = 0
    unstored: int = 0
    unplanned: int = 0


class Rejudgement:
    """The ledger of the dataset at `root`, judged with the filters of `settings`."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self.root, self.settings = root, settings
        self.versions = [Dataset(root), *(Dataset(path) for path in sorted((root / "versions").glob("[0-9]*")))]
        self.dataset = self.versions[0]
        _ = self.dataset.manifest  # one clear error when there is no dataset
        self._image_filters = settings.filters_of("image")
        self._pair_filters = settings.filters_of("pair")

    def change(self) -> Change:
        """Return what would change; reads only the ledger."""
        count = _Count()
        for row in self._images(count):
            count.images["kept" if row["status"] == "kept" else row["reason"]] += 1
        for _, row in self._pairs(count):
            count.pairs["kept" if row["status"] == "kept" else row["reason"]] += 1
        return Change(
            images=count.images,
            pairs=count.pairs,
            added=count.added,
            removed=count.removed,
            unstored=count.unstored,
            unplanned=count.unplanned,
        )

    def publish(self) -> Outcome:
        """Publish the dataset that the new verdicts make; the caller holds the lease and knows it needs no build."""
        work = self.root / ".work"
        for name in ("verdicts", "publish"):
            shutil.rmtree(work / name, ignore_errors=True)
        (work / "verdicts").mkdir(parents=True)
        bits = {split: self.dataset.manifest.layout[f"{split}_bits"] for split in self._splits()}
        spool, count = Spool(work / "verdicts", bits), _Count()
        ledger, licences = self._write_images(count)
        ledger += self._write_pairs(count, spool)
        names = spool.names()
        packed = [self._pack(name, spool.read(slot)) for slot, name in names.items()]
        ledger = [self._named(path, names) for path in ledger]
        manifest = self.dataset.manifest
        layout, models = manifest.layout, manifest.models
        staged = stage_version(self.settings, packed, ledger, licences, layout=layout, models=models)
        changed = put_in_place(self.root, staged)
        write_report(self.root)
        note_finished(self.settings, staged.manifest.dataset_version)
        return Outcome(
            root=self.root, manifest=staged.manifest, images=count.images, pairs=count.pairs, unchanged=not changed
        )

    def _images(self, count: _Count) -> Iterator[Row]:
        for part in self.dataset.ledger("images"):
            yield from self._image_part(part, count)

    def _image_part(self, part: Path, count: _Count) -> Iterator[Row]:
        for row in iter_rows(part):
            if self._is_ours(row, self._image_filters):
                status, stage, reason = _verdict(self._image_filters, row["scores"], None)
                count.unplanned += status == "kept" != row["status"]
                row |= {"status": status, "stage": stage or "clean", "reason": reason}
            yield row

    def _pairs(self, count: _Count) -> Iterator[tuple[Path, Row]]:
        dropped = {row["key"]: row for row in self._images(_Count()) if row["status"] == "dropped" and row["key"]}
        for part in self.dataset.ledger("pairs"):
            for row in iter_rows(part):
                yield part, self._judged(row, dropped, count)

    def _judged(self, row: Row, dropped: Mapping[str, Row], count: _Count) -> Row:
        if not self._is_ours(row, {**self._image_filters, **self._pair_filters}):
            return row
        was = row["status"]
        source = dropped.get(row["source_key"])
        if source:
            new = ("dropped", source["stage"], source["reason"])
        else:
            new = _verdict(self._pair_filters, row["scores"], decode(Recipe, row["recipe"].encode()))
        row |= dict(zip(("status", "stage", "reason"), new, strict=True))
        count.added += new[0] == "kept" != was
        count.removed += was == "kept" != new[0]
        count.unstored += new[0] == "kept" and (self._holder(row["key"], row["shard"]) is None or self._unseen(row))
        return row

    def _is_ours(self, row: Row, filters: Mapping[str, Filter]) -> bool:
        """Tell whether verdicts decide this row: it was measured, and neither failed nor was left out before."""
        return bool(row["scores"]) and (row["status"] == "kept" or row["stage"] in filters)

    def _unseen(self, row: Row) -> bool:
        """Tell whether a filter that looks only at survivors has not looked at this pair, so that a build must."""
        return bool(unmeasured(self._pair_filters, row["scores"]))

    def _holder(self, key: str, shard: str) -> tuple[Dataset, str] | None:
        """Return the version that holds the pair, and in which shard."""
        if shard:
            return self.dataset, shard
        for version in self.versions[1:]:
            if (found := version.find("pairs", key=key)) and found[0]["shard"]:
                return version, found[0]["shard"]
        return None

    def _write_images(self, count: _Count) -> tuple[list[Path], Counter[str]]:
        parts, licences = [], Counter[str]()
        for part in self.dataset.ledger("images"):
            rows = list(self._image_part(part, count))
            count.images.update("kept" if row["status"] == "kept" else row["reason"] for row in rows)
            licences.update(row["licence"] for row in rows if row["status"] == "kept")
            path = self.root / ".work" / "publish" / "ledger" / part.name
            write_table(path, rows, IMAGES)
            parts.append(path)
        return parts, licences

    def _write_pairs(self, count: _Count, spool: Spool) -> list[Path]:
        rows_of: dict[Path, list[Row]] = {}
        written = []
        for part, row in self._pairs(count):
            if part not in rows_of:
                written += [self._write_pair_part(done, rows) for done, rows in rows_of.items()]
                rows_of = {part: []}
            count.pairs["kept" if row["status"] == "kept" else row["reason"]] += 1
            if row["status"] == "kept":
                split, index = spool.add(row["split"], self._to_pack(row))
                row["shard"] = f"{split}/{index}"
            else:
                row["shard"] = ""
            rows_of[part].append(row)
        written += [self._write_pair_part(done, rows) for done, rows in rows_of.items()]
        spool.flush()
        return written

    def _write_pair_part(self, part: Path, rows: list[Row]) -> Path:
        path = self.root / ".work" / "publish" / "ledger" / part.name
        write_table(path, rows, PAIRS)
        return path

    def _named(self, path: Path, names: Mapping[tuple[str, int], str]) -> Path:
        if not path.name.startswith("pairs-"):
            return path
        labels = {f"{split}/{index}": name for (split, index), name in names.items()}
        rows = [{**row, "shard": labels.get(row["shard"], "")} for row in iter_rows(path)]
        write_table(path, rows, PAIRS)
        return path

    def _to_pack(self, row: Row) -> Row:
        holder = self._holder(row["key"], row["shard"])
        assert holder, "a pair that no version holds needs a build"
        version, shard = holder
        pixels, beside = version.places("shards", shard, row["key"]), version.places("annotations", shard, row["key"])
        return {
            "key": row["key"],
            "pair": version.record(shard, row["key"]),
            "pixels": {suffix: place for suffix, place in pixels.items() if suffix != "json"},
            "annotations": {suffix: place for suffix, place in beside.items() if suffix != "json"},
        }

    def _pack(self, name: str, rows: list[Row]) -> str:
        _, plan, content = plan_shard(self.root / ".work", name, rows)
        options, seed = self.settings.pack, self.settings.seed
        key = commit_key(stage="pack", code=code_version("tasks.pack"), options=options, inputs=[content], seed=seed)
        output = str(self.root / ".work" / "pack" / f"{name}-{key[:16]}")
        if read_commit(output) is None:
            shard = WorkShard(stage="pack", bucket=name, inputs=(str(plan),), output=output, seed=seed)
            write_commit(pack.run(shard, options))
        return output

    def _splits(self) -> list[str]:
        return [name.removesuffix("_bits") for name in self.dataset.manifest.layout if name.endswith("_bits")]


def _verdict(filters: Mapping[str, Filter], scores: Mapping[str, float], recipe: Recipe | None) -> Verdict:
    by, reason = first_reason(judge(filters, scores, recipe))
    return ("dropped" if reason else "kept", by, reason)


def planned_alike(old: Mapping[str, Any], new: Settings) -> str:
    """Return the first table in which `new` differs from the settings a dataset was built with, thresholds aside.

    A filter that did not measure then, or measured otherwise, has no scores to judge by. What the duplicate filter
    calls a near copy decides groups and splits, so it counts as different too.
    """
    now = json.loads(json.dumps(new.published()))
    for table in sorted(set(old) | set(now)):
        if table != "filters" and digest(old.get(table)) != digest(now.get(table)):
            return table
    before, after = ((content["filters"].get("duplicate") or {}) for content in (old, now))
    changed = [option for option in ("distance", "similarity") if before.get(option) != after.get(option)]
    if changed:
        return f"filters.duplicate.{changed[0]}"
    every = new.filters_of("image") | new.filters_of("pair")
    return next(
        (f"filters.{found}" for name in sorted(every) if (found := _measured_anew(name, every[name], old, now))), ""
    )


def _measured_anew(name: str, one: Filter, old: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return the filter, or the option of it, by which what it measures differs; empty when nothing does."""
    before, after = old["filters"].get(name), now["filters"][name]
    if not before:
        return name
    changed = [option for option in sorted(one.measures_with) if before.get(option) != after.get(option)]
    return f"{name}.{changed[0]}" if changed else ""
