"""exp(-x) for x >= 0, in float32 and the same on every machine."""

import numpy as np

from degradations.kernels._compiled import inlined

_HALF, _LOG2_E, _MOST = np.float32(0.5), np.float32(1.4426950408889634), np.float32(126)
# 2^-f for f in [-1/2, 1/2], exact at 0, with the least largest relative error: 9e-8 before rounding
_C0, _C1, _C2, _C3, _C4, _C5 = (
    np.float32(c) for c in (1, -0.693146976, 0.240222405, -0.0555073503, 0.00967161901, -0.00132645907)
)


@inlined
def decay(x: np.float32) -> np.float32:
    """Return exp(-x) for x >= 0, with a relative error below 3e-7 + 8e-8 x; from x = 87 on it stays at 2^-126."""
    power = min(x * _LOG2_E, _MOST)
    whole = np.int32(power + _HALF)
    f = power - np.float32(whole)
    series = _C0 + f * (_C1 + f * (_C2 + f * (_C3 + f * (_C4 + f * _C5))))
    return series * np.int32((np.int32(127) - whole) << np.int32(23)).view(np.float32)
