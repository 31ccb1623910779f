"""Rows of pixels as rows of values, and rows of a small picture between its own.

A loop over (3 W,) runs on whole vectors, one over (W, 3) on a fifth of each.
"""

from typing import cast

import numpy as np

from degradations.kernels._compiled import inlined
from degradations.pairs.contract import Light

_HALF, _ZERO = np.float32(0.5), np.float32(0)
PLANE, RGB = cast("int", np.int64(1)), cast("int", np.int64(3))
"""Channels. To numba a plain 3 is a type of its own, for which a piece of kernels is compiled once more."""


@inlined
def threefold(plane: Light, out: Light) -> None:
    """Write each of `plane` (W,) three times to `out` (3 W,)."""
    for column in range(plane.size):
        out[3 * column] = plane[column]
        out[3 * column + 1] = plane[column]
        out[3 * column + 2] = plane[column]


@inlined
def between(row: int, height: int, small: int) -> tuple[int, int, np.float32]:
    """Return which two of `small` rows `row` of `height` lies between, and the share of the second."""
    place = (np.float32(row) + _HALF) * (np.float32(small) / np.float32(height)) - _HALF
    place = min(max(place, _ZERO), np.float32(small - 1))
    first = int(place)
    return first, min(first + 1, small - 1), place - np.float32(first)


@inlined
def mirrored(place: int, size: int) -> int:
    """Return which of `size` pixels stands at `place`, if beyond the border the picture goes on as its mirror image."""
    if 0 <= place < size:
        return place
    period = max(1, 2 * size - 2)
    place = abs(place) % period
    return min(place, period - place, size - 1)
