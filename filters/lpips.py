"""How far apart the two images of a pair look to a network: LPIPS, for those who have AlexNet's weights.

No level of any degradation has a published distance, so the limits keep everything until they are set.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from filters._contract import Filter, Measure, Sample, Scores, verdict
from filters._lpips import Distance, open_lpips
from storage.records import Recipe, Verdict
from storage.weights import locate


class Lpips(Filter, frozen=True):
    """weights: torchvision's AlexNet as safetensors. min_distance, max_distance: limits on the score `distance`."""

    subject: ClassVar[Literal["image", "pair"]] = "pair"
    cost: ClassVar[int] = 10
    measures_with: ClassVar[frozenset[str]] = frozenset({"weights"})
    needs_weights: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("torch", "torchvision", "lpips", "safetensors")

    weights: str = ""
    min_distance: float = Field(default=0.0, ge=0)
    max_distance: float = Field(default=2.0, gt=0)

    def open(self, device: str) -> Measure:
        """Load the network and return the measure: `distance`, 0 for equal images."""
        distance = open_lpips(locate(self.weights), device)
        return lambda samples: _measure(samples, distance)

    def judge(self, scores: Scores, recipe: Recipe | None = None) -> Verdict:
        """Drop as `looks_alike` or `looks_unrelated` what lies outside the limits."""
        if scores["distance"] < self.min_distance:
            return verdict("lpips", scores, "looks_alike")
        return verdict("lpips", scores, "looks_unrelated" if scores["distance"] > self.max_distance else "")


def _measure(samples: Sequence[Sample], distance: Distance) -> list[Scores]:
    return [{"distance": _between(sample, distance)} for sample in samples]


def _between(sample: Sample, distance: Distance) -> float:
    assert sample.degraded is not None
    return distance(sample.clean, sample.degraded)


FILTER = Lpips
