"""Does a mark lie over the photograph: the detector of watermarks for those without weights, as an extra.

Two things are looked at: how steadily strokes repeat (`filters/_overlay.py`), and what a small network sees
(`filters/_marks.py`). Of ten tiled marks five are found, of texts in a corner eight, of bands four, of logos three, of
marks across the centre one; for these there is `watermark`. At the shipped thresholds each of the two drops one good
photograph of a hundred, so the filter is off unless the settings have its table.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

from filters._contract import Filter, Measure, Sample, Scores, verdict
from filters._marks import evidence, strongest
from filters._overlay import reduced, repetition
from storage.records import Image, Recipe, Verdict


class Overlay(Filter, frozen=True):
    """max_repetition: above it, a mark is tiled. max_mark: above it, the network sees one.

    Above each lies one of a hundred photographs without a mark (`EXPERIMENTS.md`).
    """

    subject: ClassVar[Literal["image", "pair"]] = "image"
    cost: ClassVar[int] = 6
    by_default: ClassVar[bool] = False

    max_repetition: float = 0.015
    max_mark: float = 5.4

    def open(self, device: str) -> Measure:
        """Return the measure: `repetition`, about 0 without a tiled mark, and `mark`, log odds of any."""
        return _measure

    def judge(self, scores: Scores, recipe: Recipe | None = None) -> Verdict:
        """Drop as `tiled_mark` or `mark`."""
        if scores["repetition"] > self.max_repetition:
            return verdict("overlay", scores, "tiled_mark")
        return verdict("overlay", scores, "mark" if scores["mark"] > self.max_mark else "")


def _measure(samples: Sequence[Sample]) -> list[Scores]:
    return [_scores(reduced(sample.clean)) for sample in samples]


def _scores(image: Image) -> Scores:
    return {"repetition": repetition(image), "mark": strongest(evidence(image))}


FILTER = Overlay
