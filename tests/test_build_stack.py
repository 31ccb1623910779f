"""The same promises through the command, a Prefect server and Ray: real processes, really killed."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import pytest

from flows.dataset import Dataset
from flows.server import LocalServer
from tests.builds import build_here, settings_for, tree, write_photographs

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

START = 120.0  # seconds until a stage must have committed something, on a busy machine
TABLES = {"mixture": {"variants": 9, "validation": 0.2}}
SETTINGS = """
seed = 0
output = "{output}"
[source]
folder = "{folder}"
[clean]
min_side = 256
[mixture]
variants = 9
validation = 0.2
[filters.strength]
measured = false
[run]
workers = 2
"""

# What a worker does when it meets the image that kills it: a decoder with a bug, as far as the build can tell.
POISON = """
import sys
if "ray" in " ".join(sys.argv) or "default_worker" in " ".join(sys.argv):
    import importlib.abc, importlib.util

    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name != "tasks.decode":
                return None
            sys.meta_path.remove(self)
            spec = importlib.util.find_spec(name)
            load = spec.loader.exec_module

            def exec_module(module):
                load(module)
                real = module.decode

                def decode(data, **options):
                    if b"POISON" in data[-64:]:
                        import os
                        os._exit(11)
                    return real(data, **options)

                module.decode = decode

            spec.loader.exec_module = exec_module
            return spec

    sys.meta_path.insert(0, Finder())
"""


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return write_photographs(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="module")
def expected(photographs, tmp_path_factory):
    """The dataset that one process makes, one unit after the other."""
    root = tmp_path_factory.mktemp("expected") / "dataset"
    build_here(settings_for(photographs, root, **TABLES))
    return tree(root)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One Prefect server for all builds here but the one that starts its own."""
    with LocalServer(tmp_path_factory.mktemp("server")) as running:
        running.wait()
        yield running.url


def _command(photographs, output, folder):
    file = folder / "build.toml"
    file.write_text(SETTINGS.format(output=output, folder=photographs))
    return [sys.executable, "-m", "flows", "build", str(file), "--json"]


