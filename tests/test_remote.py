"""Units on a real Ray: one cluster for the module, and two drivers in processes of their own."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

from storage.commits import read_commit
from storage.errors import PairForgeError, SourceError
from storage.records import ShardReport, WorkShard
from tasks.units import InProcess, Interrupted, Unit, Workers
from tests.quiet_ray import quiet_ray

pytestmark = pytest.mark.stack
ROOT = Path(__file__).parents[1]
STAGE = "stages_for_remote"


@pytest.fixture(scope="module")
def stages() -> Iterator[None]:
    """The stage's module, importable here and by every process started from here."""
    with quiet_ray():
        yield


@pytest.fixture(scope="module")
def cluster(stages: None) -> Iterator[Workers]:
    from tasks.remote import Cluster

    with Cluster(2) as workers:
        yield workers


def units(folder: Path, count: int, *, actor: bool = False, **options: object) -> list[Unit]:
    from stages_for_remote import Options

    folder.mkdir(exist_ok=True)
    shards = [
        WorkShard(stage="test", bucket=f"{n}", inputs=(f"{n}a", f"{n}b", f"{n}c"), output=str(folder / f"{n}"), seed=0)
        for n in range(count)
    ]
    return [Unit(stage=STAGE, shard=shard, options=Options(**options), actor=actor) for shard in shards]


def run(workers: Workers, work: list[Unit], stop: threading.Event | None = None) -> list[ShardReport]:
    return workers.run(work, on_done=lambda report: None, stop=stop or threading.Event())


def notes(folder: Path, suffix: str = "notes") -> list[list[str]]:
    return [line.split() for path in folder.glob(f"*.{suffix}") for line in path.read_text().splitlines()]


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nonsense"])
def test_given_cluster_that_is_not_there_is_named_with_the_fix(stages: None, address: str) -> None:
    from tasks.remote import Cluster

    with pytest.raises(PairForgeError, match=f"no Ray cluster answers at {address}: .*RAY_ADDRESS"):
        Cluster(2, address).__enter__()


@pytest.mark.parametrize("actor", [False, True])
def test_two_workers_do_what_one_process_does(cluster: Workers, tmp_path: Path, actor: bool) -> None:
    seen: list[ShardReport] = []
    with InProcess() as alone:
        expected = run(alone, units(tmp_path / "one", 7, actor=actor))
    reports = cluster.run(units(tmp_path / "two", 7, actor=actor), on_done=seen.append, stop=threading.Event())
    assert [replace(report, shard=expected[n].shard) for n, report in enumerate(reports)] == expected
    assert sorted(report.shard.bucket for report in seen) == [report.shard.bucket for report in reports]
    assert all(read_commit(report.shard.output) == report for report in reports)


def test_workers_are_single_threaded_processes(cluster: Workers, tmp_path: Path) -> None:
    run(cluster, units(tmp_path, 2) + units(tmp_path / "actors", 2, actor=True))
    lines = notes(tmp_path) + notes(tmp_path / "actors")
    assert {(cv2_threads, omp_threads) for _, cv2_threads, omp_threads, *_ in lines} == {("1", "1")}
    assert str(os.getpid()) not in {pid for pid, *_ in lines}


@pytest.mark.parametrize("actor", [False, True])
def test_image_that_kills_its_worker_costs_only_itself(cluster: Workers, tmp_path: Path, actor: bool) -> None:
    reports = run(cluster, units(tmp_path, 5, actor=actor, dies=("1b",)))
    assert [(report.kept, dict(report.rejected)) for report in reports] == [
        (2, {"crash": 1}) if n == 1 else (3, {}) for n in range(5)
    ]
    assert [path.name for path in tmp_path.glob("*.quarantine.json")] == ["1.quarantine.json"]


