"""The numbers of a training as Prometheus metrics: a text file in its folder, and on a loopback port when asked."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from prometheus_client import CollectorRegistry, Gauge, generate_latest, start_http_server

from flows.following import Moment
from storage.files import publish_bytes


class TrainingMetrics:
    """Gauges of one training. Labels are tasks and names of numbers, which are few; never a key, a path or a host."""

    def __init__(self, root: Path, *, port: int = 0) -> None:
        self.file = root / "metrics.prom"
        self._port = port
        self._server: Any = None
        self.registry = CollectorRegistry()
        self._step = Gauge("pairforge_train_step", "Optimizer steps done.", registry=self.registry)
        self._steps = Gauge("pairforge_train_steps", "Optimizer steps of the stage.", registry=self.registry)
        self._left = Gauge("pairforge_train_seconds_left", "Seconds to the last step.", registry=self.registry)
        about = "The latest number of each name in metrics.jsonl."
        self._numbers = Gauge("pairforge_train_number", about, ("name",), registry=self.registry)

    def __enter__(self) -> Self:
        if self._port:
            self._server, _ = start_http_server(self._port, addr="127.0.0.1", registry=self.registry)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()

    def follow(self, moment: Moment) -> None:
        """Take over where the training is."""
        self._step.set(moment.step)
        self._steps.set(moment.steps)
        if moment.seconds_left is not None:
            self._left.set(moment.seconds_left)
        for name, value in moment.fresh.items():
            self._numbers.labels(name).set(value)
        publish_bytes(self.file, generate_latest(self.registry))
