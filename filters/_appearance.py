"""What one image, without its clean side, says of how it was degraded: statistics of detail, colour and light."""

import cv2
import numpy as np
from numpy.typing import NDArray

from filters._evidence import prominences
from filters._quality import blockiness, edge_width, fine_detail, noise, tones
from filters._statistics import box, length, luma, strips
from storage.records import Image, Plane

_SAMPLE = 2**18
_LINEAR = ((np.arange(256) / 255) ** 2.2).astype(np.float32)
_COPY = 256  # pixels, the longer side of the copy on which light falls off
_FAINT = 0.1  # log gradient that counts half: below it light hardly falls off at all


def appearance(image: Image) -> dict[str, float]:
    """Return the statistics of an image; levels unless said otherwise."""
    sample = strips(image, _SAMPLE, height=128)
    grey = luma(sample)
    found = {"edge_width": edge_width(grey), "fine_detail": fine_detail(sample), "blockiness": blockiness(grey)}
    red = cv2.cvtColor(strips(image, _SAMPLE, height=256), cv2.COLOR_RGB2YCrCb)[..., 1].astype(np.float32)
    found["pattern"] = max(prominences(red), default=0.0)  # scenes have few lines in chroma, screens many
    small = cv2.resize(image, _reduced(image, 8), interpolation=cv2.INTER_AREA)
    found["falloff"] = _falloff(image)
    return found | noise(sample) | tones(grey) | _octaves(grey) | _light(small)


def _octaves(grey: Plane) -> dict[str, float]:
    """Return of each octave: RMS of quiet, usual and busy blocks, tails, and direction in [0, 1]."""
    found: dict[str, float] = {}
    for octave in range(4):
        band = grey - cv2.GaussianBlur(grey, (5, 5), 1.1)
        squared = band * band
        blocks = cv2.resize(squared, _reduced(squared, 16 >> min(octave, 2)), interpolation=cv2.INTER_AREA)
        quiet, usual, busy = np.sqrt(np.percentile(blocks, (10, 50, 90)))
        variance = float(squared.mean()) + 0.05
        columns, rows = cv2.Sobel(band, cv2.CV_32F, 1, 0), cv2.Sobel(band, cv2.CV_32F, 0, 1)
        across, along = float((columns * columns).mean()), float((rows * rows).mean())
        mixed = float((columns * rows).mean())
        found |= {
            f"quiet_{octave}": float(quiet),
            f"usual_{octave}": float(usual),
            f"busy_{octave}": float(busy),
            f"skewness_{octave}": float((squared * band).mean()) / variance**1.5,
            f"kurtosis_{octave}": float((squared * squared).mean()) / variance**2,
            f"anisotropy_{octave}": float(np.hypot(across - along, 2 * mixed) / (across + along + 0.1)),
        }
        grey = cv2.resize(grey, _reduced(grey, 2), interpolation=cv2.INTER_AREA)
    return found


def _light(small: Image) -> dict[str, float]:
    """Return tones and colour of a copy of 1/8: percentiles, dark channel, saturation, glare (bright and smooth)."""
    grey = luma(small)
    dark = cv2.erode(small.min(2), np.ones((3, 3), np.uint8))
    chroma = cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb)[..., 1:].astype(np.float32)
    contrast = np.sqrt(np.maximum(box(grey * grey, 5) - box(grey, 5) ** 2, 0))
    percentiles = zip((1, 10, 50, 90, 99.5), np.percentile(grey, (1, 10, 50, 90, 99.5)), strict=True)
    return {f"light_{percent}": float(light) for percent, light in percentiles} | {
        "dark_20": float(np.percentile(dark, 20)),
        "dark_50": float(np.percentile(dark, 50)),
        "saturation": float(np.hypot(chroma[..., 0] - 128, chroma[..., 1] - 128).mean()),
        "cast": float(np.hypot(chroma[..., 0].mean() - 128, chroma[..., 1].mean() - 128)),
        "chroma_detail": float((chroma - cv2.blur(chroma, (5, 5))).std()),
        "local_contrast": float(np.median(contrast)),
        "glare": float(np.mean((grey > 200) & (contrast > 2) & (contrast < 25))),
    }


def _falloff(image: Image) -> float:
    """Return how far gradients of the logarithm of light point at the brightest place, -1 to 1.

    Light scattered in a lens or in the air falls off in all directions from its lamp, over whatever stands there; a
    scene's own edges point anywhere.
    """
    ratio = min(1.0, _COPY / max(image.shape[:2]))
    size = max(8, round(image.shape[1] * ratio)), max(8, round(image.shape[0] * ratio))
    light = cv2.LUT(cv2.resize(image, size, interpolation=cv2.INTER_AREA), _LINEAR).mean(2)
    light = cv2.GaussianBlur(light, (0, 0), 2.0)
    lamp = np.unravel_index(int(light.argmax()), light.shape)
    levels = cv2.GaussianBlur(np.log(light + 0.01), (0, 0), 2.0)
    along_rows, along_columns = cv2.Sobel(levels, cv2.CV_32F, 0, 1), cv2.Sobel(levels, cv2.CV_32F, 1, 0)
    rows, columns = np.indices(light.shape, dtype=np.float32)
    rows, columns = lamp[0] - rows, lamp[1] - columns
    away = length(rows, columns)
    inward = (along_rows * rows + along_columns * columns) / np.maximum(away, 1)
    around = (away > 4) & (away < 0.4 * min(light.shape))
    if not around.any():
        return 0.0
    return float(np.mean(inward[around] / (length(along_rows, along_columns)[around] + _FAINT), dtype=np.float64))


def _reduced(image: NDArray[np.generic], factor: int) -> tuple[int, int]:
    return max(1, image.shape[1] // factor), max(1, image.shape[0] // factor)
