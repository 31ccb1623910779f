"""Units on Ray: the only code that imports it.

Plain tasks for CPU stages, a pool of long-lived actors for stages with weights, at most 2 x workers in flight. Where
actors compute on GPUs, plain tasks beside them make ready what they are given: decoded, resized, normalised. Set the
environment of `flows.quiet` before importing this module: Ray reads some of it at import.

`ray.cancel` is not used: when it meets a task that is about to end, with or without `force`, Ray 2.60 aborts the driver
("Tried to complete task that was not pending"). Instead a local worker ends itself when its wave's permit, a file, is
gone; on a given cluster the tasks of an abandoned wave run to their end.
"""

import contextlib
import os
import shutil
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import cv2
import ray
from pydantic import BaseModel
from ray import exceptions

from storage.errors import PairForgeError
from storage.records import ShardReport
from tasks.permits import permit, permitted
from tasks.preparing import Ahead
from tasks.progress import may_work_together
from tasks.units import Done, InProcess, Interrupted, Opened, Unit, Workers, execute, pool_key, raise_if_stopped
from tasks.watchdog import Watchdog
from tasks.waves import POLL, Call, Lane, Outcome, PreparerDiedError, Wave, WorkerDiedError

__all__ = ["Cluster", "InProcess", "Interrupted", "Unit", "Workers", "execute"]

QUEUE = 2  # calls per worker: one runs, one is already there when it ends
OBJECT_STORE = 100 * 2**20  # bytes; only URIs and reports pass through it
PREPARED_STORE = 2 * 2**30  # bytes, where groups of images do; what has no room is spilled to disk by Ray
ENVIRONMENT = {  # of the workers
    "OMP_NUM_THREADS": "1",
    # glibc hands what is freed back to the system at once, and new arrays cost a page fault for each 4 kB: 3 to 7 %
    # of the time of degrade and measure. So up to 256 MB of it stay with the worker.
    "MALLOC_MMAP_THRESHOLD_": str(2**28),
    "MALLOC_TRIM_THRESHOLD_": str(2**28),
}
DEATHS = (exceptions.WorkerCrashedError, exceptions.NodeDiedError, exceptions.RayActorError)