def _start(command, url, **environment):
    known = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "RAY"))}
    given = {"PREFECT_API_URL": url} if url else {}
    root = str(Path(__file__).parents[1])
    path = os.pathsep.join([*environment.pop("paths", ()), root])
    return subprocess.Popen(
        command,
        env={**known, **given, **environment, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _commits(root, stage):
    return len(list((root / ".work" / stage).glob("*.json")))


def _wait_for_commits(root, stage, count, process):
    deadline = time.monotonic() + START
    while _commits(root, stage) < count:
        assert time.monotonic() < deadline, "no commit came"
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)


def _seconds_of_children():
    """Return the CPU-seconds of all processes that this one has waited for."""
    spent = os.times()
    return spent.children_user + spent.children_system


def _processes_of(marker):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            except OSError:
                continue
            if marker.encode() in environment and int(entry.name) != os.getpid():
                found.append((entry.name, command.replace(b"\0", b" ")[:300]))
    return found


def test_the_command_builds_what_one_process_builds_and_says_nothing_else(photographs, expected, tmp_path):
    process = _start(_command(photographs, tmp_path / "dataset", tmp_path), None, XDG_DATA_HOME=str(tmp_path / "data"))
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    assert json.loads(out)["pairs"] == sum(1 for row in Dataset(tmp_path / "dataset").rows("pairs") if row["shard"])
    assert tree(tmp_path / "dataset") == expected
    allowed = ("starting", "crawl", "clean", "measure", "annotate", "degrade", "pack")
    assert all(line.startswith(allowed) for line in err.splitlines()), err
    again = _start(_command(photographs, tmp_path / "dataset", tmp_path), None)
    before = _seconds_of_children()
    _, err = again.communicate(timeout=60)
    assert _seconds_of_children() - before < 10
    assert "up to date" in err


def test_interrupted_and_killed_builds_end_as_if_nothing_had_happened(photographs, expected, server, tmp_path):
    root, marker = tmp_path / "dataset", f"marker-{os.getpid()}-{time.time_ns()}"
    command = _command(photographs, root, tmp_path)

    for number in (signal.SIGINT, signal.SIGTERM):
        interrupted = _start(command, server, PAIRFORGE_TEST=marker)
        _wait_for_commits(root, "degrade", _commits(root, "degrade") + 1, interrupted)
        began = time.monotonic()
        interrupted.send_signal(number)
        _, err = interrupted.communicate(timeout=60)
        assert time.monotonic() - began < 5
        assert interrupted.returncode == 128 + number, err
        assert "Traceback" not in err

    killed = _start(command, server, PAIRFORGE_TEST=marker)
    _wait_for_commits(root, "measure", _commits(root, "measure") + 1, killed)
    killed.kill()
    killed.communicate(timeout=60)
    deadline = time.monotonic() + 30
    while _processes_of(marker) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not _processes_of(marker)

    for failpoint in ("manifest.before_rename", "manifest.after_rename"):
        cut = _start(command, server, PAIRFORGE_TEST=marker, PAIRFORGE_FAILPOINT=f"{failpoint}:kill")
        _, err = cut.communicate(timeout=500)
        assert cut.returncode == -signal.SIGKILL, err

    finished = _start(command, server, PAIRFORGE_TEST=marker)
    _, err = finished.communicate(timeout=500)
    assert finished.returncode == 0, err
    assert tree(root) == expected
    assert not list(root.rglob("*.part"))
    assert not _processes_of(marker)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_builds_killed_at_twelve_random_times_end_as_if_nothing_had_happened(photographs, expected, server, tmp_path):
    rng = random.Random(7)
    kills, roots = 0, (tmp_path / f"dataset-{number}" for number in count())
    while kills < 12:
        root = next(roots)  # what is finished cannot be killed again
        for _ in range(4):
            process = _start(_command(photographs, root, tmp_path), server)
            try:
                process.communicate(timeout=rng.uniform(2, 16))
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate(timeout=60)
                kills += 1
        _, err = (last := _start(_command(photographs, root, tmp_path), server)).communicate(timeout=500)
        assert last.returncode == 0, err
        assert tree(root) == expected


def test_an_image_that_kills_its_worker_costs_that_image_only(photographs, server, tmp_path):
    folder, hook = tmp_path / "photographs", tmp_path / "hook"
    shutil.copytree(photographs, folder)
    poison = folder / "poison.png"
    poison.write_bytes((folder / "rocket-10-300.png").read_bytes() + b"POISON")
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(POISON)
    process = _start(_command(folder, tmp_path / "dataset", tmp_path), server, paths=[str(hook)])
    _, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    rows = {row["uri"]: row for row in Dataset(tmp_path / "dataset").rows("images")}
    assert (rows["poison.png"]["status"], rows["poison.png"]["reason"]) == ("failed", "crash")
    assert [uri for uri, row in rows.items() if row["reason"] == "crash"] == ["poison.png"]


def test_every_task_run_and_the_artifacts_are_on_the_server(photographs, server, tmp_path):
    from prefect.client.orchestration import get_client

    process = _start(_command(photographs, tmp_path / "shown", tmp_path), server)
    _, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    with get_client(sync_client=True) as client:
        runs = [run for run in client.read_flow_runs() if run.parameters["settings"].startswith(str(tmp_path))]
        assert [run.state.type.value for run in runs] == ["COMPLETED"]
        tasks = [run for run in client.read_task_runs() if run.flow_run_id == runs[0].id]
        artifacts = {artifact.key for artifact in client.read_artifacts() if artifact.flow_run_id == runs[0].id}
    stages = {run.name.rsplit("-", 1)[0] for run in tasks}
    assert stages == {"crawl", "clean", "measure-images", "annotate", "degrade", "measure-pairs", "pack"}
    assert all(run.state.type.value == "COMPLETED" for run in tasks)
    assert {"shown-funnel", "shown-report", "shown-degrade"} <= artifacts
    metrics = (tmp_path / "shown" / ".work" / "metrics.prom").read_text()
    assert 'pairforge_work_shards{stage="pack",state="pending"} 0.0' in metrics
