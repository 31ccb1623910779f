"""The units of a build: made from a stage and what it reads, run unless they are committed, and the tables between.

A unit's commit key hashes what decides its bytes: options, inputs by their content, the code of the stage, the seed and
the identity of each model.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from pydantic import BaseModel

from filters._vlm_answers import NOTES
from flows.named_models import check_models, named_models
from flows.settings import WEIGHTS, Settings
from storage.canonical import digest
from storage.commits import code_version, commit_key, read_commit
from storage.files import publish_bytes
from storage.ledger import write_table
from storage.records import ShardReport, WorkShard
from storage.weights import identity
from tasks.units import Unit

RunUnits = Callable[[str, Sequence[Unit]], None]


class Observer(Protocol):
    """Whoever watches a build: a terminal, Prefect artifacts, metrics."""

    def stage(self, stage: str, *, done: int, total: int, items: int) -> None:
        """`done` of `total` units of `stage` are committed, holding `items` images or pairs."""


class Units:
    """Makes and runs the units of one build. folder: where all its work lies."""

    def __init__(self, settings: Settings, run_units: RunUnits, observer: Observer) -> None:
        self.settings = settings
        self.folder = Path(settings.output) / ".work"
        self._run_units, self._observer = run_units, observer

    def make(
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
        """Return the unit of `stage` for `bucket`. depends: content hashes of all it reads, in order."""
        module, seed = f"tasks.{stage}", self.settings.seed
        code = code_version(module)
        key = commit_key(stage=stage, code=code, options=options, inputs=depends, seed=seed, models=models)
        output = str(self.folder / stage / f"{bucket}-{key[:16]}")
        shard = WorkShard(stage=stage, bucket=bucket, inputs=inputs, output=output, seed=self.settings.seed)
        return Unit(stage=module, shard=shard, options=options, actor=actor, cost=1.0)

    def run(self, stage: str, units: Sequence[Unit], *, label: str = "") -> list[ShardReport]:
        """Return the reports of all units, of which those without a commit are run."""
        done = {unit.shard.output: read_commit(unit.shard.output) for unit in units}
        pending = [unit for unit in units if done[unit.shard.output] is None]
        committed = [report for report in done.values() if report]
        items = sum(report.kept + sum(report.rejected.values()) for report in committed)
        self._observer.stage(label or stage, done=len(committed), total=len(units), items=items)
        if pending:
            self._run_units(label or stage, pending)
        return [_committed(unit, done[unit.shard.output]) for unit in units]

    def table(self, name: str, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> Path:
        """Return the file, named by its content, that holds `rows`."""
        path = self.folder / f"{name}-{digest(rows)[:16]}.parquet"
        if not path.exists():
            write_table(path, rows, schema)
        return path

    def content(self, name: str, content: bytes) -> Path:
        """Return the JSON file, named by it, that holds `content`."""
        path = self.folder / f"{name}-{digest(content.decode())[:16]}.json"
        if not path.exists():
            publish_bytes(path, content)
        return path

    @cached_property
    def models(self) -> dict[str, str]:
        """Setting -> what identifies the model it names: its reference and the sha256 of what is loaded.

        Raises SettingsError or ShardError where a model is not named or its weights are not there, before anything is
        begun.
        """
        check_models(self.settings)
        return {setting: self._identity(setting, one) for setting, one in named_models(self.settings).items()}

    def _identity(self, setting: str, reference: str) -> str:
        if not setting.endswith(WEIGHTS):
            return reference  # the name a server knows it by
        notes = self.folder / "answers" / NOTES  # where a vision-language model looks as well
        return f"{Path(reference).name}:{identity(reference, notes=notes)}"

    def models_of(self, prefixes: Iterable[str]) -> list[str]:
        """Return what identifies the models that the settings below `prefixes` name."""
        chosen = tuple(f"{prefix}." for prefix in prefixes)
        return [f"{setting}={model}" for setting, model in sorted(self.models.items()) if setting.startswith(chosen)]


def _committed(unit: Unit, known: ShardReport | None) -> ShardReport:
    report = known or read_commit(unit.shard.output)
    assert report, f"{unit.shard.output} was run but not committed"
    return replace(report, shard=unit.shard)  # the dataset may have been moved since