class Cluster:
    """Runs units on the Ray cluster at `address`, or on a local one with `workers` CPUs for as long as the block.

    Enter it in the main thread: Ray's processes die with the thread that started them. `run` may be called from any.
    device: "cpu", or "cuda" to spread actors over the GPUs, each taking `gpus_per_actor` of one: at a half two share
    one, so that it computes while one writes. preparers: plain tasks that make groups ready for each actor; without any
    it does so itself, which on a CPU is as quick.
    """

    def __init__(
        self,
        workers: int,
        address: str | None = None,
        *,
        device: str = "cpu",
        gpus_per_actor: float = 0.5,
        preparers: int = 0,
    ) -> None:
        self.workers = workers
        self._address = address
        self._device = device
        self._gpus_per_actor = gpus_per_actor
        self._preparers = preparers
        self._pools: dict[str, _Pool] = {}
        self._abandoned: set[Call] = set()
        self._turn = threading.Lock()  # of the waves that use actors: one at a time

    def __enter__(self) -> Self:
        assert threading.current_thread() is threading.main_thread(), "Ray would die with this thread"
        owned: dict[str, str] = {}
        with contextlib.ExitStack() as stack:
            if self._address is None:
                owned = stack.enter_context(Watchdog(_temporary())).environment
            stack.callback(ray.shutdown)
            self._session = self._connect(owned)
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._pools.clear()
        if self._address is None and error and error[0] is Interrupted:
            return  # the process ends now, and the watchdog ends Ray: quicker than Ray does itself
        self._exit.close()

    def run(self, units: Iterable[Unit], *, on_done: Done, stop: threading.Event) -> list[ShardReport]:
        """See `Workers.run`; what a stage raised comes as itself, PairForgeError where memory is too small."""
        units = list(units)
        self._await_abandoned(stop)
        with contextlib.ExitStack() as stack:
            if any(unit.actor for unit in units):
                stack.enter_context(self._taken(stop))
            tasks = _Tasks(QUEUE * self.workers, stack.enter_context(permit(self._session)), self._abandoned)
            return Wave(units, _Ray(self, tasks), on_done, stop).run()

    def retire(self, stage: str) -> None:
        """End the actors of `stage`, so that their memory is free."""
        with self._turn:
            for key in [key for key in self._pools if key.startswith(f"{stage}:")]:
                self._pools.pop(key).close()

    def pool(self, unit: Unit) -> "_Pool":
        """Return the actors that hold the weights `unit` needs."""
        key = pool_key(unit)
        if key not in self._pools:
            gpus = self._gpus_per_actor if self._device == "cuda" else 0.0
            devices = [self._device] * self._actors()
            self._pools[key] = _Pool(unit.stage, unit.options, devices, gpus=gpus, preparers=self._preparers)
        return self._pools[key]

    def _connect(self, owned: dict[str, str]) -> Path | None:
        """Start or find Ray; return the session's folder of a local one, whose processes inherit `owned`."""
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        # Ray puts the driver's working folder first on the workers' path: it must be that of our packages.
        with contextlib.chdir(Path(__file__).parents[1]), _environment(**ENVIRONMENT, **owned):
            if self._address is None:
                store = _room(PREPARED_STORE) if self._preparers else OBJECT_STORE
                local = {"num_cpus": self.workers, "object_store_memory": store, "include_dashboard": False}
                return Path(ray.init(address="local", **local, **quiet).address_info["session_dir"])
            try:
                _probe(self._address)
                ray.init(address=self._address, **quiet)
                return None
            except (OSError, RuntimeError, ValueError) as error:
                message = f"no Ray cluster answers at {self._address}: start it, correct RAY_ADDRESS or unset it"
                raise PairForgeError(message) from error

    def _await_abandoned(self, stop: threading.Event) -> None:
        """Wait for the tasks of an abandoned wave, so that no shard is done twice at once."""
        while self._abandoned:
            raise_if_stopped(stop)
            self._abandoned.difference_update(ray.wait(list(self._abandoned), timeout=POLL)[0])

    @contextlib.contextmanager
    def _taken(self, stop: threading.Event) -> Iterator[None]:
        while not self._turn.acquire(timeout=POLL):
            raise_if_stopped(stop)
        try:
            yield
        finally:
            self._turn.release()

    def _actors(self) -> int:
        """Return how many actors a pool may have; raises PairForgeError where a GPU is wanted and there is none."""
        if self._device != "cuda":
            return self.workers
        gpus = float(ray.cluster_resources().get("GPU", 0))
        actors = int(gpus / self._gpus_per_actor + 1e-9)
        if not actors:
            raise PairForgeError(
                f"run.device is cuda, but Ray sees {gpus:g} GPUs and each worker of a model wants "
                f'{self._gpus_per_actor:g}: correct run.gpus_per_actor, or set run.device = "cpu"'
            )
        return min(actors, self.workers) if self._gpus_per_actor < 1 else actors


class _Ray:
    """The engine of one wave."""

    def __init__(self, cluster: Cluster, tasks: "_Tasks") -> None:
        self._cluster = cluster
        self._tasks = tasks

    def lane(self, unit: Unit) -> Lane:
        return self._cluster.pool(unit) if unit.actor else self._tasks

    def wait(self, calls: list[Call], *, count: int, seconds: float) -> list[Call]:
        ended: list[Call] = ray.wait(calls, num_returns=count, timeout=seconds)[0]
        return ended

    def outcome(self, call: Call) -> Outcome:
        try:
            result: tuple[ShardReport, float] = ray.get(call)
        except exceptions.RayTaskError as error:
            return _as_itself(error)
        except exceptions.OutOfMemoryError as error:
            return _caused(WorkerDiedError(True), error)
        except DEATHS as error:
            return _caused(WorkerDiedError(False), error)
        return result


class _Tasks:
    """Plain Ray tasks, one CPU each."""

    def __init__(self, limit: int, allowed: Path | None, abandoned: set[Call]) -> None:
        self._limit = limit
        self._permit = allowed
        self._abandoned = abandoned
        self._flying: set[Call] = set()
        self._remote = ray.remote(num_cpus=1, max_retries=0)(_work)

    def has_room(self) -> bool:
        return len(self._flying) < self._limit

    def submit(self, unit: Unit) -> Call:
        call = self._remote.remote(unit, self._permit)
        self._flying.add(call)
        return call

    def finish(self, call: Call) -> None:
        self._flying.discard(call)

    def bury(self, call: Call) -> list[Call]:
        self._flying.discard(call)
        return [call]

    def abandon(self, call: Call) -> None:
        self._flying.discard(call)
        self._abandoned.add(call)


