"""Chroma at half its width, and back, row by row, as libjpeg rounds it. All sums are below 2^12."""

import numpy as np
from numpy.typing import NDArray

from degradations.kernels._compiled import inlined, inlined_in

Codes = NDArray[np.uint8]
Sums = NDArray[np.uint16]


@inlined_in("uint16")
def mean(a: np.uint8, b: np.uint8, c: np.uint8, d: np.uint8, rounding: np.uint16) -> np.uint16:
    """Return the mean of four codes, rounded by `rounding` quarters."""
    total = a + b + c + d + rounding
    return np.uint16(total >> 2)


@inlined_in("uint16")
def nearer(here: np.uint16, there: np.uint16, rounding: int) -> np.uint16:
    """Return the code a quarter of the way from `here` to `there`, both four times codes, rounded by sixteenths."""
    total = 3 * here + there + rounding
    return np.uint16(total >> 4)


@inlined
def halved(upper: Codes, lower: Codes, rounding: Sums, out: Codes) -> None:
    """Write the means of pairs of `upper` and of `lower` (2 w,), rounded by `rounding` (w,), to `out` (w,)."""
    for column in range(out.size):
        a, b, c, d = upper[2 * column], upper[2 * column + 1], lower[2 * column], lower[2 * column + 1]
        out[column] = mean(a, b, c, d, rounding[column])


@inlined
def between_rows(near: Codes, far: Codes, out: Sums) -> None:
    """Write 3 `near` + `far`, both at least (w,), to `out` (w + 2,), and what is at its ends once more."""
    width = out.size - 2
    inner = out[1:]
    for column in range(width):
        inner[column] = 3 * near[column] + far[column]
    out[0], out[width + 1] = out[1], out[width]


@inlined
def doubled(sums: Sums, even: int, odd: int, out: Codes) -> None:
    """Write to `out` (2 w,) what lies between `sums` (w + 2,), four times codes: 3 : 1, rounded by `even` and `odd`."""
    for column in range(sums.size - 2):
        out[2 * column] = nearer(sums[column + 1], sums[column], even)
        out[2 * column + 1] = nearer(sums[column + 1], sums[column + 2], odd)


@inlined
def repeated(codes: Codes, out: Codes) -> None:
    """Write each of `codes` (w,) twice to `out` (2 w,)."""
    for column in range(codes.size):
        out[2 * column], out[2 * column + 1] = codes[column], codes[column]
