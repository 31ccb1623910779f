"""What a pair says of how it was degraded: the transfer of detail by octave, what it leaves unexplained, and light.

By octave k (bands of a pyramid; 0 is the finest) the degraded band is split into gain x clean band + the rest. The
gain is what is left of the scene's detail: blur lowers the fine octaves only, haze and darkness all alike, noise none.
The rest is what was added: white and everywhere for noise, bright and upright for rain, at edges for compression.
Light is compared linearly on a copy of 1/16: darkness multiplies it, flare and reflections add to it, haze lifts its
dark channel (He et al., CVPR 2009). Fine octaves are measured on strips of a quarter megapixel at most.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from filters._statistics import box, difference, strips
from storage.records import Image, Plane

_SAMPLE = 2**18  # pixels of the fine octaves
_FLOOR = 0.05  # squared levels: below it a band is empty
_TILE = 256
_LINEAR = ((np.arange(256) / 255) ** 2.2).astype(np.float32)

Evidence = dict[str, float]


def evidence(clean: Image, degraded: Image) -> Evidence:
    """Return the statistics of a pair of equal shape; names as in the module's docstring, units at each function."""
    fine = [strips(image, _SAMPLE, height=128) for image in (clean, degraded)]
    grey = [_grey(image) for image in fine]
    coarse = [cv2.resize(image, _reduced(image, 8), interpolation=cv2.INTER_AREA) for image in (clean, degraded)]
    found = _octaves(grey[0], grey[1], first=0, count=3)
    found |= _octaves(_grey(coarse[0]), _grey(coarse[1]), first=3, count=2)
    found |= _chroma(fine[0], fine[1]) | _light(coarse[0], coarse[1]) | _pattern(grey[0], grey[1])
    found["changed"] = float(np.mean(difference(fine[0], fine[1]) > 1))
    return found


def _grey(image: Image) -> Plane:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.float32)


def _reduced(image: NDArray[Any], factor: int) -> tuple[int, int]:
    return max(1, image.shape[1] // factor), max(1, image.shape[0] // factor)


def _band(plane: Plane) -> Plane:
    return np.asarray(plane - cv2.GaussianBlur(plane, (5, 5), 1.1))


def _octaves(clean: Plane, degraded: Plane, *, first: int, count: int) -> Evidence:
    """Return by octave: gain, coherence in [0, 1], rise (octaves of amplitude), and of the fine ones the rest."""
    found: Evidence = {}
    for octave in range(first, first + count):
        band, degraded_band = _band(clean), _band(degraded)
        power, degraded_power = _mean(band * band) + _FLOOR, _mean(degraded_band * degraded_band) + _FLOOR
        cross = _mean(band * degraded_band) + _FLOOR
        found[f"gain_{octave}"] = cross / power
        found[f"coherence_{octave}"] = cross * cross / (power * degraded_power)
        found[f"rise_{octave}"] = 0.5 * float(np.log2(degraded_power / power))
        if first == 0:
            found |= _rest(degraded_band - np.float32(cross / power) * band, octave)
        if octave == 0:
            empty = (np.mean(np.abs(plane) < 0.3) for plane in (degraded_band, band))
            found["emptied"] = float(next(empty) - next(empty))
        clean, degraded = (
            cv2.resize(plane, _halved(plane), interpolation=cv2.INTER_AREA) for plane in (clean, degraded)
        )
    return found


def _rest(rest: Plane, octave: int) -> Evidence:
    """Return of what the clean image does not explain: RMS (levels) of quiet to busy blocks, and its shape."""
    squared = rest * rest
    blocks = cv2.resize(squared, _reduced(squared, 16), interpolation=cv2.INTER_AREA)
    quiet, usual, busy = np.sqrt(np.percentile(blocks, (10, 50, 90)))
    variance = _mean(squared) + _FLOOR
    found = {
        f"rest_quiet_{octave}": float(quiet),
        f"rest_{octave}": float(usual),
        f"rest_busy_{octave}": float(busy),
        f"skewness_{octave}": _mean(squared * rest) / variance**1.5,
        f"kurtosis_{octave}": _mean(squared * squared) / variance**2,
    }
    if octave == 0:
        found["along_columns"] = _mean(rest[:, 1:] * rest[:, :-1]) / variance
        found["along_rows"] = _mean(rest[1:] * rest[:-1]) / variance
    if octave == 1:
        found["anisotropy"] = _anisotropy(rest)
    return found


def _anisotropy(plane: Plane) -> float:
    """Return 0 for detail in all directions alike, 1 for parallel lines (of the structure tensor)."""
    columns, rows = cv2.Sobel(plane, cv2.CV_32F, 1, 0), cv2.Sobel(plane, cv2.CV_32F, 0, 1)
    across, along, mixed = _mean(columns * columns), _mean(rows * rows), _mean(columns * rows)
    return float(np.hypot(across - along, 2 * mixed) / (across + along + 0.1))


def _chroma(clean: Image, degraded: Image) -> Evidence:
    """Return the change of chroma in levels: fine (usual block), middle (RMS) and overall (mean)."""
    planes = [cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)[..., 1:].astype(np.float32) for image in (clean, degraded)]
    change = planes[1] - planes[0]
    red = np.ascontiguousarray(change[..., 0])
    fine = red - box(red, 5)
    blocks = cv2.resize(fine * fine, _reduced(fine, 16), interpolation=cv2.INTER_AREA)
    middle = cv2.resize(change, _reduced(change, 4), interpolation=cv2.INTER_AREA)
    detail = middle - cv2.blur(middle, (9, 9))
    return {
        "chroma_fine": float(np.sqrt(np.median(blocks))),
        "chroma_middle": float(np.sqrt(np.mean(detail * detail))),
        "chroma_shift": float(np.hypot(*np.mean(middle.reshape(-1, 2), axis=0))),
    }


