"""Is the photograph good enough to be a clean image: not blurred, enlarged, noisy, blocky, clipped or empty.

Measured at full resolution on at most a megapixel of strips. The thresholds separate 72 clean from 27 really blurred,
compressed and noisy photographs (`EXPERIMENTS.md`); those taken with shallow focus stay, because the sharpest edges
decide.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from filters._contract import Filter, Measure, Sample, Scores, verdict
from filters._quality import blockiness, edge_width, fine_detail, noise, tones
from filters._statistics import luma, strips
from storage.records import Recipe, Verdict

_MEGAPIXEL = 2**20


class Sharpness(Filter, frozen=True):
    """Limits on the scores; see `filters/_quality.py` for their meaning and units."""

    subject: ClassVar[Literal["image", "pair"]] = "image"
    cost: ClassVar[int] = 3

    max_edge_width: float = Field(default=0.775, gt=0)
    min_fine_detail: float = Field(default=0.43, ge=0)
    max_noise: float = Field(default=1.15, gt=0)
    max_chroma_noise: float = Field(default=1.2, gt=0)
    max_blockiness: float = Field(default=0.95, gt=0)
    min_contrast: float = Field(default=40.0, ge=0)
    max_flat: float = Field(default=0.99, gt=0, le=1)
    max_clipped: float = Field(default=0.6, gt=0, le=1)

    def open(self, device: str) -> Measure:
        """Return the measure: widths, noise and block edges in the units that `filters/_quality.py` states."""
        return _measure

    def judge(self, scores: Scores, recipe: Recipe | None = None) -> Verdict:
        """Drop what is `clipped`, `flat`, `blocky`, `noisy` or `blurred`."""
        noisy = scores["noise"] > self.max_noise and scores["evenness"] < _EVEN
        faults = {
            "clipped": scores["clipped"] > self.max_clipped,
            "flat": scores["contrast"] < self.min_contrast or scores["flat"] > self.max_flat,
            "blocky": scores["blockiness"] > self.max_blockiness,
            "noisy": noisy or scores["chroma_noise"] > self.max_chroma_noise,
            "blurred": scores["edge_width"] > self.max_edge_width or scores["fine_detail"] < self.min_fine_detail,
        }
        return verdict("sharpness", scores, next((fault for fault, found in faults.items() if found), ""))


_EVEN = 1.25  # 15th over 5th percentile of the noise of blocks: below, it is noise and not texture


def _measure(samples: Sequence[Sample]) -> list[Scores]:
    return [_scores(sample) for sample in samples]


def _scores(sample: Sample) -> Scores:
    image = strips(sample.clean, _MEGAPIXEL, height=128)
    grey = luma(image)
    sharp = {"edge_width": edge_width(grey), "fine_detail": fine_detail(image), "blockiness": blockiness(grey)}
    return sharp | noise(image) | tones(grey)


FILTER = Sharpness
