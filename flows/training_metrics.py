"""The numbers of a training as Prometheus metrics: a text file in its folder, and on a loopback port when asked."""

from pathlib import Path

from prometheus_client import Gauge, generate_latest

from flows.following import Moment
from flows.loopback_metrics import LoopbackMetrics
from storage.files import publish_bytes


class TrainingMetrics(LoopbackMetrics):
    """Gauges of one training. Labels are tasks and names of numbers, which are few; never a key, a path or a host."""

    def __init__(self, root: Path, *, port: int = 0) -> None:
        super().__init__(port=port)
        self.file = root / "metrics.prom"
        self._step = Gauge("pairforge_train_step", "Optimizer steps done.", registry=self.registry)
        self._steps = Gauge("pairforge_train_steps", "Optimizer steps of the stage.", registry=self.registry)
        self._left = Gauge("pairforge_train_seconds_left", "Seconds to the last step.", registry=self.registry)
        about = "The latest number of each name in metrics.jsonl."
        self._numbers = Gauge("pairforge_train_number", about, ("name",), registry=self.registry)

    def follow(self, moment: Moment) -> None:
        """Take over where the training is."""
        self._step.set(moment.step)
        self._steps.set(moment.steps)
        if moment.seconds_left is not None:
            self._left.set(moment.seconds_left)
        for name, value in moment.fresh.items():
            self._numbers.labels(name).set(value)
        publish_bytes(self.file, generate_latest(self.registry))
