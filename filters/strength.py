"""Is the degraded image as different from the clean one as its name and level say: neither the same nor destroyed.

PSNR over all pixels; SSIM (Wang et al. 2004, doi:10.1109/TIP.2003.819861) of luma in uniform 7 x 7 windows, over a
megapixel at most; area, the fraction of pixels that differ by more than 2 % of the range in any channel. The bands in
`_bands.json` are measured by `tests/benchmarks/measure_bands.py`; names without one, such as lists of one's own, use
the generic band.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import ClassVar, Literal

import cv2
import numpy as np
from pydantic import Field

from filters._contract import Filter, Measure, Sample, Scores, verdict
from filters._statistics import box, difference, luma, strips
from storage.records import Image, Plane, Recipe, Verdict, level

Band = tuple[float, float]

_WINDOW = 7
_VISIBLE = 5  # levels, 2 % of the range
_LARGEST_PSNR = 100.0
_MEGAPIXEL = 2**20


class Strength(Filter, frozen=True):
    """psnr (dB), ssim and area: the generic band; measured: whether the measured band of the name and level is used."""

    subject: ClassVar[Literal["image", "pair"]] = "pair"
    cost: ClassVar[int] = 2

    measured: bool = True
    psnr: Band = (6.0, 45.0)
    ssim: Band = (0.0, 0.9995)
    area: Band = Field(default=(0.002, 1.0))

    def open(self, device: str) -> Measure:
        """Return the measure: `psnr` in dB (at most 100), `ssim`, `area` in [0, 1]."""
        return _measure

    def judge(self, scores: Scores, recipe: Recipe | None = None) -> Verdict:
        """Drop what is `too_weak` or `too_strong` for its name and level."""
        for score, (low, high) in self._bands(recipe).items():
            if score == "area":
                weak, strong = scores[score] < low, scores[score] > high
            else:
                weak, strong = scores[score] > high, scores[score] < low
            if weak or strong:
                return verdict("strength", scores, "too_weak" if weak else "too_strong")
        return verdict("strength", scores)

    def band(self, name: str, level: int) -> Mapping[str, Band]:
        """Return the band of each score that pairs of this name and severity level are held to."""
        generic = {"psnr": self.psnr, "ssim": self.ssim, "area": self.area}
        return _measured_bands().get(name, {}).get(str(level), generic) if self.measured else generic

    def _bands(self, recipe: Recipe | None) -> Mapping[str, Band]:
        if recipe is None:
            return {"psnr": self.psnr, "ssim": self.ssim, "area": self.area}
        return self.band(recipe.name, level(recipe.severity))


@cache
def _measured_bands() -> Mapping[str, Mapping[str, Mapping[str, Band]]]:
    file = Path(__file__).with_name("_bands.json")
    bands: Mapping[str, Mapping[str, Mapping[str, Band]]] = json.loads(file.read_text()) if file.exists() else {}
    return bands


def psnr(clean: Image, degraded: Image) -> float:
    """Return the peak signal to noise ratio in dB over all pixels and channels, at most 100."""
    squares = cv2.norm(clean, degraded, cv2.NORM_L2SQR)
    if squares == 0:
        return _LARGEST_PSNR
    return min(_LARGEST_PSNR, float(10 * np.log10(255**2 * clean.size / squares)))


def ssim(clean: Plane, degraded: Plane) -> float:
    """Return the mean structural similarity of two planes, in uniform windows that lie inside."""
    window = min(_WINDOW, *clean.shape)
    mean, mean_degraded = box(clean, window), box(degraded, window)
    product = mean * mean_degraded
    square = mean * mean + mean_degraded * mean_degraded
    covariance = box(clean * degraded, window) - product
    variance = box(clean * clean + degraded * degraded, window) - square
    luminance_floor, contrast_floor = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    numerator = (2 * product + luminance_floor) * (2 * covariance + contrast_floor)
    similarity = numerator / ((square + luminance_floor) * (variance + contrast_floor))
    margin = window // 2
    return float(similarity[margin : similarity.shape[0] - margin, margin : similarity.shape[1] - margin].mean())


def strength_of(clean: Image, degraded: Image) -> dict[str, float]:
    """Return the scores of a pair: `psnr` in dB, `ssim`, `area` in [0, 1]."""
    sampled = [luma(strips(image, _MEGAPIXEL)) for image in (clean, degraded)]
    changed = np.count_nonzero(difference(clean, degraded) > _VISIBLE)
    return {
        "psnr": psnr(clean, degraded),
        "ssim": ssim(sampled[0], sampled[1]),
        "area": float(changed / (clean.shape[0] * clean.shape[1])),
    }


def _measure(samples: Sequence[Sample]) -> list[Scores]:
    return [_scores(sample) for sample in samples]


def _scores(sample: Sample) -> Scores:
    assert sample.degraded is not None
    return strength_of(sample.clean, sample.degraded)


FILTER = Strength
