"""What the steps between two lines of the log come to: errors by task and noise level, and where the time went."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from torch import Tensor

from training.data.examples import Example
from training.loop.validation import gathered

BINS = 4  # of noise levels


class Tally:
    """Collects without waiting for the device, which `numbers` does.

    flops: useful ones of a step. peak: what all devices together could do in a second, where that is known.
    """

    def __init__(self, *, flops: float, peak: float | None) -> None:
        self._flops, self._peak = flops, peak
        self._begin()

    def add(self, examples: Sequence[Example], counted_B: Tensor, plain_B: Tensor) -> None:
        """Take over the errors of a micro-batch: as they counted in the loss, and as they are."""
        self._seen.append((examples, counted_B.detach(), plain_B))

    def stepped(self, waited: float) -> None:
        """Count a step that stood still for `waited` seconds until its examples were there."""
        self._steps += 1
        self._waited += waited

    def restart(self) -> None:
        """Begin to time now, if no step is counted yet: what came before was no part of one."""
        if not self._steps:
            self._began, self._aside = time.perf_counter(), 0.0

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Leave out the time of this block, which is no part of a step: a validation, a checkpoint."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._aside += time.perf_counter() - began

    def numbers(self) -> dict[str, float]:
        """Return the numbers of the steps since the last call, those of all ranks, and begin anew."""
        own = [
            (example.task, example.sigma, *pair)
            for examples, counted, plain in self._seen
            for example, pair in zip(examples, zip(counted.tolist(), plain.tolist(), strict=True), strict=True)
        ]
        seconds = time.perf_counter() - self._began - self._aside
        sums = defaultdict[str, list[float]](list)
        for task, sigma, counted, plain in gathered(own):
            sums["train/loss"].append(counted)
            sums[f"train/loss/{task}"].append(counted)
            sums[f"train/error_t/{min(BINS - 1, int(sigma * BINS)) / BINS:g}"].append(plain)
        found = {name: float(np.mean(values)) for name, values in sums.items()}
        found |= {"perf/step_s": seconds / self._steps, "perf/data_wait": self._waited / seconds}
        if self._flops:
            found["perf/tflops"] = self._flops * self._steps / seconds / 1e12
        if self._flops and self._peak:
            found["perf/mfu"] = self._flops * self._steps / seconds / self._peak
        self._begin()
        return found

    def _begin(self) -> None:
        self._seen: list[tuple[Sequence[Example], Tensor, Tensor]] = []
        self._steps, self._waited, self._aside = 0, 0.0, 0.0
        self._began = time.perf_counter()
