"""The build as a Prefect flow: waves of work shards as tasks, Ray below them, storage beside them as the truth.

A deployment runs `flows.build.build_dataset`; `pairforge build` runs the same job on a server of its own.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.utilities.annotations import quote

from flows.artifacts import ProgressArtifacts, publish_outcome
from flows.job import Outcome, finished, run_job
from flows.metrics import Metrics
from flows.observers import Board, Timings, Watcher
from flows.quiet import silence_ray
from flows.server import LocalServer
from flows.server_runs import crash_stale_runs, wait_for_task_runs
from flows.settings import Settings, read_settings
from flows.source import check_source
from flows.staging import expect_version
from storage.lease import Lease
from tasks.units import Interrupted, Unit, Workers

if TYPE_CHECKING:
    from tasks.remote import Cluster

NAME = "build-dataset"
PUBLISHED = "pairforge.dataset.published"  # an event, of the resource pairforge.dataset.<name>
RUNNER: Any = ThreadPoolTaskRunner(max_workers=2)  # Prefect types it as one that runs nothing
POLL = 0.25  # seconds between looks at a wave
FIRST_WAVE = 4  # units a worker, until it is known how long a unit takes
SHORTEST_WAVE = 10  # units a worker, so that the tail of a wave is short against it
MOST_WAVES = 250  # task runs a stage; seven stages stay below 2,000 a flow run


@flow(name=NAME, task_runner=RUNNER, retries=0)
def build_dataset(settings: str, version: int | None = None) -> dict[str, Any]:
    """Build the dataset that a settings file describes and return what it came to.

    settings: path of a TOML file. version: the dataset version this must come to; None takes whatever it comes to.
    """
    chosen = read_settings(Path(settings))
    check_source(chosen)  # a folder that is not mounted must not become an empty version
    with Lease(Path(chosen.output), owner=f"Prefect flow run {flow_run.get_name()}") as lease:
        if done := finished(chosen):
            expect_version(done.dataset_version, version, Path(chosen.output))
            return {"version": done.dataset_version, "unchanged": True}
        with cluster_of(chosen) as cluster:
            outcome = _build(chosen, cluster, lease, [], version)
    if not outcome.unchanged:
        _announce(chosen, outcome)
    return _told(outcome)


def _announce(settings: Settings, outcome: Outcome) -> None:
    """Tell the server of a new version: what the deployment of a training can wait for (deploy/prefect.yaml)."""
    emit_event(
        event=PUBLISHED,
        resource={"prefect.resource.id": f"pairforge.dataset.{settings.dataset.name}"},
        payload={"output": settings.output, "version": outcome.manifest.dataset_version},
    )


def build_on_server(resolved: Path, settings: Settings, server: LocalServer, watchers: Sequence[Watcher]) -> Outcome:
    """Build as a flow run on `server`, which starts while Ray does; the caller's watchers are told how it goes."""
    outcomes: list[Outcome] = []
    with Lease(Path(settings.output), owner="pairforge build") as lease, cluster_of(settings) as cluster:
        server.wait()

        @flow(name=NAME, task_runner=RUNNER, retries=0)
        def build_here(settings: str, version: int | None = None) -> dict[str, Any]:
            outcomes.append(_build(read_settings(Path(settings)), cluster, lease, watchers, version))
            return _told(outcomes[0])

        build_here(str(resolved))
    return outcomes[0]


def cluster_of(settings: Settings) -> "Cluster":
    """Return the Ray cluster at RAY_ADDRESS, else a local one, to be entered in the main thread."""
    silence_ray()  # before Ray is imported, which reads some of it then
    from tasks.remote import Cluster

    run = settings.run
    return Cluster(
        run.workers or len(os.sched_getaffinity(0)),
        os.environ.get("RAY_ADDRESS"),
        device=run.device,
        gpus_per_actor=run.gpus_per_actor,
        preparers=run.preparers if run.device == "cuda" else 0,  # on the CPU they would take cores from the models
    )


