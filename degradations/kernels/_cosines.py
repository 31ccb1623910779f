"""The cosine transform of eight values in whole numbers, and its inverse, as the "islow" of libjpeg rounds them.

After Loeffler, Ligtenberg and Moschytz (ICASSP 1989). What comes out is sqrt(8) times the orthonormal transform, with
13 - `bits` more bits: two passes of 11 and 15 bits make 8 times the coefficients of a block; of these, two of 11 and 18
bits make the block again.
"""

import numpy as np

from degradations.kernels._compiled import inlined_in

Eight = tuple[np.int32, np.int32, np.int32, np.int32, np.int32, np.int32, np.int32, np.int32]

_ONE = 13  # bits of the constants
_C0298, _C0390, _C0541, _C0765, _C0899, _C1175 = 2446, 3196, 4433, 6270, 7373, 9633
_C1501, _C1847, _C1961, _C2053, _C2562, _C3072 = 12299, 15137, 16069, 16819, 20995, 25172


@inlined_in("int32")
def rounded(value: np.int32, bits: int) -> np.int32:
    """Return `value` over 2^bits, rounded half up."""
    raised = value + (1 << (bits - 1))
    return np.int32(raised >> bits)


@inlined_in("int32")
def forward(values: Eight, bits: int) -> Eight:
    """Return the coefficients of eight `values`."""
    x0, x1, x2, x3, x4, x5, x6, x7 = values
    s0, s1, s2, s3 = x0 + x7, x1 + x6, x2 + x5, x3 + x4
    d0, d1, d2, d3 = x0 - x7, x1 - x6, x2 - x5, x3 - x4
    even, odd, high, low = s0 + s3, s1 + s2, s0 - s3, s1 - s2
    c0, c4 = (even + odd) << _ONE, (even - odd) << _ONE
    middle = (high + low) * _C0541
    c2, c6 = middle + high * _C0765, middle - low * _C1847
    c7, c5, c3, c1 = turned(d3, d2, d1, d0)
    return (
        rounded(c0, bits),
        rounded(c1, bits),
        rounded(c2, bits),
        rounded(c3, bits),
        rounded(c4, bits),
        rounded(c5, bits),
        rounded(c6, bits),
        rounded(c7, bits),
    )


@inlined_in("int32")
def inverse(coefficients: Eight, bits: int) -> Eight:
    """Return the eight values that have these `coefficients`."""
    c0, c1, c2, c3, c4, c5, c6, c7 = coefficients
    even, odd = (c0 + c4) << _ONE, (c0 - c4) << _ONE
    middle = (c2 + c6) * _C0541
    high, low = middle + c2 * _C0765, middle - c6 * _C1847
    e0, e1, e2, e3 = even + high, odd + low, odd - low, even - high
    o3, o2, o1, o0 = turned(c7, c5, c3, c1)
    x0, x1, x2, x3 = e0 + o0, e1 + o1, e2 + o2, e3 + o3
    x7, x6, x5, x4 = e0 - o0, e1 - o1, e2 - o2, e3 - o3
    return (
        rounded(x0, bits),
        rounded(x1, bits),
        rounded(x2, bits),
        rounded(x3, bits),
        rounded(x4, bits),
        rounded(x5, bits),
        rounded(x6, bits),
        rounded(x7, bits),
    )


@inlined_in("int32")
def turned(a: np.int32, b: np.int32, c: np.int32, d: np.int32) -> tuple[np.int32, np.int32, np.int32, np.int32]:
    """Return the odd half, which is the same both ways: the rotations of a, d and of b, c with what they share."""
    z1, z2, z3, z4 = (a + d) * -_C0899, (b + c) * -_C2562, a + c, b + d
    z5 = (z3 + z4) * _C1175
    z3, z4 = z5 - z3 * _C1961, z5 - z4 * _C0390
    turned_a, turned_b = a * _C0298 + z1 + z3, b * _C2053 + z2 + z4
    turned_c, turned_d = c * _C3072 + z2 + z3, d * _C1501 + z1 + z4
    return turned_a, turned_b, turned_c, turned_d