def test_image_that_kills_its_worker_once_costs_nothing(cluster: Workers, tmp_path: Path) -> None:
    reports = run(cluster, units(tmp_path, 3, dies_once=("1b",)))
    assert [report.kept for report in reports] == [3, 3, 3]
    assert len(notes(tmp_path)) == 4
    assert list(tmp_path.glob("*.quarantine.json")) == []


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("source", SourceError, "cat.jpg is not an image"),
        ("full", OSError, "No space left"),
        ("value", ValueError, "got 1.4"),
        ("memory", PairForgeError, "test 0 needs more memory"),
    ],
)
def test_errors_of_a_worker_arrive_as_themselves(
    cluster: Workers, tmp_path: Path, how: str, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        run(cluster, units(tmp_path, 1, raises=how))
    assert caught.type is kind
    assert not isinstance(caught.value, OSError) or caught.value.errno == errno.ENOSPC
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("how", ["network once", "memory once"])
def test_what_may_pass_is_tried_again(cluster: Workers, tmp_path: Path, how: str) -> None:
    assert [report.kept for report in run(cluster, units(tmp_path, 2, raises=how))] == [3, 3]


def test_weights_are_loaded_once_by_each_actor_until_their_stage_is_retired(cluster: Workers, tmp_path: Path) -> None:
    for wave in range(3):
        run(cluster, units(tmp_path / f"{wave}", 6, actor=True))
    loaded = {model for wave in range(3) for (model,) in notes(tmp_path / f"{wave}", "model")}
    cluster.retire(STAGE)
    run(cluster, units(tmp_path / "after", 2, actor=True))
    assert 1 <= len(loaded) <= 2
    assert loaded.isdisjoint(model for (model,) in notes(tmp_path / "after", "model"))


def test_error_while_loading_weights_arrives_as_itself(cluster: Workers, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there are no weights"):
        run(cluster, units(tmp_path, 1, actor=True, raises="load"))


@pytest.mark.parametrize("actor", [False, True])
def test_stop_event_ends_the_wave_and_what_is_in_flight(cluster: Workers, tmp_path: Path, actor: bool) -> None:
    stop, began = threading.Event(), time.monotonic()
    threading.Timer(0.5, stop.set).start()
    with pytest.raises(Interrupted):
        run(cluster, units(tmp_path / "slow", 6, actor=actor, seconds=60), stop)
    assert time.monotonic() - began < 5
    run(cluster, units(tmp_path / "next", 2))
    assert time.monotonic() - began < 30  # not the three minutes that each abandoned unit would take
    assert list((tmp_path / "slow").glob("*.txt")) == []


DRIVER = """
import logging, os, threading
from pathlib import Path
from flows.quiet import silence
silence(Path("/nonexistent"))
logging.disable()
from tasks.remote import Cluster
from test_remote import units
with Cluster(2, {address!r}) as cluster:
    print(os.getpid(), flush=True)
    cluster.run(units(Path({folder!r}), 3, **{options!r}), on_done=lambda report: None, stop=threading.Event())
print("done")
"""


def start_driver(folder: Path, address: str | None = None, **options: object) -> subprocess.Popen[str]:
    """Start a driver from inside another checkout, whose packages fail when imported."""
    other = folder / "other-checkout"
    for package in ("storage", "tasks"):
        (other / package).mkdir(parents=True)
        (other / package / "__init__.py").write_text("raise RuntimeError('the other checkout')")
    script = folder / "driver" / "driver.py"
    script.parent.mkdir()
    script.write_text(DRIVER.format(address=address, folder=str(folder / "out"), options=options))
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(script)],
        cwd=other,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def sessions(pid: int) -> list[Path]:
    return list((Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp") / "ray").glob(f"s*_{pid}"))


def members(session: Path) -> list[str]:
    """The processes whose command line or log names the session."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            log = str((process / "fd" / "1").readlink()) if process.name.isdigit() else ""
            if log.startswith(f"{session}/") or session.name.encode() in (process / "cmdline").read_bytes():
                found.append(process.name)
        except OSError:
            continue
    return found


def until(condition: Callable[[], object], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not (met := bool(condition())) and time.monotonic() < end:
        time.sleep(0.05)
    return met


def test_given_cluster_is_used_and_left_running(cluster: Workers, tmp_path: Path) -> None:
    import ray

    driver = start_driver(tmp_path, ray.get_runtime_context().gcs_address)
    output, errors = driver.communicate(timeout=120)
    assert (output, errors) == (f"{driver.pid}\ndone\n", "")
    assert sessions(driver.pid) == []
    assert len(run(cluster, units(tmp_path / "after", 2))) == 2


def test_run_inside_another_checkout_is_ours_silent_and_leaves_nothing(stages: None, tmp_path: Path) -> None:
    driver = start_driver(tmp_path, dies=("1b",))
    output, errors = driver.communicate(timeout=120)
    assert (output, errors, driver.returncode) == (f"{driver.pid}\ndone\n", "", 0)
    assert len(list((tmp_path / "out").glob("*.txt"))) == 3
    assert sessions(driver.pid) == []


def test_kill_9_of_the_driver_orphans_nothing(stages: None, tmp_path: Path) -> None:
    driver = start_driver(tmp_path, seconds=60)
    assert until(lambda: list((tmp_path / "out").glob("*.on")), 60)
    (session,) = sessions(driver.pid)
    assert len(members(session)) >= 5
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    assert until(lambda: not members(session), 5), members(session)
    assert until(lambda: not session.exists(), 5)


def test_actors_and_plain_tasks_of_one_wave_work_at_the_same_time(cluster: Workers, tmp_path: Path) -> None:
    run(cluster, units(tmp_path / "loaded", 4, actor=True, seconds=0.1))  # starting a process takes seconds under load
    work = [*units(tmp_path / "cpu", 8, seconds=0.3), *units(tmp_path / "model", 4, actor=True, seconds=0.1)]
    run(cluster, work)
    begun = {kind: sorted(float(line[-1]) for line in notes(tmp_path / kind)) for kind in ("cpu", "model")}
    assert begun["cpu"][0] < begun["model"][-1]
    assert begun["model"][0] < begun["cpu"][-1]


@pytest.mark.parametrize(("gpus", "share", "actors"), [(1, 0.5, 2), (4, 0.5, 6), (4, 1, 4), (4, 2, 2), (1, 0.25, 4)])
def test_actors_share_gpus_as_asked(stages: None, gpus: int, share: float, actors: int) -> None:
    from tasks.remote import Cluster

    with patch("ray.cluster_resources", lambda: {"CPU": 6, "GPU": gpus}):
        assert Cluster(6, device="cuda", gpus_per_actor=share)._actors() == actors


def test_a_gpu_that_is_not_there_is_told_with_the_fix(cluster: Workers) -> None:
    from tasks.remote import Cluster

    with pytest.raises(PairForgeError, match=r'Ray sees 0 GPUs .* run.device = "cpu"'):
        Cluster(2, device="cuda")._actors()
