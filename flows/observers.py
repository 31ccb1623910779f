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


def save_timings(board: Board, work: Path) -> None:
    """Add the seconds each stage took to those of earlier runs of the same build; the report shows them."""
    path = work / "timings.json"
    known = json.loads(path.read_bytes()) if path.exists() else {}
    for stage, count in board.stages.items():
        before = known.get(stage, {"seconds": 0.0, "items": 0})
        known[stage] = {"seconds": round(before["seconds"] + count.seconds, 3), "items": count.items}
    publish_bytes(path, json.dumps(known, indent=1).encode())
