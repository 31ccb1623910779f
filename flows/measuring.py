"""How images and pairs are measured: by filters without models, beside them by those with, and last by the dearest."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from filters._contract import Filter
from flows.work import Units
from storage.canonical import decode
from storage.ledger import read_table
from storage.records import Pair, ShardReport
from tasks import measure
from tasks.judge import first_reason, judge
from tasks.units import Unit

Row = dict[str, Any]
Subject = Literal["image", "pair"]
Measured = tuple[ShardReport, ...]  # the passes that measured one unit

KEYS = pa.schema([("key", pa.string())])


@dataclass(frozen=True, slots=True)
class Target:
    """What one measure unit looks at: its name, its inputs, and what they are known by."""

    bucket: str
    inputs: tuple[str, ...]
    depends: Sequence[str]


class Measuring:
    """Measures the images and pairs of one build."""

    def __init__(self, units: Units) -> None:
        self._units, self._settings = units, units.settings

    def all(self, subject: Subject, targets: Sequence[Target]) -> list[Measured]:
        """Measure by the filters without models on CPU workers and, at the same time, by those with on their own."""
        every = self._settings.filters_of(subject)
        plain = {name: item for name, item in every.items() if not item.needs_weights and not item.is_last()}
        with_models = {name: item for name, item in every.items() if item.needs_weights and not item.is_last()}
        passes = [("", plain), *([("-models", with_models)] if with_models else [])]
        units = [self._unit(target, *one) for target in targets for one in passes]
        reports = self._units.run("measure", units, label=f"measure {subject}s")
        return [tuple(reports[at : at + len(passes)]) for at in range(0, len(reports), len(passes))]

    def survivors(
        self, subject: Subject, targets: Sequence[Target], measured: Iterable[Measured], kept: Sequence[Sequence[str]]
    ) -> list[Measured]:
        """Measure what the other filters keep by those that are too dear for the rest."""
        units = []
        for target, keys in zip(targets, kept, strict=True):
            table = self._units.table(f"survivors/{target.bucket}", [{"key": key} for key in keys], KEYS)
            chosen = replace(target, inputs=(*target.inputs, str(table)), depends=[*target.depends, table.stem])
            units.append(self._unit(chosen, "-survivors", self.last(subject)))
        last = self._units.run("measure", units, label=f"measure {subject}s that survive")
        return [(*before, report) for before, report in zip(measured, last, strict=True)]

    def _unit(self, target: Target, suffix: str, filters: Mapping[str, Filter]) -> Unit:
        options = measure.Options(filters={name: item.measuring() for name, item in filters.items()})
        models = self._units.models_of(f"filters.{name}" for name in filters)
        actor = any(item.needs_weights for item in filters.values())
        name = target.bucket + suffix
        return self._units.make("measure", name, options, target.inputs, target.depends, actor=actor, models=models)

    def last(self, subject: Subject) -> dict[str, Filter]:
        """Return the filters that measure only survivors."""
        return {name: item for name, item in self._settings.filters_of(subject).items() if item.is_last()}

    def kept_pairs(self, made: ShardReport, measured: Measured) -> list[str]:
        """Return the keys of the pairs that every filter but the last ones keeps."""
        scores = measure.read_scores([report.shard.output for report in measured])
        filters = self._settings.filters_of("pair")
        rows = (row for row in read_table(Path(made.shard.output + ".parquet")) if row["key"] in scores)
        return [row["key"] for row in rows if _is_kept(filters, scores[row["key"]], row)]


def _is_kept(filters: Mapping[str, Filter], scored: Row, made: Row) -> bool:
    if scored["reason"]:
        return False
    recipe = decode(Pair, made["pair"].encode()).recipe
    return not first_reason(judge(filters, scored["scores"], recipe))[1]
