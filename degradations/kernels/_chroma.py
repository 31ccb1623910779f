"""Chroma at half its width, and back, row by row, as libjpeg rounds it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from degradations._compiled import inlined, inlined_int32

Codes = NDArray[np.uint8]


@inlined_int32
def mean(a: np.int32, b: np.int32, c: np.int32, d: np.int32, bias: int) -> np.int32:
    """Return the mean of four codes, rounded by `bias` quarters."""
    total = a + b + c + d + bias
    return np.int32(total >> 2)


@inlined_int32
def nearer(here: np.int32, there: np.int32, rounding: int) -> np.int32:
    """Return the code three quarters on the way from `there` to `here`, both four times codes."""
    raised = 3 * here + there + rounding
    return np.int32(raised >> 4)


@inlined
def halved(upper: Codes, lower: Codes, even: int, odd: int, out: Codes) -> None:
    """Write the means of pairs of `upper` and of `lower` (2 w,) to `out` (w,), rounded by `even` and `odd` in turn."""
    for column in range(out.size):
        a, b = np.int32(upper[2 * column]), np.int32(upper[2 * column + 1])
        c, d = np.int32(lower[2 * column]), np.int32(lower[2 * column + 1])
        out[column] = mean(a, b, c, d, odd if column & 1 else even)


@inlined
def between_rows(near: Codes, far: Codes, out: NDArray[Any]) -> None:
    """Write 3 `near` + `far`, both at least (w,), to `out` (w + 2,), and what is at its ends once more."""
    width = out.size - 2
    inner = out[1:]
    for column in range(width):
        inner[column] = 3 * np.int32(near[column]) + np.int32(far[column])
    out[0], out[width + 1] = out[1], out[width]


@inlined
def doubled(sums: NDArray[Any], even: int, odd: int, out: Codes) -> None:
    """Write to `out` (2 w,) what lies between `sums` (w + 2,), four times codes: 3 : 1, rounded by `even` and `odd`."""
    for column in range(sums.size - 2):
        left, here, right = np.int32(sums[column]), np.int32(sums[column + 1]), np.int32(sums[column + 2])
        out[2 * column] = nearer(here, left, even)
        out[2 * column + 1] = nearer(here, right, odd)


@inlined
def repeated(codes: Codes, out: Codes) -> None:
    """Write each of `codes` (w,) twice to `out` (2 w,)."""
    for column in range(codes.size):
        out[2 * column], out[2 * column + 1] = codes[column], codes[column]
