"""Means over the areas that the pixels of a smaller picture cover, row by row: down first, then across."""

import numpy as np
from numpy.typing import NDArray

from degradations.kernels._compiled import compiled, inlined
from degradations.kernels.codes import nearest
from degradations.pairs.contract import Light

Codes = NDArray[np.uint8]
Places = NDArray[np.int64]

_ZERO = np.float32(0)


@inlined
def add(row: Codes, weight: np.float32, out: Light) -> None:
    """Add `weight` times `row` to `out`, both (N,)."""
    for value in range(row.size):
        out[value] += weight * np.float32(row[value])


@inlined
def across(row: Light, places: Places, weights: Light, out: Codes) -> None:
    """Write the weighted sums of pixels of `row` (3 W,) to `out` (3 w,); places, weights: (w, K)."""
    for column in range(len(places)):
        red, green, blue = _ZERO, _ZERO, _ZERO
        for tap in range(places.shape[1]):
            at, weight = np.uint64(places[column, tap]), weights[column, tap]
            red += weight * row[at]
            green += weight * row[at + np.uint64(1)]
            blue += weight * row[at + np.uint64(2)]
        out[3 * column], out[3 * column + 1], out[3 * column + 2] = nearest(red), nearest(green), nearest(blue)


@compiled("void(u1[:, :, ::1], i8[:, ::1], f4[:, ::1], i8[:, ::1], f4[:, ::1], u1[:, :, ::1])")
def reduce(image: Codes, rows: Places, downs: Light, columns: Places, acrosses: Light, out: Codes) -> None:
    """Write `image` (H, W, 3) at a smaller size to `out` (h, w, 3).

    rows, downs: (h, K), which rows and how much of each; columns, acrosses: (w, L), which columns, times 3.
    """
    sums = np.empty(3 * image.shape[1], np.float32)
    for row in range(len(out)):
        sums[:] = _ZERO
        for tap in range(rows.shape[1]):
            add(image[rows[row, tap]].reshape(-1), downs[row, tap], sums)
        across(sums, columns, acrosses, out[row].reshape(-1))
