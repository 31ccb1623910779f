"""A benchmark as a flow: scheduled or from the command line, and not run again while nothing has changed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.__main__ import run
from flows.bench_result import evaluate_here, finished
from flows.bench_settings import read_bench
from storage.errors import LeaseError
from storage.lease import Lease
from tests.benches import EMBEDDED, bench, photographs, save

pytest.importorskip("torch", reason="torch is not installed: install PairForge's `models` extra")

ROOT = Path(__file__).parents[1]


@pytest.fixture
def file(tmp_path):
    """Write pictures and the settings of a benchmark of them."""
    photographs(tmp_path, side=128)
    return bench(tmp_path, EMBEDDED)


def run_here(file):
    return evaluate_here(read_bench(Path(file)), [], owner="a test")


def test_a_benchmark_that_was_run_is_found_again_as_it_was(file):
    found = run_here(file)
    again = finished(read_bench(Path(file)))
    assert again.content() == found.content()
    assert (again.outcomes, again.titles, again.title) == (found.outcomes, found.titles, found.title)


def test_it_is_not_found_before_it_was_run(file):
    assert finished(read_bench(Path(file))) is None


def change_a_picture(root, file):
    save(root / "out/noise/a.png", 255 - _pixels(root / "out/noise/a.png"))


def add_a_picture(root, file):
    save(root / "in/noise/c.png", _pixels(root / "in/noise/a.png"))


def change_a_setting(root, file):
    Path(file).write_text("resamples = 7\n" + Path(file).read_text())


def remove_the_page(root, file):
    (root / "scores/bench.html").unlink()


def break_the_result(root, file):
    (root / "scores/bench.json").write_text('{"inputs": ')


def _pixels(path):
    import numpy as np
    import PIL.Image

    return np.asarray(PIL.Image.open(path))


@pytest.mark.parametrize(
    "change", [change_a_picture, add_a_picture, change_a_setting, remove_the_page, break_the_result]
)
def test_what_has_changed_is_run_again(change, file, tmp_path):
    run_here(file)
    change(tmp_path, file)
    assert finished(read_bench(Path(file))) is None
    assert run(["evaluate", "--alone", file]) == 0
    assert finished(read_bench(Path(file))) is not None


def test_where_pictures_and_output_lie_changes_nothing(file, tmp_path):
    run_here(file)
    before = (tmp_path / "scores/bench.json").read_bytes()
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    assert finished(read_bench(moved / "bench.toml")) is not None
    run_here(moved / "bench.toml")
    assert (moved / "scores/bench.json").read_bytes() == before


def test_two_runs_in_one_output_refuse_each_other(file, tmp_path):
    with Lease(tmp_path / "scores", owner="the first"), pytest.raises(LeaseError, match="the first"):
        run_here(file)


@pytest.mark.stack
@pytest.mark.timeout(900)
def test_the_command_is_a_flow_run_and_again_starts_nothing(file, tmp_path):
    told = []
    for _ in range(2):
        command = [sys.executable, "-m", "flows", "evaluate", file, "--json"]
        environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data"), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400, check=False
        )
        assert done.returncode == 0, done.stderr
        told.append((json.loads(done.stdout), done.stderr))
    assert told[0][0] == told[1][0]
    assert "starting Prefect" in told[0][1]
    assert "measured 2 of 2 pictures" in told[0][1]
    assert "starting Prefect" not in told[1][1]
    assert run_record(tmp_path / "data") == {
        "flow": "evaluate-restorer",
        "state": "COMPLETED",
        "artifacts": {"evaluate-restorer-measured", "evaluate-restorer-page", "evaluate-restorer-scores"},
    }


def run_record(data):
    """Return what the server's database keeps of the one run."""
    import sqlite3

    with sqlite3.connect(data / "pairforge/prefect/prefect.db") as database:
        [(flow, state)] = database.execute(
            "select flow.name, flow_run.state_type from flow_run join flow on flow.id = flow_run.flow_id"
        ).fetchall()
        artifacts = {key for (key,) in database.execute("select key from artifact where key is not null")}
    database.close()
    return {"flow": flow, "state": state, "artifacts": artifacts}


@pytest.mark.stack
@pytest.mark.timeout(900)
def test_the_deployed_flow_takes_the_path_of_a_settings_file(file, tmp_path):
    code = f"""
import json, sys
from pathlib import Path
from flows.server import LocalServer
with LocalServer(Path({str(tmp_path / "data")!r})) as server:
    server.wait()
    from flows.benchmark import evaluate_restorer
    print(json.dumps(evaluate_restorer({file!r})))
    print(json.dumps(evaluate_restorer({file!r})))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr
    first, second = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    assert first == second
    assert first["html"] == str(tmp_path / "scores/bench.html")
    assert set(first["average"]) == {"lps", "rs", "rs_unclamped", "fs_paper", "fs_code"}
