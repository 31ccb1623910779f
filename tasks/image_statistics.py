"""A few numbers about a clean photograph by which the mixture chooses what suits it; pure, 8 ms a megapixel."""

import cv2
import numpy as np
from numpy.typing import NDArray

from degradations.numerics.light import decode, luminance
from filters._statistics import length
from storage.records import Image, Plane

SMALL_SIDE = 256
HIGHLIGHT, SHADOW = 250, 12  # levels of luma
BRIGHT, SMOOTH = 110, 12  # of sky: luma, and the sum of two Sobel slopes
GREY_SPREAD, GREY_SHARE = 8, 0.99

_BLOCK = 8  # of the diagonal detail: 16 pixels a side


def statistics(image: Image) -> dict[str, float]:
    """Return the statistics of `image`, uint8 (H, W, 3), rounded to six digits.

    mean_luminance: of linear light, 0 to 1. highlight_fraction, shadow_fraction: of pixels with luma from 250, up to
    12. contrast: standard deviation of luma, of 1. colourfulness: Hasler and Suesstrunk 2003
    (doi:10.1117/12.477378), 0 grey to 109 extremely colourful. noise: standard deviation in levels, in the flattest
    tenth of the image. texture: mean gradient of luma, levels a pixel, on a copy of short side 256. sky: share of the
    image, in its upper half, that is bright and smooth.
    """
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = _shrunk(image)
    small_luma = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    found = {
        "mean_luminance": float(luminance(decode(small)).mean()),
        "highlight_fraction": float(np.count_nonzero(luma >= HIGHLIGHT)) / luma.size,
        "shadow_fraction": float(np.count_nonzero(luma <= SHADOW)) / luma.size,
        "contrast": float(cv2.meanStdDev(luma)[1][0, 0]) / 255,
        "colourfulness": _colourfulness(small.astype(np.float32)),
        "noise": _noise(luma),
        "texture": _texture(small_luma),
        "sky": _sky(small_luma),
    }
    return {name: round(value, 6) for name, value in found.items()}


def is_grey(image: Image) -> bool:
    """Tell whether in 99 % of the pixels the channels differ by at most 8 levels, whatever mode the file has."""
    sample = image[::4, ::4]
    spread = sample.max(axis=2) - sample.min(axis=2)
    return bool(np.count_nonzero(spread <= GREY_SPREAD) >= GREY_SHARE * spread.size)


def _shrunk(image: Image) -> Image:
    ratio = SMALL_SIDE / min(image.shape[:2])
    if ratio >= 1:
        return image
    size = (max(1, round(image.shape[1] * ratio)), max(1, round(image.shape[0] * ratio)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _colourfulness(rgb: Plane) -> float:
    red_green = rgb[..., 0] - rgb[..., 1]
    yellow_blue = 0.5 * (rgb[..., 0] + rgb[..., 1]) - rgb[..., 2]
    spread = np.hypot(red_green.std(dtype=np.float64), yellow_blue.std(dtype=np.float64))
    return float(spread + 0.3 * np.hypot(red_green.mean(dtype=np.float64), yellow_blue.mean(dtype=np.float64)))


def _sky(luma: Image) -> float:
    upper = luma[: max(1, luma.shape[0] // 2)].astype(np.float32)
    slope = np.abs(cv2.Sobel(upper, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(upper, cv2.CV_32F, 0, 1))
    return float(np.count_nonzero((upper > BRIGHT) & (slope < SMOOTH))) / luma.size


def _noise(luma: NDArray[np.uint8]) -> float:
    rows, columns = (side // (2 * _BLOCK) * 2 * _BLOCK for side in luma.shape)
    if not rows or not columns:
        return 0.0
    levels = luma[:rows, :columns].astype(np.float32)
    diagonal = 0.5 * (levels[::2, ::2] - levels[::2, 1::2] - levels[1::2, ::2] + levels[1::2, 1::2])
    size = (columns // (2 * _BLOCK), rows // (2 * _BLOCK))
    power = cv2.resize(diagonal * diagonal, size, interpolation=cv2.INTER_AREA)
    brightness = cv2.resize(levels, size, interpolation=cv2.INTER_AREA)
    usable = power[(brightness > SHADOW) & (brightness < HIGHLIGHT)]  # clipped blocks hide their noise
    return float(np.sqrt(np.quantile(usable, 0.1))) if usable.size else 0.0


def _texture(luma: NDArray[np.uint8]) -> float:
    across, down = (cv2.Scharr(luma, cv2.CV_32F, *order, scale=1 / 32) for order in ((1, 0), (0, 1)))
    return float(np.mean(length(across, down), dtype=np.float64))
