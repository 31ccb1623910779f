"""Who watches a build: the terminal, Prefect's artifacts and Prometheus, all fed from one board of counts."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from storage.files import publish_bytes
from storage.records import ShardReport


@dataclass(slots=True)
class StageCount:
    """Where one stage is, in work shards and items (images or pairs); `resumed` shards were done in an earlier run."""

    total: int = 0
    done: int = 0
    resumed: int = 0
    items: int = 0
    rejected: int = 0
    began: float = 0.0
    seconds: float = 0.0


Watcher = Callable[[str, StageCount, bool], None]


class Board:
    """Counts of every stage; watchers are told at each `flush`, in the thread that calls it."""

    def __init__(self, *watchers: Watcher) -> None:
        self.stages: dict[str, StageCount] = {}
        self._watchers = watchers
        self._lock = threading.Lock()

    def stage(self, stage: str, *, done: int, total: int, items: int) -> None:
        """Begin `stage`, of whose `total` units `done` are committed already."""
        now = time.monotonic()
        self.stages[stage] = StageCount(total=total, done=done, resumed=done, items=items, began=now)
        self.flush(final=done == total)

    def unit_done(self, stage: str, report: ShardReport) -> None:
        """Count one unit; called from the thread of a wave."""
        with self._lock:
            count = self.stages[stage]
            rejected = sum(report.rejected.values())
            count.done += 1
            count.items += report.kept + rejected
            count.rejected += rejected

    def flush(self, *, final: bool = False) -> None:
        """Tell the watchers where the current stage is."""
        for stage, count in list(self.stages.items())[-1:]:
            count.seconds = time.monotonic() - count.began
            for watch in self._watchers:
                watch(stage, count, final)


class Timings:
    """A watcher that adds the seconds each stage takes to those of earlier runs; the report, made last, shows them."""

    def __init__(self, work: Path) -> None:
        self._file = work / "timings.json"
        self._before = json.loads(self._file.read_bytes()) if self._file.exists() else {}
        self._now: dict[str, dict[str, float]] = {}

    def __call__(self, stage: str, count: StageCount, final: bool) -> None:
        """Take over where `stage` is, and write it down when it is done."""
        before = self._before.get(stage, {"seconds": 0.0})["seconds"]
        self._now[stage] = {"seconds": round(before + count.seconds, 3), "items": count.items}
        if final:
            self.save()

    def save(self) -> None:
        """Write down what is known so far."""
        publish_bytes(self._file, json.dumps({**self._before, **self._now}, indent=1).encode())
