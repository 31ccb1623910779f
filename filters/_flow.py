"""Where the content of each neighbourhood went, whatever a blur did to it: local least squares with a blur term.

Light spread by a kernel of mass a, centroid u and second moments M is, to second order and after smoothing by more
than the kernel is wide, or while the image is smooth by itself,

    D = a C - a u . grad C + (M : grad grad C) / 2 + b

in each window, after C has been given the blur of D by the filter without phase, so without any shift of its own, that
fits best over all blocks. This is the gradient method of Lucas and Kanade (IJCAI 1981) with the radiometric terms a and
b of Negahdaripour (IEEE PAMI 1998), which stand for haze, darkness and colour, and, ours, the filter and M for blur.
The kernels that this project draws have their centroid at 0, so u is a shift and nothing else, however long the kernel.
Both images are taken in linear light, where blur is linear, C in the tones of D, and whitened locally. Every window
carries the standard deviation of its u, from what it leaves unexplained.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from filters._statistics import whitened
from storage.records import Image, Plane

SMALLEST_REDUCTION = 2  # shot noise and compression live in what is left out
LARGEST = 2**18  # pixels of the reduced copy; larger images are reduced further

_SMOOTHING = 1.5  # sigma, of the reduced copy
_WINDOW = 64
_STRIDE = 21
_BLOCK = 64  # of the spectra
_DAMPING = 1e-3  # of the normalised normal equations
_LEAST_GAIN = 0.02
_DEVIATIONS = 4.0  # that a window must stand out by before its shift counts
_AGREEING = 3  # windows, which overlap
_LINEAR = (255 * (np.arange(256) / 255) ** 2.2).astype(np.float32)
_WHITE = 245.0  # of light
_TONES = 32  # quantiles of light that a curve has its knots at
_PLAIN = 1e-3  # of unexplained power, so that equal images have a finite certainty

Solved = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """Displacements in pixels of the full image.

    shift_px: of the whole. warp_px: beyond that, of the third most displaced window, less four standard deviations.
    pixel: pixels of the full image to one of the copy that was measured.
    """

    shift_px: float
    warp_px: float
    pixel: float


def flow(clean: Image, degraded: Image) -> Flow:
    """Return how `degraded`, of the same shape, has moved; shifts of up to four pixels to within a third."""
    factor = max(SMALLEST_REDUCTION, int(np.ceil(np.sqrt(clean.shape[0] * clean.shape[1] / LARGEST))))
    light, second = (_reduced(_light(image, _LINEAR), factor) for image in (clean, degraded))
    first = whitened(_reduced(_light(clean, _curve(light, second)), factor))
    second = whitened(second)
    seen = _seen(light)
    sums, share = _windows([term * seen for term in _terms(_as_soft(first, second), second)], seen)
    window = min(_WINDOW, *light.shape)
    independent = np.maximum(share, 0.02) * window * window / (4 * np.pi * _SMOOTHING**2)
    whole, _ = _solve(sums.mean((0, 1)), independent.mean())
    local, deviation = _solve(sums, independent)
    away = np.hypot(*np.moveaxis(local - whole, -1, 0)) - _DEVIATIONS * np.hypot(*np.moveaxis(deviation, -1, 0))
    agreed = np.sort(np.maximum(away, 0).ravel())[-_AGREEING] if away.size >= _AGREEING else 0.0
    return Flow(
        shift_px=factor * float(np.hypot(*whole)), warp_px=factor * float(agreed), pixel=factor / SMALLEST_REDUCTION
    )


def _light(image: Image, curve: NDArray[np.float32]) -> Plane:
    """Return the light, 0 to 255, that `curve` gives each level.

    Of linear light, because where levels are blurred a bright side pushes its edge outwards.
    """
    return np.asarray(cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), curve))


def _curve(clean: Plane, degraded: Plane) -> NDArray[np.float32]:
    """Return the light of `degraded` by level of `clean`, (256,), rising: exposure, tone curves, clipping.

    Its means where the smoothed clean image is as bright: noise averages out, and what has moved by a few pixels
    is about as bright as before. Without it an edge whose bright side was crushed seems to have moved.
    """
    light, seen = (cv2.GaussianBlur(plane, (0, 0), 2.0)[::3, ::3].ravel() for plane in (clean, degraded))
    bounds = np.unique(np.quantile(light, np.linspace(0, 1, _TONES + 1)))
    if len(bounds) < 4:
        return _LINEAR
    index = np.clip(np.searchsorted(bounds, light, side="right") - 1, 0, len(bounds) - 2)
    count = np.bincount(index)
    held = count > 0
    knots, tones = (np.bincount(index, plane.astype(np.float64))[held] / count[held] for plane in (light, seen))
    return np.asarray(np.interp(_LINEAR, knots, np.maximum.accumulate(tones)), dtype=np.float32)


def _seen(light: Plane) -> Plane:
    """Return 1 where the clean image shows what light there was, 0 near white: brighter parts may lie anywhere."""
    white = cv2.morphologyEx((light > _WHITE).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return np.asarray(cv2.dilate(white, np.ones((9, 9), np.uint8)) == 0, dtype=np.float32)


def _reduced(plane: Plane, factor: int) -> Plane:
    size = max(1, plane.shape[1] // factor), max(1, plane.shape[0] // factor)
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA))


def _as_soft(clean: Plane, degraded: Plane) -> Plane:
    """Return `clean` under the filter without phase that comes closest to `degraded`, by blocks of their spectra."""
    if min(clean.shape) < _BLOCK:
        return clean
    spectra = [_spectra(plane) for plane in (clean, degraded)]
    power = np.mean(np.abs(spectra[0]) ** 2, axis=(0, 1))
    common = np.mean((np.conj(spectra[0]) * spectra[1]).real, axis=(0, 1))
    response = common / (power + 1e-3 * power.mean() + 1e-9)
    kernel = np.fft.fftshift(np.fft.irfft2(response, s=(_BLOCK, _BLOCK)))[1:, 1:]  # odd, its middle the origin
    taper = np.hanning(_BLOCK + 1)[1:-1]
    return np.asarray(cv2.filter2D(clean, -1, (kernel * taper[:, None] * taper).astype(np.float32)))


def _spectra(plane: Plane) -> NDArray[np.complex64]:
    blocks = np.lib.stride_tricks.sliding_window_view(plane, (_BLOCK, _BLOCK))[:: _BLOCK // 2, :: _BLOCK // 2]
    hann = np.hanning(_BLOCK).astype(np.float32)
    return np.asarray(scipy.fft.rfft2(blocks * (hann[:, None] * hann)))


def _terms(clean: Plane, degraded: Plane) -> list[Plane]:
    """Return C, its two first and three second derivatives, and D; means are removed, which is the term b."""
    clean, degraded = (cv2.GaussianBlur(plane, (0, 0), _SMOOTHING) for plane in (clean, degraded))
    clean, degraded = (plane - cv2.blur(plane, (16, 16)) for plane in (clean, degraded))
    rows, columns = _slope(clean, 0), _slope(clean, 1)
    return [clean, rows, columns, _slope(rows, 0), _slope(rows, 1), _slope(columns, 1), degraded]


def _slope(plane: Plane, axis: int) -> Plane:
    kernel = np.array([[-0.5, 0, 0.5]], np.float32)
    return np.asarray(cv2.filter2D(plane, -1, kernel.T if axis == 0 else kernel))


def _windows(terms: list[Plane], seen: Plane) -> Solved:
    """Return the mean products of the terms over overlapping windows (rows, columns, 7, 7), and the share `seen`."""
    height, width = seen.shape
    window = min(_WINDOW, height, width)
    half, stride = window // 2, max(1, min(_STRIDE, window // 3))
    middles = slice(half, height - half + 1, stride), slice(half, width - half + 1, stride)
    share = cv2.blur(seen, (window, window))[middles]
    sums = np.empty((*share.shape, 7, 7))
    for first in range(7):
        for second in range(first, 7):
            sums[..., first, second] = cv2.blur(terms[first] * terms[second], (window, window))[middles]
            sums[..., second, first] = sums[..., first, second]
    return sums, share.astype(np.float64)


def _solve(sums: NDArray[np.float64], independent: NDArray[np.float64]) -> Solved:
    """Return u (row, column) and its standard deviation of each window with so many `independent` samples."""
    normal, right, power = sums[..., :-1, :-1], sums[..., :-1, -1], sums[..., -1, -1]
    scale = np.sqrt(np.maximum(np.einsum("...ii->...i", normal), 1e-9))
    inverse = np.linalg.inv(normal / (scale[..., None] * scale[..., None, :]) + _DAMPING * np.eye(6))
    found = np.einsum("...ij,...j->...i", inverse, right / scale)
    rest = np.maximum(power - np.einsum("...i,...i->...", found, right / scale), _PLAIN)
    deviation = np.sqrt((rest / independent)[..., None] * np.einsum("...ii->...i", inverse)) / scale
    found /= scale
    gain = np.where(found[..., 0] < 0, -1.0, 1.0) * np.maximum(np.abs(found[..., 0]), _LEAST_GAIN)
    return -found[..., 1:3] / gain[..., None], deviation[..., 1:3] / np.abs(gain)[..., None]
