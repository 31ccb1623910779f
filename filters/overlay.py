"""Is a mark tiled over the photograph: the detector of watermarks for those without weights, as an extra.

See `filters/_overlay.py` for what is looked at. Half of the tiled marks it misses, and those that stand there once, in
a corner or across the middle, it does not see at all; for these there is `watermark`. At the shipped threshold it
drops one good photograph of a hundred, so it is off unless the settings have its table.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

from filters._contract import Filter, Measure, Sample, Scores, verdict
from filters._overlay import reduced, repetition
from storage.records import Recipe, Verdict


class Overlay(Filter, frozen=True):
    """max_repetition: above it, a mark is tiled; one of a hundred photographs without lies above (`EXPERIMENTS.md`)."""

    subject: ClassVar[Literal["image", "pair"]] = "image"
    cost: ClassVar[int] = 6
    by_default: ClassVar[bool] = False

    max_repetition: float = 0.015

    def open(self, device: str) -> Measure:
        """Return the measure: `repetition`, about 0 without a tiled mark."""
        return _measure

    def judge(self, scores: Scores, recipe: Recipe | None = None) -> Verdict:
        """Drop as `tiled_mark`."""
        return verdict("overlay", scores, "tiled_mark" if scores["repetition"] > self.max_repetition else "")


def _measure(samples: Sequence[Sample]) -> list[Scores]:
    return [{"repetition": repetition(reduced(sample.clean))} for sample in samples]


FILTER = Overlay
