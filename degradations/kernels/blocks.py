"""What coding leaves of a plane: each block of 8 x 8 through transform, quantiser and inverse, many side by side.

A tile holds the blocks of a piece of a row, value by value: the first of all blocks, the second of all, and so on. So
every step is a loop over blocks, which vectors do, and a tile stays in the fastest cache.
"""

import numpy as np
from numpy.typing import NDArray

from degradations.kernels._compiled import compiled, inlined, inlined_in
from degradations.kernels._cosines import Eight, forward, inverse
from degradations.kernels._ycc import limited

Codes = NDArray[np.uint8]
Whole = NDArray[np.int32]

BLOCKS = 32  # in a tile: a number known to the compiler, so that it sees that no two turns of a loop meet
_RIGHT, _BELOW = BLOCKS, 8 * BLOCKS  # how far apart in a tile values are that are neighbours in their block
_WIDTH = 8  # of vectors of today: that many blocks are done in the time of one
_BITS = 19  # of reciprocals
_GREY = np.int32(128)


@inlined_in("int32")
def quantised(value: np.int32, step: np.int32, reciprocal: np.int32) -> np.int32:
    """Return the multiple of `step`, 1 to 255, that is nearest to an eighth of `value`, up to 2^13; ties go outwards.

    reciprocal: ceil(2^19 / step); its product with a number below 2^11 has the whole part of the quotient exactly.
    """
    opposite = -value
    raised = max(value, opposite) + 4 * step
    eighth = raised >> 3
    product = eighth * reciprocal
    count = product >> _BITS
    nearest = count * step
    mirrored = -nearest
    return np.int32(nearest if value >= 0 else mirrored)


@inlined_in("int32")
def darkened(code: np.uint8) -> np.int32:
    """Return `code` as it is transformed: 0 for grey."""
    return np.int32(code - _GREY)


@inlined_in("int32")
def lightened(value: np.int32) -> np.int32:
    """Return the code of `value`, which is 0 for grey."""
    raised = value + _GREY
    return limited(raised)


@inlined
def look(tile: Whole, at: int, step: int) -> Eight:
    """Return eight values of `tile`."""
    return (
        tile[at],
        tile[at + step],
        tile[at + 2 * step],
        tile[at + 3 * step],
        tile[at + 4 * step],
        tile[at + 5 * step],
        tile[at + 6 * step],
        tile[at + 7 * step],
    )


@inlined
def put(tile: Whole, at: int, step: int, values: Eight) -> None:
    """Write eight `values` to `tile`."""
    tile[at], tile[at + step], tile[at + 2 * step], tile[at + 3 * step] = values[0], values[1], values[2], values[3]
    at += 4 * step
    tile[at], tile[at + step], tile[at + 2 * step], tile[at + 3 * step] = values[4], values[5], values[6], values[7]


@inlined
def take(strip: Codes, left: int, right: int, tile: Whole) -> None:
    """Write the blocks of `strip` (8, W) from `left` to `right`, their rows transformed, to `tile`."""
    for row in range(8):
        codes = strip[row, left:right]
        for block in range(codes.size // 8):
            at = 8 * block
            line = (
                darkened(codes[at]),
                darkened(codes[at + 1]),
                darkened(codes[at + 2]),
                darkened(codes[at + 3]),
                darkened(codes[at + 4]),
                darkened(codes[at + 5]),
                darkened(codes[at + 6]),
                darkened(codes[at + 7]),
            )
            put(tile, row * _BELOW + block, _RIGHT, forward(line, 11))


@inlined
def quantise(steps: Whole, blocks: int, tile: Whole) -> None:
    """Transform the columns of the blocks of `tile`, round them to multiples of `steps`, and transform them back.

    steps: of each place, (64,), and their reciprocals, (64,).
    """
    for column in range(8):
        s0, s1, s2, s3, s4, s5, s6, s7 = look(steps, column, 8)
        r0, r1, r2, r3, r4, r5, r6, r7 = look(steps, 64 + column, 8)
        for block in range(blocks):
            at = column * _RIGHT + block
            c0, c1, c2, c3, c4, c5, c6, c7 = forward(look(tile, at, _BELOW), 15)
            kept = (
                quantised(c0, s0, r0),
                quantised(c1, s1, r1),
                quantised(c2, s2, r2),
                quantised(c3, s3, r3),
                quantised(c4, s4, r4),
                quantised(c5, s5, r5),
                quantised(c6, s6, r6),
                quantised(c7, s7, r7),
            )
            put(tile, at, _BELOW, inverse(kept, 11))


@inlined
def give(tile: Whole, left: int, right: int, strip: Codes) -> None:
    """Write the blocks of `tile`, their rows transformed back, to `strip` (8, W) from `left` to `right`."""
    for row in range(8):
        codes = strip[row, left:right]
        for block in range(codes.size // 8):
            x0, x1, x2, x3, x4, x5, x6, x7 = inverse(look(tile, row * _BELOW + block, _RIGHT), 18)
            at = 8 * block
            codes[at], codes[at + 1] = lightened(x0), lightened(x1)
            codes[at + 2], codes[at + 3] = lightened(x2), lightened(x3)
            codes[at + 4], codes[at + 5] = lightened(x4), lightened(x5)
            codes[at + 6], codes[at + 7] = lightened(x6), lightened(x7)


@compiled("void(i4[::1], u1[:, ::1])")
def code(steps: Whole, out: Codes) -> None:
    """Do to `out`, a plane of whole blocks, what a JPEG of quantisation `steps` (64,), 1 to 255, does."""
    rows, columns = out.shape
    tile = np.zeros(64 * BLOCKS, np.int32)
    both = np.empty(128, np.int32)
    for place in range(64):
        both[place] = steps[place]
        both[64 + place] = ((1 << _BITS) + steps[place] - 1) // steps[place]
    for top in range(0, rows, 8):
        for left in range(0, columns, 8 * BLOCKS):
            right = min(left + 8 * BLOCKS, columns)
            take(out[top : top + 8], left, right, tile)
            quantise(both, -(-(right - left) // (8 * _WIDTH)) * _WIDTH, tile)
            give(tile, left, right, out[top : top + 8])
