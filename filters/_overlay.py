"""Signs of a mark that is tiled over a photograph: strokes that repeat under one translation, everywhere.

A mark I = (1 - alpha m) J + alpha m c that is tiled correlates with itself under the same translations all over the
image, however the ground changes; texture of the scene does so in places only. All is looked at on a copy with a
shorter side of 512 pixels.
"""

import cv2
import numpy as np

from storage.records import Image, Plane

SIDE = 512
_LONGEST, _LEAST = 2048, 128  # sides of the copy of a strip
_STROKE = 17  # side of the squares of the top-hats: wider than the strokes of letters
_RADIUS = 40  # shortest translation looked at
_PARTS = 4  # the correlation is looked at in 4 x 4 parts

_BESIDE = ((0, 7), (5, 5), (7, 0), (5, -5), (0, -7), (-5, -5), (-7, 0), (-5, 5))  # a stroke's width away

Shift = tuple[int, int]


def reduced(image: Image) -> Image:
    """Return a copy whose shorter side is 512 pixels, of a strip less; a smaller image is enlarged."""
    scale = min(SIDE / min(image.shape[:2]), _LONGEST / max(image.shape[:2]))
    size = max(_LEAST, round(image.shape[1] * scale)), max(_LEAST, round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC))


def repetition(image: Image) -> float:
    """Return how steadily strokes of a copy (H, W, 3) repeat all over it: about 0, of a clear tiled mark 1.

    In each of sixteen parts, what the correlation under the sharpest translation has over those a few pixels beside it:
    straight edges and fine texture correlate there as well. Six parts in ten have at most the value returned.
    """
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    kernel = np.ones((_STROKE, _STROKE), np.uint8)
    light, dark = (cv2.morphologyEx(luma, kind, kernel) for kind in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT))
    signed = np.arcsinh((light - dark) / 2)  # strokes of faint marks count nearly as much as strong texture
    signed -= cv2.blur(signed, (33, 33))
    return _steadiness(signed, _translation(signed))


def _translation(signed: Plane) -> Shift:
    """Return the place (rows, at most 0, and columns) of the sharpest peak of the autocorrelation.

    The spectrum is flattened half-way to phase correlation, or strong texture would hide a faint pattern.
    """
    rows, columns = signed.shape
    spectrum = np.fft.rfft2(signed, (2 * rows, 2 * columns))
    correlation = np.fft.fftshift(np.fft.irfft2(np.abs(spectrum), (2 * rows, 2 * columns))).astype(np.float32)
    peaks = cv2.GaussianBlur(correlation, (0, 0), 1.0) - cv2.GaussianBlur(correlation, (0, 0), 4.0)
    down, across = rows // 2, columns // 2
    peaks = peaks[rows - down : rows + 1, columns - across : columns + across + 1]
    row, column = np.arange(-down, 1)[:, None], np.arange(-across, across + 1)[None]
    peaks = peaks / ((1 + row / rows) * (1 - np.abs(column) / columns))
    near = np.hypot(row, column) < _RADIUS
    peaks[near] = -1
    place = np.unravel_index(int(peaks.argmax()), peaks.shape)
    return int(place[0]) - down, int(place[1]) - across


def _steadiness(signed: Plane, shift: Shift) -> float:
    here, power = _correlated(signed, shift)
    beside = [_correlated(signed, (shift[0] + down, shift[1] + right))[0] for down, right in _BESIDE]
    return float(np.percentile((here - np.max(beside, 0)) / (power + 1e-3), 60))


def _correlated(signed: Plane, shift: Shift) -> tuple[Plane, Plane]:
    """Return the mean product with the shifted copy in each part, and the mean square there."""
    rows, columns = signed.shape
    up, across = (-shift[0], shift[1]) if shift[0] <= 0 else (shift[0], -shift[1])
    here = signed[up:, max(0, -across) : columns - max(0, across)]
    there = signed[: rows - up, max(0, across) : columns - max(0, -across)]
    size = (_PARTS, _PARTS)
    product = cv2.resize(here * there, size, interpolation=cv2.INTER_AREA)
    return np.asarray(product), np.asarray(cv2.resize(here * here, size, interpolation=cv2.INTER_AREA))