@dataclass(eq=False, slots=True)
class _Member:
    """An actor of a pool and its calls, the oldest, which is the one it is on, first."""

    actor: Any
    device: str
    calls: deque[Call] = field(default_factory=deque)
    begun: int = 0  # calls, ended ones too


class _Pool:
    """Actors that hold the weights of one stage, one per entry of `devices`, made when first needed.

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
        return bool(self._free) or any(len(member.calls) < QUEUE for member in self._members)

    def submit(self, unit: Unit) -> Call:
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
        for member in self._members:
            if call in member.calls:
                member.calls.remove(call)

    def bury(self, call: Call) -> list[Call]:
        return [call for member in self._owners(call) for call in self._end(member)]

    def abandon(self, call: Call) -> None:
        for member in self._owners(call):  # none, when it ended with a call before
            self._end(member)

    def close(self) -> None:
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
    ready by plain tasks ahead of their turn.
    """

    def __init__(self, stage: str, options: BaseModel, preparers: int, device: str) -> None:
        cv2.setNumThreads(1)
        self._preparers = preparers
        self._prepare = ray.remote(num_cpus=1, max_retries=0)(_prepare)
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
            prepared = self._ahead(unit)
            self._await_turn(number)
            return _timed(unit, self._opened, prepared)
        finally:
            self._await_turn(number)  # also where nothing could be begun: turns end in their order
            with self._turn:
                self._next += 1
                self._turn.notify_all()

    def _ahead(self, unit: Unit) -> Iterable[Any] | None:
        """Begin to make the groups of `unit` ready elsewhere; not after a death: here it is known which image it is."""
        if not self._preparers or not may_work_together(unit.shard):
            return None
        groups = import_module(unit.stage).groups(unit.shard, unit.options)
        begin = partial(self._prepare.remote, unit.stage, unit.options)
        return Ahead(groups, begin=begin, result=_prepared, count=self._preparers)

    def _await_turn(self, number: int) -> None:
        with self._turn:
            self._turn.wait_for(lambda: self._next == number)


def _prepare(stage: str, options: BaseModel, group: Any) -> Any:  # a group, and what is made of it, are the stage's
    """On a worker beside the actor: one group, made ready."""
    cv2.setNumThreads(1)
    return import_module(stage).prepare(group, options)


def _prepared(call: Call) -> Any:
    try:
        return ray.get(call)
    except exceptions.RayTaskError as error:
        raise _as_itself(error) from error
    except exceptions.OutOfMemoryError as error:
        raise PreparerDiedError(True) from error
    except (*DEATHS, exceptions.ObjectLostError) as error:
        raise PreparerDiedError(False) from error


def _work(unit: Unit, allowed: Path | None) -> tuple[ShardReport, float]:
    """On the worker: one unit of a CPU stage, for as long as its permit is there."""
    cv2.setNumThreads(1)
    with permitted(allowed):
        return _timed(unit, None)


def _timed(unit: Unit, opened: Opened | None, prepared: Iterable[Any] | None = None) -> tuple[ShardReport, float]:
    begun = time.monotonic()
    return execute(unit, opened, prepared), time.monotonic() - begun


def _as_itself(error: Any) -> Exception:  # Any: a RayTaskError; Ray's types are not followed
    """Return what the stage raised, with the worker's traceback as its cause."""
    cause = error.cause
    return _caused(cause, error) if isinstance(cause, Exception) and cause is not error else error


def _caused(raised: Exception, cause: Exception) -> Exception:
    raised.__cause__ = cause
    return raised


def _probe(address: str) -> None:
    """Raise OSError unless something listens at a "host:port" within 5 s: Ray tries for minutes, and not silently."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()


def _temporary() -> Path:
    """Return the folder where Ray puts its sessions, by its own rule."""
    return Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp") / "ray"  # noqa: S108


def _room(wanted: int) -> int:
    """Return the bytes of an object store: `wanted`, if half of the free shared memory holds as much."""
    shared = Path("/dev/shm")  # noqa: S108
    free = shutil.disk_usage(shared).free if shared.is_dir() else 0
    return max(OBJECT_STORE, min(wanted, free // 2))


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set environment variables that Ray hands on to its workers, for as long as the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
