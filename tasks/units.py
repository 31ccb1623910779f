"""A unit of work, how to run it, and the engine that runs units in this process. `tasks.remote` has the other one."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, Self

from pydantic import BaseModel

from storage.canonical import digest
from storage.commits import write_commit
from storage.errors import PairForgeError, TransientError
from storage.records import ShardReport, WorkShard
from tasks.preparing import Beside
from tasks.retries import Retries

log = logging.getLogger(__name__)

Done = Callable[[ShardReport], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One work shard with the stage that does it.

    stage: a module, such as "tasks.degrade", with `run(shard, options)`; where `actor` is true, with
    `open(options, device)` instead, which loads weights and returns what is `Opened`, and with the two functions that
    `tasks.preparing` speaks of. cost: relative size; the largest are begun first.
    """

    stage: str
    shard: WorkShard
    options: BaseModel
    actor: bool = False
    cost: float = 1.0


class Opened(Protocol):
    """What `open(options, device)` of a stage with weights returns."""

    def run(self, shard: WorkShard, beside: Beside | None = None) -> ShardReport:
        """Do `shard` and return its report. beside: what other processes do of it; None: all is done in this one."""
        ...


class Interrupted(PairForgeError):  # noqa: N818 (it is not an error of anything)
    """The stop event was set before all units were done; what is committed stays. number: of the signal."""

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message, number)
        self.number = number

    def __str__(self) -> str:
        return str(self.args[0])


class Workers(Protocol):
    """An engine: a context manager that runs units until all are done, one fails or `stop` is set."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def run(self, units: Iterable[Unit], *, on_done: Done, stop: threading.Event) -> list[ShardReport]:
        """Return the reports in the order of `units`; `on_done` sees each as soon as it is committed.

        Raises whatever a stage raised, ShardError for a unit that keeps killing its worker, Interrupted after `stop`.
        """
        ...

    def retire(self, stage: str) -> None:
        """Unload the weights of `stage`; a later unit of it loads them again."""
        ...


def execute(unit: Unit, opened: Opened | None = None, beside: Beside | None = None) -> ShardReport:
    """Run `unit` in this process, by its opened stage where it has one, write the commit and log one line."""
    begun = time.monotonic()
    report = opened.run(unit.shard, beside) if opened else import_module(unit.stage).run(unit.shard, unit.options)
    write_commit(report)
    log_shard(report, seconds=time.monotonic() - begun)
    return report


def log_shard(report: ShardReport, *, seconds: float) -> None:
    """Log the one line a work shard is worth."""
    shard, rejected = report.shard, sum(report.rejected.values())
    line = "shard stage=%s bucket=%s kept=%d rejected=%d bytes=%d seconds=%.2f"
    log.info(line, shard.stage, shard.bucket, report.kept, rejected, report.bytes, seconds)


def pool_key(unit: Unit) -> str:
    """Return what decides whether two units can share loaded weights: their stage and its options."""
    return f"{unit.stage}:{digest(unit.options)}"


def raise_if_stopped(stop: threading.Event) -> None:
    """Raise Interrupted if `stop` is set."""
    if stop.is_set():
        raise Interrupted("the build was interrupted; run it again to resume")


class InProcess:
    """Runs units one after the other in this process: tests, failpoints and work too small for a cluster."""

    def __init__(self, *, device: str = "cpu") -> None:
        self._device = device
        self._opened: dict[str, Opened] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.clear()

    def run(self, units: Iterable[Unit], *, on_done: Done, stop: threading.Event) -> list[ShardReport]:
        """See `Workers.run`; a crash of the stage is a crash of this process."""
        retries = Retries()
        ordered = list(units)
        reports: dict[int, ShardReport] = {}
        for index in sorted(range(len(ordered)), key=lambda index: -ordered[index].cost):
            reports[index] = self._attempt(ordered[index], retries, stop)
            on_done(reports[index])
        return [reports[index] for index in range(len(ordered))]

    def retire(self, stage: str) -> None:
        """Forget the weights of `stage`."""
        self._opened = {key: opened for key, opened in self._opened.items() if not key.startswith(f"{stage}:")}

    def _attempt(self, unit: Unit, retries: Retries, stop: threading.Event) -> ShardReport:
        while True:
            raise_if_stopped(stop)
            try:
                return execute(unit, self._open(unit))
            except TransientError as error:
                stop.wait(retries.delay(unit.shard, error))

    def _open(self, unit: Unit) -> Opened | None:
        if not unit.actor:
            return None
        key = pool_key(unit)
        if key not in self._opened:
            self._opened[key] = import_module(unit.stage).open(unit.options, self._device)
        return self._opened[key]