def _light(clean: Image, degraded: Image) -> Evidence:
    """Return how linear light (of copies of 1/8) changed: exposure in EV, gains in units of white."""
    light = [cv2.LUT(image, _LINEAR) for image in (clean, degraded)]
    planes = [cv2.resize(_luminance(image), _halved(image), interpolation=cv2.INTER_AREA) for image in light]
    change = planes[1] - planes[0]
    least, usual, most = np.percentile(change, (5, 50, 99.5))
    spread = float(change.std()) + 1e-3
    dark, dark_degraded = (_dark(image) for image in light)
    means = [float(plane.mean()) + 2e-3 for plane in planes]
    return {
        "exposure": float(np.log2(means[1] / means[0])),
        "least_gain": float(least),
        "usual_gain": float(usual),
        "most_gain": float(most),
        "gain_correlation": _correlation(change, planes[0]),
        "flattening": _flattening(*planes),
        "gain_concentration": float(np.sqrt(_mean(change * change)) / (np.mean(np.abs(change)) + 1e-3)),
        "gain_roughness": float(np.mean(np.abs(np.diff(change, axis=1))) / spread) if change.shape[1] > 1 else 0.0,
        "veil": dark_degraded / means[1] - dark / means[0],
        "dark_channel": 255 * (dark_degraded ** (1 / 2.2) - dark ** (1 / 2.2)),
    }


def _luminance(light: NDArray[np.float32]) -> Plane:
    return np.asarray(cv2.transform(light, np.array([[0.2126, 0.7152, 0.0722]], np.float32)))


def _dark(light: NDArray[np.float32]) -> float:
    """Return the 20th percentile of the dark channel: the least of the channels nearby."""
    return float(np.percentile(cv2.erode(light.min(2), np.ones((3, 3), np.uint8)), 20))


def _flattening(clean: Plane, degraded: Plane) -> float:
    """Return the share of contrast, relative to the mean light, that is lost: 0 where light is only multiplied."""
    contrast = float(clean.std()) / (float(clean.mean()) + 2e-3)
    slope = _correlation(clean, degraded) * float(degraded.std()) / (float(degraded.mean()) + 2e-3)
    return 1 - slope / contrast if contrast > 1e-3 else 0.0


def _correlation(first: Plane, second: Plane) -> float:
    if first.std() < 1e-4 or second.std() < 1e-4:
        return 0.0
    one, other = (plane - plane.mean(dtype=np.float64) for plane in (first, second))
    # Sums, not a matrix product, whose last digits change with the threads and the addresses it is given.
    return float(np.sum(one * other) / np.sqrt(np.sum(one * one) * np.sum(other * other)))


def _pattern(clean: Plane, degraded: Plane) -> Evidence:
    """Return the prominence of the strongest line of the change, over all tiles and on average."""
    found = prominences(degraded - clean)
    return {"pattern": max(found, default=0.0), "pattern_mean": float(np.mean(found or [0.0]))}


def prominences(plane: Plane) -> list[float]:
    """Return of each tile how far, in octaves of power, its strongest line stands above others of its frequency."""
    return [_prominence(tile) for tile in _tiles(plane)]


def _tiles(plane: Plane) -> list[Plane]:
    size = min(_TILE, *plane.shape)
    if size < 32:
        return []
    tops, lefts = (range(0, side - size + 1, size) for side in plane.shape)
    return [plane[top : top + size, left : left + size] for top in tops for left in lefts]


def _prominence(tile: Plane) -> float:
    size = tile.shape[0]
    hann = np.hanning(size).astype(np.float32)
    power = np.abs(np.fft.rfft2((tile - tile.mean()) * hann[:, None] * hann)).astype(np.float32) ** 2
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]) * size
    ring = np.minimum(frequency.astype(int) // 4, size // 8)
    smooth = np.log2(cv2.blur(power, (3, 3)) + 1.0 + 1e-3 * float(power.mean()))
    usual = np.bincount(ring.ravel(), smooth.ravel()) / np.maximum(np.bincount(ring.ravel()), 1)
    return float((smooth - usual[ring])[(ring >= 2) & (ring < size // 8)].max())


def _halved(plane: NDArray[np.float32]) -> tuple[int, int]:
    return max(1, plane.shape[1] // 2), max(1, plane.shape[0] // 2)


def _mean(plane: Plane) -> float:
    return float(cv2.mean(plane)[0])
