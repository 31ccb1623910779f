"""Where the content of one image lies in another: phase correlation of blocks, alone and summed.

Both images are whitened locally (mean and contrast of 15 x 15 pixels), so that haze, darkness and tone curves do not
matter. Each block, under a Hann window, gives a correlation surface (phase correlation, Kuglin and Hines 1975, with
a Gaussian low-pass so that the peak is smooth enough to be read between pixels). The sum over all blocks tells the
global shift. Sums over 3 x 3 blocks tell local ones, because a block by itself is easily fooled by streaks, noise or
a second image. Every sum carries its confidence: how many standard deviations of its surface the peak stands out; and
the standard deviation of its shift: the slopes that the surface has by chance over the curvature of the peak. A soft
peak, as compression and darkness leave, is so no evidence of a shift.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from filters._statistics import luma, whitened
from storage.records import Image, Plane

REACH = 16  # pixels; larger shifts are looked for on a quarter-size copy

_BLOCK, _STRIDE = 64, 48
_MOST_BLOCKS = 512  # of larger images, blocks further apart
_NEIGHBOURS = 3
_COARSE = 4
_WHITENING = 0.8  # 1 is pure phase, which amplifies what a blur has removed
_CUTOFF = 0.18  # cycles per pixel, one sigma of the low-pass
_CONFIDENT = 6.0
_DEVIATIONS = 4.0  # that a window must stand out by before its shift counts
_AGREEING = 4  # windows, which overlap

Surfaces = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """How the degraded image lies on the clean one.

    shift_px: length of the global shift. local_px: length of the largest local shift beside the global one, less four
    standard deviations, that four overlapping windows agree on (0 where none is confident); windows of 160 pixels
    understate what is smaller. confidence: of the global shift, in standard deviations.
    """

    shift_px: float
    local_px: float
    confidence: float


def register(clean: Image, degraded: Image) -> Registration:
    """Return how `degraded`, of the same shape, lies on `clean`."""
    surfaces = _surfaces(whitened(luma(clean)), whitened(luma(degraded)))
    shift, confidence = _peaks(surfaces.mean((0, 1)))
    far, far_confidence = _coarse_shift(clean, degraded)
    if np.hypot(*far) > REACH - _COARSE and far_confidence > max(_CONFIDENT, float(confidence)):
        return Registration(shift_px=float(np.hypot(*far)), local_px=0.0, confidence=far_confidence)
    local = _local(_neighbourhoods(surfaces), shift)
    return Registration(shift_px=float(np.hypot(*shift)), local_px=local, confidence=float(confidence))


def _local(surfaces: Surfaces, shift: NDArray[np.float32]) -> float:
    """Return how far beyond `shift`, and beyond chance, the shifts go that enough of the surfaces show."""
    local, confidence = _peaks(surfaces)
    certain = confidence >= _CONFIDENT
    if np.count_nonzero(certain) < _AGREEING:
        return 0.0
    away = np.hypot(local[certain, 0] - shift[0], local[certain, 1] - shift[1])
    return float(np.sort(np.maximum(away - _DEVIATIONS * _deviations(surfaces[certain]), 0))[-_AGREEING])


def _coarse_shift(clean: Image, degraded: Image) -> tuple[NDArray[np.float32], float]:
    size = tuple(max(_BLOCK, side // _COARSE) for side in clean.shape[1::-1])
    small = [whitened(luma(cv2.resize(image, size, interpolation=cv2.INTER_AREA))) for image in (clean, degraded)]
    shift, confidence = _peaks(_surfaces(*small).mean((0, 1)))
    return shift * _COARSE, float(confidence)


def _surfaces(clean: Plane, degraded: Plane) -> Surfaces:
    """Return the correlation surfaces (rows, columns, 2 REACH + 1, 2 REACH + 1) of a grid of blocks."""
    spectrum = np.conj(_spectra(clean)) * _spectra(degraded)
    rows, columns = np.fft.fftfreq(_BLOCK)[:, None], np.fft.rfftfreq(_BLOCK)[None]
    low_pass = np.exp(-(rows**2 + columns**2) / (2 * _CUTOFF**2)).astype(np.float32)
    low_pass[0, 0] = 0
    spectrum *= low_pass / (np.abs(spectrum) + np.float32(1e-3)) ** np.float32(_WHITENING)
    near = np.arange(-REACH, REACH + 1)
    surfaces = scipy.fft.irfft2(spectrum, s=(_BLOCK, _BLOCK))
    return np.asarray(surfaces[..., near[:, None], near[None]], dtype=np.float32)


def _spectra(plane: Plane) -> NDArray[np.complex64]:
    missing = [max(0, _BLOCK - side) for side in plane.shape]
    plane = np.pad(plane, [(0, side) for side in missing])
    blocks = np.lib.stride_tricks.sliding_window_view(plane, (_BLOCK, _BLOCK))
    stride = max(_STRIDE, int(np.ceil(np.sqrt(blocks.shape[0] * blocks.shape[1] / _MOST_BLOCKS))))
    hann = np.hanning(_BLOCK).astype(np.float32)
    return np.asarray(scipy.fft.rfft2(blocks[::stride, ::stride] * (hann[:, None] * hann[None])))


def _neighbourhoods(surfaces: Surfaces) -> Surfaces:
    """Return the sums of the surfaces over windows of neighbouring blocks."""
    for axis in (0, 1):
        count = max(1, surfaces.shape[axis] - _NEIGHBOURS + 1)
        steps = range(min(_NEIGHBOURS, surfaces.shape[axis]))
        surfaces = np.add.reduce([surfaces.take(range(step, step + count), axis) for step in steps])
    return surfaces


def _peaks(surfaces: Surfaces) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the (row, column) shifts at the peaks of surfaces (..., S, S), between pixels, and their confidence."""
    flat = surfaces.reshape(-1, *surfaces.shape[-2:])
    index = np.arange(len(flat))
    best = flat.reshape(len(flat), -1).argmax(1)
    row, column = best // flat.shape[2], best % flat.shape[2]
    inner_row, inner_column = (np.clip(position, 1, 2 * REACH - 1) for position in (row, column))
    along_rows = [flat[index, inner_row + step, inner_column] for step in (-1, 0, 1)]
    along_columns = [flat[index, inner_row, inner_column + step] for step in (-1, 0, 1)]
    shift = np.stack([row + _vertex(*along_rows), column + _vertex(*along_columns)], -1) - REACH
    height = flat[index, row, column] - flat.mean((1, 2))
    confidence = height / np.maximum(flat.std((1, 2)), 1e-12)
    shift *= (confidence > 0)[:, None]  # a surface without a peak says nothing
    return shift.reshape(*surfaces.shape[:-2], 2), confidence.reshape(surfaces.shape[:-2])


