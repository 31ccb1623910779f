"""Where the content of each neighbourhood went, whatever a blur did to it: local least squares with a blur term.

Light spread by a kernel of mass a, centroid u and second moments M is, to second order and after smoothing by more
than the kernel is wide, or while the image is smooth by itself,

    D = a C - a u . grad C + (M : grad grad C) / 2 + b

in each window, after C has been given the blur of D by the filter without phase, so without any shift of its own, that
fits best over all blocks. This is the gradient method of Lucas and Kanade (IJCAI 1981) with the radiometric terms a and
b of Negahdaripour (IEEE PAMI 1998), which stand for haze, darkness and colour, and, ours, the filter and M for blur.
The kernels that this project draws have their centroid at 0, so u is a shift and nothing else, however long the kernel.
Both images are taken in linear light, where blur is linear, and whitened locally. Every window carries the standard
deviation of its u, from what it leaves unexplained.
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
    first, second = (whitened(_reduced(_light(image), factor)) for image in (clean, degraded))
    sums, window = _windows(_terms(_as_soft(first, second), second))
    independent = window * window / (4 * np.pi * _SMOOTHING**2)
    overlap = (window / max(1, min(_STRIDE, window // 3))) ** 2
    whole, _ = _solve(sums.mean((0, 1)), independent * max(1.0, sums.shape[0] * sums.shape[1] / overlap))
    local, deviation = _solve(sums, independent)
    away = np.hypot(*np.moveaxis(local - whole, -1, 0)) - _DEVIATIONS * np.hypot(*np.moveaxis(deviation, -1, 0))
    agreed = np.sort(np.maximum(away, 0).ravel())[-_AGREEING] if away.size >= _AGREEING else 0.0
    return Flow(
        shift_px=factor * float(np.hypot(*whole)), warp_px=factor * float(agreed), pixel=factor / SMALLEST_REDUCTION
    )


def _light(image: Image) -> Plane:
    """Return linear light, 0 to 255: where levels are blurred, a bright side does not push its edge outwards."""
    return np.asarray(cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), _LINEAR))


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


def _windows(terms: list[Plane]) -> tuple[NDArray[np.float64], int]:
    """Return the mean products of the terms over overlapping windows (rows, columns, 7, 7), and the windows' size."""
    height, width = terms[0].shape
    window = min(_WINDOW, height, width)
    stride, half = max(1, min(_STRIDE, window // 3)), window // 2
    sums = np.empty((*terms[0][half : height - half + 1 : stride, half : width - half + 1 : stride].shape, 7, 7))
    for first in range(7):
        for second in range(first, 7):
            mean = cv2.blur(terms[first] * terms[second], (window, window))
            sums[..., first, second] = mean[half : height - half + 1 : stride, half : width - half + 1 : stride]
            sums[..., second, first] = sums[..., first, second]
    return sums, window


def _solve(sums: NDArray[np.float64], independent: float) -> Solved:
    """Return u (row, column) and its standard deviation of each window with `independent` samples."""
    normal, right, power = sums[..., :-1, :-1], sums[..., :-1, -1], sums[..., -1, -1]
    scale = np.sqrt(np.maximum(np.einsum("...ii->...i", normal), 1e-9))
    inverse = np.linalg.inv(normal / (scale[..., None] * scale[..., None, :]) + _DAMPING * np.eye(6))
    found = np.einsum("...ij,...j->...i", inverse, right / scale)
    rest = np.maximum(power - np.einsum("...i,...i->...", found, right / scale), _PLAIN)
    deviation = np.sqrt(rest[..., None] / independent * np.einsum("...ii->...i", inverse)) / scale
    found /= scale
    gain = np.where(found[..., 0] < 0, -1.0, 1.0) * np.maximum(np.abs(found[..., 0]), _LEAST_GAIN)
    return -found[..., 1:3] / gain[..., None], deviation[..., 1:3] / np.abs(gain)[..., None]
