"""Is the photograph large enough, and not a strip: the cheapest filter, it looks at the shape only."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from filters._contract import Filter, Measure, Sample, Scores, verdict
from storage.records import Recipe, Verdict


class Resolution(Filter, frozen=True):
    """Sides in pixels; an aspect is the longer side over the shorter.

    min_side: the clean stage has a limit of its own, `clean.min_side`; this one can be raised on a finished dataset.
    """

    subject: ClassVar[Literal["image", "pair"]] = "image"
    cost: ClassVar[int] = 0

    min_side: int = Field(default=1, ge=1)
    max_aspect: float = Field(default=4.0, ge=1)

    def open(self, device: str) -> Measure:
        """Return the measure: `width` and `height` of the clean image."""
        return _measure

    def judge(self, scores: Scores, recipe: Recipe | None = None) -> Verdict:
        """Drop what is `too_small` or `too_elongated`."""
        short, long = sorted((scores["width"], scores["height"]))
        if short < self.min_side:
            return verdict("resolution", scores, "too_small")
        if long > self.max_aspect * short:
            return verdict("resolution", scores, "too_elongated")
        return verdict("resolution", scores)


def _measure(samples: Sequence[Sample]) -> list[Scores]:
    return [{"width": float(sample.clean.shape[1]), "height": float(sample.clean.shape[0])} for sample in samples]


FILTER = Resolution
