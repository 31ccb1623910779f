"""Are the local statistics of the photograph those of good ones: a quality score without reference, as an extra.

It is off unless the settings have its table. Where `clean_quality` asks for single faults, this is one number for all
that changes the finest structures; see `filters/_naturalness.py`. It tells blurred copies from their originals and
mildly degraded photographs hardly at all (`EXPERIMENTS.md`), so no other filter rests on it.
"""

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from filters._contract import Filter, Measure, Sample, Scores, verdict
from filters._naturalness import distance
from storage.records import Recipe, Verdict


class Naturalness(Filter, frozen=True):
    """max_distance: from the statistics of good photographs, of which 99 of 100 lie below (`EXPERIMENTS.md`)."""

    subject: ClassVar[Literal["image", "pair"]] = "image"
    cost: ClassVar[int] = 5
    by_default: ClassVar[bool] = False

    max_distance: Annotated[float, Field(gt=0)] = 7.5

    def open(self, device: str) -> Measure:
        """Return the measure: `distance`, on at most a megapixel of strips; absent where an image is too small."""
        return _measure

    def judge(self, scores: Scores, recipe: Recipe | None = None) -> Verdict:
        """Drop as `unnatural` what is farther away."""
        far = scores.get("distance", 0.0) > self.max_distance
        return verdict("naturalness", scores, "unnatural" if far else "")


def _measure(samples: Sequence[Sample]) -> list[Scores]:
    found = [distance(sample.clean) for sample in samples]
    return [{} if math.isnan(one) else {"distance": one} for one in found]


FILTER = Naturalness
