"""Weights of separable filters in so few bits that every sum is exact in float32, in whatever order it is taken.

Codes of 8 bits times blur taps of 8 and 8 bits are whole multiples of 2^-16 below 256: 24 bits, what float32 holds. So
NumPy, OpenCV and torch, on any device, agree to the last bit, and with them the decisions of a codec that comes after.
Between filters values are rounded to sixteenths of a code (`snapped`), which leaves room for resampling weights of 11
bits. Needs NumPy only.
"""

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float32]
Indices = NDArray[np.int64]

BLUR_STEPS = 256  # to 1, of blur taps
STEPS = 2048  # to 1, of resampling weights, as OpenCV's own for uint8
SNAP = 16  # to a code
_CUBIC = -0.75  # as OpenCV's bicubic


def gaussian_taps(sigma: float) -> Weights:
    """Return the discrete Gaussian of `sigma` pixels (Lindeberg, 1990) in multiples of 1/256: float32 (2 r + 1,)."""
    radius = int(np.ceil(3.5 * sigma + 0.5))
    turns = 2 * np.pi * np.arange(4 * radius + 4) / (4 * radius + 4)
    exact = np.fft.rfft(np.exp(sigma * sigma * (np.cos(turns) - 1))).real / len(turns)
    side = np.rint(exact[1 : radius + 1] * BLUR_STEPS)
    side = side[: int(np.count_nonzero(side))]
    whole = np.concatenate([side[::-1], [BLUR_STEPS - 2 * side.sum()], side])
    return np.asarray(whole / BLUR_STEPS, dtype=np.float32)


def resampling_taps(old: int, new: int, interpolation: str) -> tuple[Indices, Weights]:
    """Return what makes `new` pixels of `old`: indices (new, K), inside, and weights (new, K) that add up to 1.

    interpolation: "area" (to fewer pixels), "bilinear" or "bicubic", with half-pixel centres, as OpenCV's.
    """
    if interpolation == "area":
        indices, exact = overlaps(old, new)
    else:
        scale = old / new
        centre = (np.arange(new)[:, None] + 0.5) * scale - 0.5
        reach = 1 if interpolation == "bilinear" else 2
        indices = np.floor(centre).astype(np.int64) + np.arange(1 - reach, 1 + reach)
        exact = _bell(np.abs(centre - indices), interpolation)
    weights = np.rint(exact * STEPS)
    largest = np.argmax(weights, axis=1)
    weights[np.arange(new), largest] += STEPS - weights.sum(axis=1)
    return np.clip(indices, 0, old - 1), np.asarray(weights / STEPS, dtype=np.float32)


def overlaps(old: int, new: int) -> tuple[Indices, NDArray[np.float64]]:
    """Return which of `old` pixels each of `new`, fewer, covers, and how much of itself each makes up: (new, K)."""
    scale = old / new
    left = np.arange(new)[:, None] * scale
    indices = np.floor(left).astype(np.int64) + np.arange(int(np.ceil(scale)) + 1)
    return indices, np.clip(np.minimum(indices + 1, left + scale) - np.maximum(indices, left), 0, None) / scale


def mirrored(size: int, reach: int) -> Indices:
    """Return the indices of `size` pixels and `reach` more on either side, mirrored about the border pixels."""
    period = max(1, 2 * size - 2)
    places = np.abs(np.arange(-reach, size + reach)) % period
    return np.minimum(places, period - places).astype(np.int64) if size > 1 else np.zeros(2 * reach + 1, np.int64)


def _bell(distance: NDArray[np.float64], interpolation: str) -> NDArray[np.float64]:
    if interpolation == "bilinear":
        return np.asarray(1 - distance)
    near = ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance * distance + 1
    far = ((_CUBIC * distance - 5 * _CUBIC) * distance + 8 * _CUBIC) * distance - 4 * _CUBIC
    return np.where(distance <= 1, near, far)
