"""One turn of a picture through the web: what is drawn for it. Needs nothing but Python."""

from dataclasses import dataclass
from typing import Literal

Interpolation = Literal["area", "bilinear", "bicubic"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One turn through the web, in this order; all in sRGB, at the pixels of the picture as it is.

    sigma: of a Gaussian, pixels, 0 none. cutoff: of a circular low-pass, radians per pixel, 0 none. scale: of the
    sides, in (0, 1], relative to the whole picture. interpolation: of the resize. noise: standard deviation / 255 of
    Gaussian noise, 0 none. photons: at white, of Poisson noise, 0 none. grey: one noise for all channels. quality: of
    the JPEG (4:2:0, standard tables), 0 none. seed: of the noise.
    """

    sigma: float
    cutoff: float
    scale: float
    interpolation: Interpolation
    noise: float
    photons: float
    grey: bool
    quality: int
    seed: int


def scaled(shape: tuple[int, ...], scale: float) -> tuple[int, int]:
    """Return the whole (H, W) nearest to `shape` times `scale`, at least one pixel each."""
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))
