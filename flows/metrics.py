"""The counts of a build as Prometheus metrics: a text file in the work folder, and on a loopback port when asked."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prometheus_client import Gauge, generate_latest

from flows.job import Outcome
from flows.loopback_metrics import LoopbackMetrics
from flows.observers import StageCount
from storage.files import publish_bytes

SECONDS = 5.0  # between two writes of the text file


class Metrics(LoopbackMetrics):
    """Gauges of one build. Labels are stages and reasons, which are few; never a key, a path or a host."""

    def __init__(self, root: Path, *, port: int = 0) -> None:
        super().__init__(port=port)
        self.file, self._written = root / ".work" / "metrics.prom", 0.0
        self._shards = self._gauge("work_shards", "Work shards of a stage, by state.", ("stage", "state"))
        self._items = self._gauge("items", "Photographs or pairs a stage has looked at.", ("stage",))
        self._rejected = self._gauge("rejected", "Photographs or pairs a stage has rejected.", ("stage",))
        self._seconds = self._gauge("stage_seconds", "Seconds a stage has taken in this run.", ("stage",))
        self._funnel = self._gauge("funnel", "What became of photographs and pairs.", ("what", "became"))
        self._version = self._gauge("dataset_version", "The version that was published.", ())

    def watch(self, stage: str, count: StageCount, final: bool) -> None:
        """Take over the counts of `stage`."""
        self._shards.labels(stage, "done").set(count.done)
        self._shards.labels(stage, "pending").set(count.total - count.done)
        self._items.labels(stage).set(count.items)
        self._rejected.labels(stage).set(count.rejected)
        self._seconds.labels(stage).set(count.seconds)
        if final or time.monotonic() - self._written >= SECONDS:
            self._write()

    def finish(self, outcome: Outcome) -> None:
        """Take over what the build came to."""
        self._take("photographs", outcome.images)
        self._take("pairs", outcome.pairs)
        self._version.set(outcome.manifest.dataset_version)
        self._write()

    def _take(self, what: str, counts: Mapping[str, int]) -> None:
        for became, count in counts.items():
            self._funnel.labels(what, became).set(count)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...]) -> Any:
        return Gauge(f"pairforge_{name}", text, labels, registry=self.registry)

    def _write(self) -> None:
        publish_bytes(self.file, generate_latest(self.registry))
        self._written = time.monotonic()
