"""The numbers of `counter` for a whole field."""

import numpy as np
from numpy.typing import NDArray

from degradations.kernels._compiled import compiled

_HIGH, _MIDDLE, _LOW = (np.uint64(shift) for shift in (30, 27, 31))


@compiled("void(u8, u8, u8, u8, u8[::1])")
def fill(start: int, step: int, first: int, second: int, out: NDArray[np.uint64]) -> None:
    """Write mix(start + n step), n from 1, to `out` (N,); `first`, `second`: the multipliers of mix."""
    for place in range(out.size):
        word = start + np.uint64(place + 1) * step
        word = (word ^ (word >> _HIGH)) * first
        word = (word ^ (word >> _MIDDLE)) * second
        out[place] = word ^ (word >> _LOW)