def _deviations(surfaces: Surfaces) -> Plane:
    """Return the standard deviations, in pixels, of the places of the peaks of surfaces (N, S, S).

    Where a peak has the second derivatives H, slopes of covariance G move it by H^-1 G H^-1; this is the root of its
    trace, written out because the last digits of LAPACK's inverses change with the addresses it is given.
    """
    rows = (surfaces[:, 2:, 1:-1] - surfaces[:, :-2, 1:-1]) / 2
    columns = (surfaces[:, 1:-1, 2:] - surfaces[:, 1:-1, :-2]) / 2
    along_rows, along_columns, mixed = _curvatures(surfaces)
    moved = (
        (rows * rows).mean((1, 2)) * (along_columns**2 + mixed**2)
        - 2 * (rows * columns).mean((1, 2)) * mixed * (along_rows + along_columns)
        + (columns * columns).mean((1, 2)) * (along_rows**2 + mixed**2)
    )
    sharpness = np.maximum(along_rows * along_columns - mixed**2, 1e-12)
    return np.asarray(np.sqrt(np.maximum(moved, 0)) / sharpness)


def _curvatures(surfaces: Surfaces) -> tuple[Plane, Plane, Plane]:
    """Return minus the second derivatives at the peaks of surfaces (N, S, S): along rows, columns and both."""
    index = np.arange(len(surfaces))
    best = np.divmod(surfaces.reshape(len(surfaces), -1).argmax(1), surfaces.shape[2])
    row, column = np.clip(best, 1, surfaces.shape[2] - 2)
    steps = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    near = {(down, right): surfaces[index, row + down, column + right] for down, right in steps}
    along_rows = 2 * near[0, 0] - near[1, 0] - near[-1, 0]
    along_columns = 2 * near[0, 0] - near[0, 1] - near[0, -1]
    return along_rows, along_columns, (near[1, -1] + near[-1, 1] - near[1, 1] - near[-1, -1]) / 4


def _vertex(before: Plane, here: Plane, after: Plane) -> Plane:
    """Return where, within half a pixel, the parabola through three neighbours peaks."""
    curvature = np.minimum(before - 2 * here + after, -1e-12)
    return np.asarray(np.clip(0.5 * (before - after) / curvature, -0.5, 0.5))
