"""What watchers of a build are told, and that the report of a build shows the times of that build."""

import json
import re
import threading

import pytest

from flows.job import run_job
from flows.observers import Board, Timings
from storage.records import ShardReport, WorkShard
from tasks.units import InProcess
from tests.builds import settings_for, write_photographs


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until a test moves it."""
    now = [100.0]
    monkeypatch.setattr("flows.observers.time.monotonic", lambda: now[0])
    return now


def _report(**counts):
    shard = WorkShard(stage="clean", bucket="b", inputs=(), output="", seed=0)
    return ShardReport(shard=shard, bytes=0, sha256="", **counts)


def test_a_unit_counts_what_it_kept_and_what_it_rejected():
    seen = []
    board = Board(lambda stage, count, final: seen.append((stage, count.done, count.items, count.rejected, final)))
    board.stage("clean", done=1, total=2, items=5)
    board.unit_done("clean", _report(kept=3, rejected={"truncated": 2}))
    board.flush(final=True)
    assert seen == [("clean", 1, 5, 0, False), ("clean", 2, 10, 2, True)]


def test_times_of_a_stage_are_on_disk_as_soon_as_it_is_done(clock, tmp_path):
    board = Board(Timings(tmp_path))
    board.stage("clean", done=0, total=1, items=0)
    assert not (tmp_path / "timings.json").exists()
    clock[0] += 2.5
    board.flush(final=True)
    assert json.loads((tmp_path / "timings.json").read_bytes()) == {"clean": {"seconds": 2.5, "items": 0}}


def test_times_of_an_interrupted_run_are_added_to_those_of_the_next(clock, tmp_path):
    for _ in range(2):
        timings = Timings(tmp_path)
        board = Board(timings)
        board.stage("degrade", done=0, total=4, items=0)
        clock[0] += 3
        board.flush()
        timings.save()
    assert json.loads((tmp_path / "timings.json").read_bytes())["degrade"]["seconds"] == 6


def test_the_report_of_a_build_shows_the_times_of_that_build(tmp_path):
    root = tmp_path / "dataset"
    folder = write_photographs(tmp_path / "photographs", count=2)
    board = Board(Timings(root / ".work"))

    def run_units(stage, units):
        with InProcess() as workers:
            workers.run(units, on_done=lambda report: board.unit_done(stage, report), stop=threading.Event())
        board.flush(final=True)

    run_job(settings_for(folder, root, mixture={"variants": 1, "weights": {"low_light": 1}}), run_units, board)
    timings = json.loads((root / ".work" / "timings.json").read_bytes())
    html = (root / "report.html").read_text()
    rows = re.findall(r'<th scope="row">([a-z ]+)</th><td class="number">[\d.]+ ?m?s', html)
    assert set(timings) == {"crawl", "clean", "measure images", "annotate", "degrade", "measure pairs", "pack"}
    assert set(timings) <= set(rows)
    assert timings["degrade"]["seconds"] > 0
