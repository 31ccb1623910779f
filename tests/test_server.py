"""The Prefect server of a run, for real: one for the module, and launches that are ended before it is healthy."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from unittest.mock import patch
from uuid import UUID

import pytest

from flows.quiet import data_folder, silence
from flows.server import LocalServer
from flows.server_runs import crash_stale_runs, wait_for_task_runs
from storage.errors import PairForgeError

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    folder = tmp_path_factory.mktemp("data")
    with patch.dict(os.environ):
        os.environ.pop("PREFECT_API_URL", None)
        silence(folder)
        with LocalServer(folder) as running:
            running.wait()
            yield running


@pytest.fixture
def no_server() -> Iterator[None]:
    with patch.dict(os.environ):
        os.environ.pop("PREFECT_API_URL", None)
        yield


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def until(condition: Callable[[], object], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not (met := bool(condition())) and time.monotonic() < end:
        time.sleep(0.02)
    return met


def children() -> set[int]:
    return {int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


def test_silence_keeps_what_the_user_set(tmp_path: Path) -> None:
    with patch.dict(os.environ, {"PREFECT_API_URL": "http://mine/api", "PREFECT_LOGGING_LEVEL": "DEBUG"}, clear=True):
        silence(tmp_path)
        assert os.environ["PREFECT_API_URL"] == "http://mine/api"
        assert os.environ["PREFECT_LOGGING_LEVEL"] == "DEBUG"
        assert os.environ["PREFECT_HOME"] == str(tmp_path / "prefect")
        assert (os.environ["RAY_AUTH_MODE"], len(os.environ["RAY_AUTH_TOKEN"])) == ("token", 64)


def test_given_ray_cluster_keeps_its_own_authentication(tmp_path: Path) -> None:
    with patch.dict(os.environ, {"RAY_ADDRESS": "10.0.0.1:6379"}, clear=True):
        silence(tmp_path)
        assert not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"} & os.environ.keys()


def test_data_folder_follows_xdg(tmp_path: Path) -> None:
    with patch.dict(os.environ, {"XDG_DATA_HOME": str(tmp_path)}):
        assert data_folder() == tmp_path / "pairforge"


def test_given_server_that_is_not_there_is_named_with_the_fix(no_server: None, tmp_path: Path) -> None:
    os.environ["PREFECT_API_URL"] = "http://127.0.0.1:9/api"
    with pytest.raises(PairForgeError, match=r"http://127.0.0.1:9/api .*correct PREFECT_API_URL or unset it"):
        LocalServer(tmp_path).launch()


@pytest.mark.parametrize("status", [401, 503])
def test_given_server_that_is_not_healthy_is_refused(no_server: None, tmp_path: Path, status: int) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(status)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Answer) as web:
        thread = threading.Thread(target=web.handle_request)
        thread.start()
        os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{web.server_port}/api"
        with pytest.raises(PairForgeError, match=f"HTTP {status}"):
            LocalServer(tmp_path).launch()
        thread.join()


@pytest.mark.stack
def test_ended_server_leaves_no_process_and_its_log_rotates(no_server: None, tmp_path: Path) -> None:
    (tmp_path / "prefect-server.log").write_bytes(b"x" * 2**20 + b"x")
    before = children()
    with LocalServer(tmp_path) as server:
        assert os.environ["PREFECT_API_URL"] == server.url
        assert until(lambda: children() - before, 5)
    assert children() <= before
    assert "PREFECT_API_URL" not in os.environ
    assert (tmp_path / "prefect-server.log.1").stat().st_size > 2**20 > (tmp_path / "prefect-server.log").stat().st_size


LAUNCH = """
import os, sys, time
from pathlib import Path
from flows.server import LocalServer
server = LocalServer(Path(sys.argv[1])).__enter__()
while not (pid := Path(f"/proc/self/task/{server._keeper.native_id}/children").read_text()):
    time.sleep(0.01)
time.sleep(float(sys.argv[2]))
print(pid, flush=True)
time.sleep(60)
"""


@pytest.mark.stack
@pytest.mark.parametrize("seconds", [0, 1])
def test_kill_9_of_the_driver_ends_its_server(no_server: None, tmp_path: Path, seconds: float) -> None:
    command = [sys.executable, "-c", LAUNCH, str(tmp_path), str(seconds)]
    driver = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    pid = int(driver.stdout.readline())
    assert alive(pid)
    driver.kill()
    driver.communicate()
    assert until(lambda: not alive(pid), 5)


BURST = """
from pathlib import Path
from flows.quiet import silence
silence(Path("/nonexistent"))
from prefect import flow, tags, task
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

@task
def nothing(number): return number

@flow(task_runner=ThreadPoolTaskRunner(max_workers=8))
def burst():
    assert [future.result() for future in nothing.map(range(100))] == list(range(100))
    return flow_run.get_id()

with tags("dataset:/burst"):
    print(burst())
"""


@pytest.mark.stack
def test_every_task_run_of_a_burst_is_recorded_and_the_terminal_stays_silent(
    server: LocalServer, tmp_path: Path
) -> None:
    (tmp_path / "burst.py").write_text(BURST)
    command = [sys.executable, "-W", "error", str(tmp_path / "burst.py")]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert (done.returncode, done.stderr, len(done.stdout.split())) == (0, "", 1), done.stderr
    flow_run = UUID(done.stdout.strip())
    assert wait_for_task_runs(flow_run, 100, timeout=30) == 100
    assert wait_for_task_runs(flow_run, 101, timeout=0) == 100


@pytest.mark.stack
def test_runs_of_a_dead_builder_are_set_to_crashed_and_others_are_left(server: LocalServer) -> None:
    from prefect import flow, task
    from prefect.client.orchestration import get_client
    from prefect.states import Running

    @flow
    def build() -> None: ...

    @task
    def wave() -> None: ...

    with get_client(sync_client=True) as client:
        runs = [client.create_flow_run(build, state=Running(), tags=[tag]) for tag in ("mine", "mine", "other")]
        waves = [client.create_task_run(wave, run.id, dynamic_key="0", state=Running()) for run in runs]
        assert crash_stale_runs("mine", keep=runs[1].id) == 2
        names = [client.read_flow_run(run.id).state_type.name for run in runs]
        assert names == [client.read_task_run(run.id).state_type.name for run in waves]
    assert names == ["CRASHED", "RUNNING", "RUNNING"]


@pytest.mark.stack
def test_server_that_dies_is_back_at_the_same_address(server: LocalServer) -> None:
    url, said = server.url, []
    server._progress = lambda what, seconds: said.append(what)
    pid = int(Path(f"/proc/self/task/{server._keeper.native_id}/children").read_text())
    os.kill(pid, signal.SIGKILL)
    assert until(lambda: not alive(pid), 5)
    assert server.wait() == url
    assert said
