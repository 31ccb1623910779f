"""A wave: units driven to their end through workers that may die, run out of memory or meet a broken network.

Everything but Ray: `tasks.remote` gives it an `Engine`. What is in flight is bounded by the lanes; the largest units go
first; `stop` is looked at five times a second.
"""

import heapq
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from storage.errors import PairForgeError, TransientError
from storage.records import ShardReport
from tasks.retries import Retries, take_key
from tasks.units import Done, Unit, log_shard, raise_if_stopped

POLL = 0.2  # seconds between two looks at the stop event
LAST_CALL = 0.5  # seconds for what is in flight when the wave ends early

Call = Any  # a handle of the engine's, hashable
Outcome = tuple[ShardReport, float] | Exception


class DiedError(Exception):
    """A process that worked on a unit ended. starved: the system ended it because memory ran out."""

    def __init__(self, starved: bool) -> None:
        super().__init__(starved)
        self.starved = starved

    def __str__(self) -> str:
        return "out of memory" if self.starved else "the worker died"


class WorkerDiedError(DiedError):
    """It was the worker itself: what was in flight on it is lost."""


class PreparerDiedError(DiedError):
    """It was one that made images ready for the worker, which lives and keeps its weights."""


class Lane(Protocol):
    """Where units run, and what is in flight there."""

    def has_room(self) -> bool:
        """Tell whether another unit may be submitted."""
        ...

    def submit(self, unit: Unit) -> Call:
        """Begin `unit` without waiting for anything."""
        ...

    def finish(self, call: Call) -> None:
        """Forget `call`, which ended."""
        ...

    def bury(self, call: Call) -> list[Call]:
        """Forget the dead worker of `call`; return what was in flight on it, the oldest first."""
        ...

    def abandon(self, call: Call) -> None:
        """Forget `call`, whose result nobody wants any more, and end it."""
        ...


class Engine(Protocol):
    """What a wave needs to know of where it runs."""

    def lane(self, unit: Unit) -> Lane:
        """Return where `unit` runs: always the same object for the same kind of unit."""
        ...

    def wait(self, calls: list[Call], *, count: int, seconds: float) -> list[Call]:
        """Return those of `calls` that ended, as soon as they are `count` or the time is over."""
        ...

    def outcome(self, call: Call) -> Outcome:
        """Return the report and the seconds of an ended call, or what it raised: WorkerDiedError or the stage's own."""
        ...


@dataclass(eq=False, slots=True)
class _Job:
    index: int
    unit: Unit
    lane: Lane
    starved: bool = False  # it ran out of memory beside others, and now runs alone


class Wave:
    """One run of units; used once."""

    def __init__(self, units: Iterable[Unit], engine: Engine, on_done: Done, stop: threading.Event) -> None:
        self._engine = engine
        self._on_done = on_done
        self._stop = stop
        self._retries = Retries()
        self._queues: dict[Lane, deque[_Job]] = {}
        self._delayed: list[tuple[float, int, _Job]] = []
        self._starved: deque[_Job] = deque()
        self._flying: dict[Call, _Job] = {}
        self._reports: dict[int, ShardReport] = {}
        jobs = [_Job(index, unit, engine.lane(unit)) for index, unit in enumerate(units)]
        self._total = len(jobs)
        for job in sorted(jobs, key=lambda job: -job.unit.cost):
            self._queues.setdefault(job.lane, deque()).append(job)

    def run(self) -> list[ShardReport]:
        """Return the reports in the order of the units; see `tasks.units.Workers.run` for what it raises."""
        try:
            while len(self._reports) < self._total:
                raise_if_stopped(self._stop)
                self._submit()
                for call in self._ended():
                    if call in self._flying:  # not yet settled with a dead worker
                        self._collect(call)
        finally:
            self._abandon()
        return [self._reports[index] for index in range(self._total)]

    def _submit(self) -> None:
        while self._delayed and self._delayed[0][0] <= time.monotonic():
            self._again(heapq.heappop(self._delayed)[-1])
        for lane, queue in self._queues.items():
            while queue and lane.has_room():
                self._launch(queue.popleft())
        if self._starved and not self._flying and not self._delayed:
            self._launch(self._starved.popleft())

    def _launch(self, job: _Job) -> None:
        take_key(job.unit.shard)  # an earlier run may have left one
        self._flying[job.lane.submit(job.unit)] = job

    def _again(self, job: _Job) -> None:
        self._queues[job.lane].appendleft(job)

    def _ended(self) -> list[Call]:
        if self._flying:
            return self._engine.wait(list(self._flying), count=1, seconds=POLL)
        self._stop.wait(POLL)
        return []

    def _collect(self, call: Call) -> None:
        job, outcome = self._flying[call], self._engine.outcome(call)
        if isinstance(outcome, WorkerDiedError):
            self._bury(job.lane.bury(call))
            return
        job.lane.finish(call)
        self._settle(self._flying.pop(call), outcome)

    def _bury(self, calls: list[Call]) -> None:
        """Settle the calls of a dead worker: the oldest unfinished one is to blame, the others only waited."""
        blamed = False
        for call in calls:
            job, outcome = self._flying.pop(call), self._engine.outcome(call)
            if isinstance(outcome, WorkerDiedError) and blamed:
                self._again(job)
            else:
                blamed = blamed or isinstance(outcome, WorkerDiedError)
                self._settle(job, outcome)

    def _settle(self, job: _Job, outcome: Outcome) -> None:
        if isinstance(outcome, Exception):
            self._fail(job, outcome)
            return
        report, seconds = outcome
        log_shard(report, seconds=seconds)
        self._reports[job.index] = report
        self._on_done(report)

    def _fail(self, job: _Job, error: Exception) -> None:
        shard = job.unit.shard
        if isinstance(error, MemoryError) or (isinstance(error, DiedError) and error.starved):
            self._starve(job, error)
        elif isinstance(error, DiedError):
            self._retries.died(shard, error)
            self._again(job)
        elif isinstance(error, TransientError):
            due = time.monotonic() + self._retries.delay(shard, error)
            heapq.heappush(self._delayed, (due, job.index, job))
        else:
            raise error

    def _starve(self, job: _Job, error: Exception) -> None:
        """Set `job` aside until it can run alone; its images are never to blame."""
        if job.starved:
            name = f"{job.unit.shard.stage} {job.unit.shard.bucket}"
            raise PairForgeError(f"{name} needs more memory than there is, even alone: use smaller images") from error
        job.starved = True
        self._starved.append(job)

    def _abandon(self) -> None:
        """Take what ends within the last call, give up the rest; nothing is in flight after an ordinary end."""
        if not self._flying:
            return
        calls = list(self._flying)
        ended = set(self._engine.wait(calls, count=len(calls), seconds=LAST_CALL))
        for call in calls:
            job = self._flying.pop(call)
            outcome = self._engine.outcome(call) if call in ended else None
            if isinstance(outcome, tuple):
                job.lane.finish(call)
                self._settle(job, outcome)
            else:
                job.lane.abandon(call)
