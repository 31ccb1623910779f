"""Is a mark tiled over the photograph: the detector of watermarks for those without weights, as an extra.

See `filters/_overlay.py` for what is looked at. Marks that stand there once, in a corner or across the middle, it does
not see; for those there is `watermark`. It is off unless the settings have its table: at the shipped threshold it drops
one good photograph of a hundred, most of them with windows or bricks all over.
"""

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

from filters._contract import Filter, Measure, Sample, Scores, verdict
from filters._overlay import reduced, repetition
from storage.records import Recipe, Verdict

_FLOOR = 0.003  # of steadiness, beyond which differences mean nothing


class Overlay(Filter, frozen=True):
    """max_repetition: above it, a mark is tiled; one of a hundred photographs without lies above (`EXPERIMENTS.md`)."""

    subject: ClassVar[Literal["image", "pair"]] = "image"
    cost: ClassVar[int] = 6
    by_default: ClassVar[bool] = False

    max_repetition: float = 1.0

    def open(self, device: str) -> Measure:
        """Return the measure: the `peak` of the strokes' autocorrelation, and how `steady` it is over the image."""
        return _measure

    def judge(self, scores: Scores, recipe: Recipe | None = None) -> Verdict:
        """Drop as `tiled_mark`."""
        return verdict("overlay", scores, "tiled_mark" if repeats(scores) > self.max_repetition else "")


def repeats(scores: Scores) -> float:
    """Return one number of both scores: the logarithm of the peak and of the root of its steadiness."""
    return math.log(max(scores["peak"], 1.0)) + 0.5 * math.log(max(scores["steady"], 0.0) + _FLOOR)


def _measure(samples: Sequence[Sample]) -> list[Scores]:
    return [repetition(reduced(sample.clean)) for sample in samples]


FILTER = Overlay