def _build(
    settings: Settings, cluster: "Cluster", lease: Lease, watchers: Sequence[Watcher], version: int | None
) -> Outcome:
    root, run_id = Path(settings.output), UUID(flow_run.get_id())
    _bury_dead_runs(root, run_id)
    with Metrics(root, port=settings.run.metrics_port) as metrics, stopped_by_signals() as stop:
        timings = Timings(root / ".work")
        board = Board(timings, ProgressArtifacts(root), metrics.watch, *watchers)
        waves = Waves(cluster, settings, board, lease, stop)
        try:
            outcome = run_job(settings, waves.run, board, version=version)
        except Interrupted as error:
            raise Interrupted(str(error), stop.number) from error
        finally:
            timings.save()
        metrics.finish(outcome)
    publish_outcome(outcome)
    wait_for_task_runs(run_id, waves.number)
    return outcome


def _bury_dead_runs(root: Path, run_id: UUID) -> None:
    """Tag this flow run with its dataset, and set right what earlier runs that were killed left as running."""
    tag = f"dataset:{root}"
    with get_client(sync_client=True) as client:
        client.update_flow_run(run_id, tags=[*flow_run.get_tags(), tag])
    crash_stale_runs(tag, keep=run_id)


class Stop(threading.Event):
    """Set by a signal; says which."""

    number: int = 0


@contextmanager
def stopped_by_signals() -> Iterator[Stop]:
    """Yield an event that SIGINT and SIGTERM set; entered after ray.init, which takes SIGTERM for itself."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def set_it(number: int, _: FrameType | None) -> None:
        stop.number = number
        stop.set()

    before = {number: signal.signal(number, set_it) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@task(name="wave", retries=0, cache_policy=NO_CACHE, persist_result=False)
def run_wave(stage: str, number: int, work: Any) -> int:
    """Run one wave of units; returns how many. Retries happen below, around each shard."""
    workers, units, on_done, stop = work
    return len(workers.run(units, on_done=on_done, stop=stop))


class Waves:
    """Runs the units of a stage wave by wave, each a Prefect task of about a minute. number: waves begun so far."""

    def __init__(self, cluster: Workers, settings: Settings, board: Board, lease: Lease, stop: Stop) -> None:
        self._cluster, self._board, self._lease, self._stop = cluster, board, lease, stop
        self._workers = settings.run.workers or len(os.sched_getaffinity(0))
        self._seconds = settings.run.wave_seconds
        self.number = 0

    def run(self, stage: str, units: Sequence[Unit]) -> None:
        """Run the units of `stage`, the largest first."""
        ordered = sorted(units, key=lambda unit: -unit.cost)
        least = max(SHORTEST_WAVE * self._workers, -(-len(ordered) // MOST_WAVES))
        done, size, began = 0, FIRST_WAVE * self._workers, time.monotonic()
        while done < len(ordered):
            self._lease.check()
            wave = ordered[done : done + size]
            self._run_wave(stage, wave)
            done += len(wave)
            seconds_a_unit = (time.monotonic() - began) / done
            size = max(least, int(self._seconds / max(seconds_a_unit, 1e-3)))
        self._board.flush(final=True)

    def _run_wave(self, stage: str, units: Sequence[Unit]) -> None:
        self.number += 1
        named = run_wave.with_options(task_run_name=f"{stage.replace(' ', '-')}-{self.number:04d}")
        work = (self._cluster, units, lambda report: self._board.unit_done(stage, report), self._stop)
        ended = threading.Event()
        future = named.submit(stage, self.number, quote(work))
        future.add_done_callback(lambda _: ended.set())  # its state is known here seconds before it is on the server
        while not ended.wait(POLL):
            self._board.flush()
        future.result()


def _told(outcome: Outcome) -> dict[str, Any]:
    return {
        "version": outcome.manifest.dataset_version,
        "unchanged": outcome.unchanged,
        "images": dict(outcome.images),
        "pairs": dict(outcome.pairs),
    }
