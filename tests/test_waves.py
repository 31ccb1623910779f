"""Waves without Ray: the engine is a fake that obeys its contract, and the in-process workers."""

import json
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel

from storage.errors import PairForgeError, ShardError, TransientError
from storage.records import ShardReport, WorkShard
from tasks import progress
from tasks.retries import Retries
from tasks.units import InProcess, Interrupted, Unit
from tasks.waves import Outcome, Wave, WorkerDiedError


class Nothing(BaseModel, frozen=True):
    """A stage without options."""


class OneWorker:
    """An engine and its only lane: one worker with a queue of two, which ends the oldest call at each look.

    `script` says how often and how a bucket fails before it is done.
    """

    def __init__(self, script: dict[str, list[Exception]] | None = None) -> None:
        self.script = script or {}
        self.begun: list[str] = []
        self.beside: dict[str, int] = {}  # how many others were in flight when a bucket ended
        self._queue: deque[tuple[int, Unit]] = deque()
        self._ended: dict[int, Outcome] = {}

    def lane(self, unit: Unit) -> "OneWorker":
        return self

    def has_room(self) -> bool:
        return len(self._queue) < 2

    def submit(self, unit: Unit) -> int:
        self.begun.append(unit.shard.bucket)
        self._queue.append((len(self.begun), unit))
        return len(self.begun)

    def wait(self, calls: list[int], *, count: int, seconds: float) -> list[int]:
        call, unit = self._queue[0]
        bucket = unit.shard.bucket
        self.beside[bucket] = len(self._queue) - 1
        failures = self.script.get(bucket, [])
        self._ended[call] = failures.pop(0) if failures else (report_of(unit.shard), 0.0)
        if isinstance(self._ended[call], WorkerDiedError):
            self._ended |= {other: WorkerDiedError(False) for other, _ in list(self._queue)[1:]}
        return [other for other in calls if other in self._ended][::-1]

    def outcome(self, call: int) -> Outcome:
        return self._ended[call]

    def finish(self, call: int) -> None:
        self._queue = deque(item for item in self._queue if item[0] != call)

    def bury(self, call: int) -> list[int]:
        calls = [call for call, _ in self._queue]
        self._queue.clear()
        return calls

    def abandon(self, call: int) -> None:
        self.finish(call)


def report_of(shard: WorkShard) -> ShardReport:
    return ShardReport(shard=shard, kept=1, rejected={}, bytes=0, sha256="")


def unit(folder: Path, bucket: str, cost: float = 1.0) -> Unit:
    shard = WorkShard(stage="test", bucket=bucket, inputs=("a",), output=str(folder / bucket), seed=0)
    return Unit(stage="nowhere", shard=shard, options=Nothing(), cost=cost)


def run(engine: OneWorker, units: list[Unit], stop: threading.Event | None = None) -> list[str]:
    reports = Wave(units, engine, lambda report: None, stop or threading.Event()).run()
    return [report.shard.bucket for report in reports]


def test_largest_units_are_begun_first_and_reports_keep_the_order_of_the_units(tmp_path: Path) -> None:
    engine = OneWorker()
    reports = run(engine, [unit(tmp_path, "small", 1), unit(tmp_path, "large", 9), unit(tmp_path, "middle", 5)])
    assert engine.begun == ["large", "middle", "small"]
    assert reports == ["small", "large", "middle"]


def test_only_the_call_a_dead_worker_was_on_is_blamed(tmp_path: Path) -> None:
    deaths: list[Exception] = [WorkerDiedError(False), WorkerDiedError(False)]
    engine = OneWorker({"guilty": deaths})
    units = [unit(tmp_path, "guilty", 2), unit(tmp_path, "innocent")]
    progress.working_on(units[1].shard, "a")
    assert run(engine, units) == ["guilty", "innocent"]
    assert not (tmp_path / "innocent.quarantine.json").exists()


def test_unit_out_of_memory_runs_again_after_the_others_and_alone(tmp_path: Path) -> None:
    engine = OneWorker({"big": [MemoryError()], "bigger": [WorkerDiedError(True)]})
    run(engine, [unit(tmp_path, "big", 9), unit(tmp_path, "bigger", 8), *(unit(tmp_path, str(n)) for n in range(4))])
    assert sorted(engine.begun[-2:]) == ["big", "bigger"]
    assert engine.beside["big"] == engine.beside["bigger"] == 0


@pytest.mark.parametrize("error", [MemoryError, lambda: WorkerDiedError(True)])
def test_unit_out_of_memory_alone_ends_the_wave_and_quarantines_nothing(
    tmp_path: Path, error: Callable[[], Exception]
) -> None:
    with pytest.raises(PairForgeError, match="test big needs more memory"):
        run(OneWorker({"big": [error(), error()]}), [unit(tmp_path, "big")])
    assert list(tmp_path.glob("*.quarantine.json")) == []


def test_error_of_a_stage_ends_the_wave_as_itself(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="hash"):
        run(OneWorker({"b": [ShardError("hash")]}), [unit(tmp_path, "a"), unit(tmp_path, "b"), unit(tmp_path, "c")])


def test_set_stop_event_ends_a_wave_before_it_begins_anything(tmp_path: Path) -> None:
    engine, stop = OneWorker(), threading.Event()
    stop.set()
    with pytest.raises(Interrupted):
        run(engine, [unit(tmp_path, "a")], stop)
    assert engine.begun == []


def test_image_is_quarantined_at_the_second_death_on_it(tmp_path: Path) -> None:
    retries, shard = Retries(), unit(tmp_path, "x").shard
    for key in ("poison", "bad luck", "poison"):
        assert progress.quarantined(shard) == frozenset()
        progress.working_on(shard, key)
        retries.died(shard, WorkerDiedError(False))
    assert progress.quarantined(shard) == {"poison"}


def test_quarantine_grows_and_stays_sorted(tmp_path: Path) -> None:
    shard = unit(tmp_path, "x").shard
    Path(f"{shard.output}.quarantine.json").write_text('["m"]')
    retries = Retries()
    for key in ("z", "z", "a", "a"):
        progress.working_on(shard, key)
        retries.died(shard, WorkerDiedError(False))
    assert json.loads(Path(f"{shard.output}.quarantine.json").read_text()) == ["a", "m", "z"]


def test_shard_on_which_every_image_kills_the_worker_is_an_error(tmp_path: Path) -> None:
    retries, shard = Retries(), unit(tmp_path, "x").shard

    def die(key: str) -> None:
        progress.working_on(shard, key)
        retries.died(shard, WorkerDiedError(False))

    with pytest.raises(ShardError, match="test x: its worker dies on every image"):
        [die(str(number // 2)) for number in range(40)]
    assert len(progress.quarantined(shard)) == 8


def test_shard_that_kills_its_worker_before_any_image_is_an_error(tmp_path: Path) -> None:
    deaths: list[Exception] = [WorkerDiedError(False) for _ in range(3)]
    with pytest.raises(ShardError, match="test x: its worker died 3 times before the first image"):
        run(OneWorker({"x": deaths}), [unit(tmp_path, "x")])


def test_transient_error_is_tried_three_times_with_growing_delays(tmp_path: Path) -> None:
    retries, shard = Retries(), unit(tmp_path, "x").shard
    assert [retries.delay(shard, TransientError("503")) for _ in range(2)] == [1.0, 4.0]
    with pytest.raises(TransientError, match="503"):
        retries.delay(shard, TransientError("503"))


def test_stopped_process_runs_nothing(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with InProcess() as workers, pytest.raises(Interrupted):
        workers.run([unit(tmp_path, "a")], on_done=lambda report: None, stop=stop)
