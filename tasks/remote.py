"""Units on Ray: plain tasks for CPU stages, pools of long-lived actors for stages with weights (`tasks.ray_actors`).

At most 2 x workers are in flight. With `tasks.ray_actors` and the trainer's the only code that imports Ray. Set the
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
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

import cv2
import ray

from storage.errors import PairForgeError
from storage.records import ShardReport
from tasks.permits import permit, permitted
from tasks.ray_actors import QUEUE, Pool, result_of, timed
from tasks.units import Done, InProcess, Interrupted, Unit, Workers, execute, pool_key, raise_if_stopped
from tasks.watchdog import Watchdog
from tasks.waves import POLL, Call, Lane, Outcome, Wave, WorkerDiedError

__all__ = ["Cluster", "InProcess", "Interrupted", "Unit", "Workers", "execute"]

OBJECT_STORE = 100 * 2**20  # bytes; only URIs and reports pass through it
PREPARED_STORE = 2 * 2**30  # bytes, where groups of images do; what has no room is spilled to disk by Ray
ENVIRONMENT = {  # of the workers
    "OMP_NUM_THREADS": "1",
    # glibc hands what is freed back to the system at once, and new arrays cost a page fault for each 4 kB: 3 to 7 %
    # of the time of degrade and measure. So up to 256 MB of it stay with the worker.
    "MALLOC_MMAP_THRESHOLD_": str(2**28),
    "MALLOC_TRIM_THRESHOLD_": str(2**28),
}


class Cluster:
    """Runs units on the Ray cluster at `address`, or on a local one with `workers` CPUs for as long as the block.

    Enter it in the main thread: Ray's processes die with the thread that started them. `run` may be called from any.
    device: "cpu", or "cuda" to spread actors over the GPUs, each taking `gpus_per_actor` of one: at a half two share
    one, so that it computes while one writes. preparers: plain tasks that make groups ready for each actor, and as many
    that finish what it found; without any it does both itself, which on a CPU is as quick.
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
        self._pools: dict[str, Pool] = {}
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

    def pool(self, unit: Unit) -> Pool:
        """Return the actors that hold the weights `unit` needs."""
        key = pool_key(unit)
        if key not in self._pools:
            gpus = self._gpus_per_actor if self._device == "cuda" else 0.0
            devices = [self._device] * self._actors()
            self._pools[key] = Pool(unit.stage, unit.options, devices, gpus=gpus, preparers=self._preparers)
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
            result: tuple[ShardReport, float] = result_of(call, WorkerDiedError)
        except Exception as error:  # whatever the stage raised: the wave says what becomes of it
            return error
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


def _work(unit: Unit, allowed: Path | None) -> tuple[ShardReport, float]:
    """On the worker: one unit of a CPU stage, for as long as its permit is there."""
    cv2.setNumThreads(1)
    with permitted(allowed):
        return timed(unit, None)


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
