"""Is the photograph good enough to be a clean image: sharp, without noise and block edges, well exposed, no graphic.

A blurred or compressed photograph must never become a clean one: a restorer would learn to bring its faults back.
Measured at full resolution on at most a megapixel of strips, borders on the whole. How many clean photographs each
limit costs and what goes of really bad ones is in `EXPERIMENTS.md` (`tests/benchmarks/clean_quality.py`). Photographs
taken with shallow focus stay, because the sharpest edges decide.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from filters._borders import border, rounded_corner
from filters._contract import Filter, Measure, Sample, Scores, verdict
from filters._graphics import palette, softness
from filters._quality import blockiness, detail, edge_width, fine_detail, noise, tones
from filters._statistics import luma, strips
from storage.records import Recipe, Verdict

_MEGAPIXEL = 2**20
_EVEN = 1.25  # 15th over 5th percentile of the noise of blocks: below, it is noise and not texture


class CleanQuality(Filter, frozen=True):
    """Limits on the scores; see `filters/_quality.py`, `_borders.py` and `_graphics.py` for their meaning and units.

    max_border: three pixels are common, in the Kodak photographs too, and harm nobody. A graphic has more than
    max_palette and less than min_softness.
    """

    subject: ClassVar[Literal["image", "pair"]] = "image"
    cost: ClassVar[int] = 3

    max_edge_width: float = Field(default=0.775, gt=0)
    min_fine_detail: float = Field(default=0.45, ge=0)
    min_detail: float = Field(default=0.9, ge=0)
    max_noise: float = Field(default=1.15, gt=0)
    max_chroma_noise: float = Field(default=0.8, gt=0)
    max_blockiness: float = Field(default=0.95, gt=0)
    min_contrast: float = Field(default=40.0, ge=0)
    min_light: float = Field(default=45.0, ge=0)
    max_flat: float = Field(default=0.99, gt=0, le=1)
    max_clipped: float = Field(default=0.6, gt=0, le=1)
    max_border: float = Field(default=4.0, ge=0)
    max_corner: float = Field(default=4.0, ge=0)
    max_palette: float = Field(default=0.65, gt=0, le=1)
    min_softness: float = Field(default=0.77, ge=0, le=1)

    def open(self, device: str) -> Measure:
        """Return the measure: widths, noise, block edges and the like in the units of the modules that measure them."""
        return _measure

    def judge(self, scores: Scores, recipe: Recipe | None = None) -> Verdict:
        """Drop as `bordered`, `graphic`, `clipped`, `flat`, `dark`, `blocky`, `noisy` or `blurred`: the first found."""
        noisy = scores["noise"] > self.max_noise and scores["evenness"] < _EVEN
        faults = {
            "bordered": scores["border"] > self.max_border or scores["corner"] > self.max_corner,
            "graphic": scores["palette"] > self.max_palette and scores["softness"] < self.min_softness,
            "clipped": scores["clipped"] > self.max_clipped,
            "flat": scores["contrast"] < self.min_contrast or scores["flat"] > self.max_flat,
            "dark": scores["light"] < self.min_light,
            "blocky": scores["blockiness"] > self.max_blockiness,
            "noisy": noisy or scores["chroma_noise"] > self.max_chroma_noise,
            "blurred": scores["edge_width"] > self.max_edge_width
            or scores["fine_detail"] < self.min_fine_detail
            or scores["detail"] < self.min_detail,
        }
        return verdict("clean_quality", scores, next((fault for fault, found in faults.items() if found), ""))


def _measure(samples: Sequence[Sample]) -> list[Scores]:
    return [_scores(sample) for sample in samples]


def _scores(sample: Sample) -> Scores:
    image = strips(sample.clean, _MEGAPIXEL, height=128)
    grey = luma(image)
    sharp = {"edge_width": edge_width(grey), "fine_detail": fine_detail(image), "detail": detail(grey)}
    drawn = {"palette": palette(image), "softness": softness(image)}
    around = {"border": border(sample.clean), "corner": rounded_corner(sample.clean)}
    return sharp | noise(image) | tones(grey) | drawn | around | {"blockiness": blockiness(grey)}


FILTER = CleanQuality
