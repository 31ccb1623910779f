"""Long-lived actors on Ray that hold the weights of a stage: their pool, and what each of them does.

Plain tasks beside an actor make ready what it is given: decoded, resized, normalised; and finish what it found
(`tasks.preparing`).
"""

import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any

import cv2
import ray
from pydantic import BaseModel
from ray import exceptions

from storage.records import ShardReport
from tasks.preparing import Ahead, Beside
from tasks.progress import may_work_together
from tasks.units import Opened, Unit, execute
from tasks.waves import Call, DiedError, PreparerDiedError

QUEUE = 2  # calls per worker: one runs, one is already there when it ends
DEATHS = (exceptions.WorkerCrashedError, exceptions.NodeDiedError, exceptions.RayActorError)


@dataclass(eq=False, slots=True)
class _Member:
    """An actor of a pool and its calls, the oldest, which is the one it is on, first."""

    actor: Any
    device: str
    calls: deque[Call] = field(default_factory=deque)
    begun: int = 0  # calls, ended ones too


class Pool:
    """A lane: actors that hold the weights of one stage, one per entry of `devices`, made when first needed.

    They take no CPU in Ray's books: with one each they would leave none for the plain tasks beside them. gpus: of each;
    Ray shows an actor only the GPU it was given, on whichever node. preparers: of each.
    """

    def __init__(
        self, stage: str, options: BaseModel, devices: list[str], *, gpus: float = 0.0, preparers: int = 0
    ) -> None:
        self._arguments = (stage, options, preparers)
        self._free = devices[::-1]
        self._members: list[_Member] = []
        self._remote = ray.remote(
            num_cpus=0,
            num_gpus=gpus,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=QUEUE if preparers else 1,  # what waits for its turn has its images made ready
        )(_Actor)

    def has_room(self) -> bool:
        """Tell whether an actor is still to be made, or has fewer calls than it may have."""
        return bool(self._free) or any(len(member.calls) < QUEUE for member in self._members)

    def submit(self, unit: Unit) -> Call:
        """Give `unit` to the actor with the fewest calls, a new one if all are busy and may be made."""
        member = min(self._members, key=lambda member: len(member.calls), default=None)
        if member is None or (member.calls and self._free):
            device = self._free.pop()
            member = _Member(self._remote.remote(*self._arguments, device), device)
            self._members.append(member)
        call = member.actor.run.remote(unit, member.begun)
        member.calls.append(call)
        member.begun += 1
        return call

    def finish(self, call: Call) -> None:
        """See `tasks.waves.Lane`."""
        for member in self._members:
            if call in member.calls:
                member.calls.remove(call)

    def bury(self, call: Call) -> list[Call]:
        """See `tasks.waves.Lane`."""
        return [call for member in self._owners(call) for call in self._end(member)]

    def abandon(self, call: Call) -> None:
        """See `tasks.waves.Lane`."""
        for member in self._owners(call):  # none, when it ended with a call before
            self._end(member)

    def close(self) -> None:
        """End all actors, so that their memory is free."""
        for member in list(self._members):
            self._end(member)

    def _owners(self, call: Call) -> list[_Member]:
        return [member for member in self._members if call in member.calls]

    def _end(self, member: _Member) -> list[Call]:
        self._members.remove(member)
        self._free.append(member.device)
        ray.kill(member.actor)
        return list(member.calls)


class _Actor:
    """On the worker: a stage with its weights loaded. What loading raised is raised by the calls, as itself.

    Calls compute one at a time, in the order of their numbers; up to `preparers` groups of each that was begun are made
    ready by plain tasks ahead of their turn, and as many are finished by others after it.
    """

    def __init__(self, stage: str, options: BaseModel, preparers: int, device: str) -> None:
        cv2.setNumThreads(1)
        self._preparers = preparers
        self._elsewhere = ray.remote(num_cpus=1, max_retries=0)(_elsewhere)
        self._turn, self._next = threading.Condition(), 0
        self._opened: Opened | Exception
        try:
            self._opened = import_module(stage).open(options, device)
        except Exception as error:
            self._opened = error

    def run(self, unit: Unit, number: int) -> tuple[ShardReport, float]:
        try:
            if isinstance(self._opened, Exception):
                raise self._opened
            beside = self._beside(unit)
            self._await_turn(number)
            return timed(unit, self._opened, beside)
        finally:
            self._await_turn(number)  # also where nothing could be begun: turns end in their order
            with self._turn:
                self._next += 1
                self._turn.notify_all()

    def _beside(self, unit: Unit) -> Beside | None:
        """Begin to make the groups of `unit` ready elsewhere; not after a death: here it is known which image it is."""
        if not self._preparers or not may_work_together(unit.shard):
            return None
        groups = import_module(unit.stage).groups(unit.shard, unit.options)
        return Beside(prepared=self._ahead(unit, "prepare", groups), finished=partial(self._ahead, unit, "finish"))

    def _ahead(self, unit: Unit, step: str, items: Iterable[Any]) -> Ahead[Any, Call, Any]:
        begin = partial(self._elsewhere.remote, unit.stage, step, unit.options)
        return Ahead(items, begin=begin, result=_result_of_step, count=self._preparers)

    def _await_turn(self, number: int) -> None:
        with self._turn:
            self._turn.wait_for(lambda: self._next == number)


def _elsewhere(stage: str, step: str, options: BaseModel, item: Any) -> Any:  # both are the stage's own
    """On a worker beside the actor: what the step of this name makes of one item."""
    cv2.setNumThreads(1)
    return getattr(import_module(stage), step)(item, options)


def _result_of_step(call: Call) -> Any:
    try:
        return result_of(call, PreparerDiedError)
    except exceptions.ObjectLostError as error:
        raise PreparerDiedError(False) from error


def timed(unit: Unit, opened: Opened | None, beside: Beside | None = None) -> tuple[ShardReport, float]:
    """On the worker: run `unit`; return its report and the seconds it took."""
    begun = time.monotonic()
    return execute(unit, opened, beside), time.monotonic() - begun


def result_of(call: Call, died: type[DiedError]) -> Any:  # Any: whatever was called returns
    """Return what an ended call returned; raises what it raised as itself, `died` where its process ended."""
    try:
        return ray.get(call)
    except exceptions.RayTaskError as error:
        if isinstance(error.cause, Exception) and error.cause is not error:
            raise error.cause from error
        raise
    except exceptions.OutOfMemoryError as error:
        raise died(True) from error
    except DEATHS as error:
        raise died(False) from error
