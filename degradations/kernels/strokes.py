"""Strokes with round ends on one plane: each pixel has the brightest that covers it."""

import math

import numpy as np
from numpy.typing import NDArray

from degradations.kernels._chroma import between_rows, doubled, nearer
from degradations.kernels._compiled import compiled, inlined
from degradations.pairs.contract import Light

_ZERO, _HALF, _ONE, _TWO, _TINY = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2), np.float32(1e-3)
_VECTOR = 4  # pixels at a time: whether three or four are covered, in each row as many
_EVEN, _ODD = 8, 7  # sixteenths by which codes are rounded


@inlined
def within(place: np.float32, farthest: np.float32) -> np.float32:
    """Return `place`, no farther than `farthest` from 0."""
    return max(min(place, farthest), -farthest)


@inlined
def lay(
    down: tuple[np.float32, np.float32],
    across: tuple[np.float32, np.float32],
    length: np.float32,
    outer: np.float32,
    level: np.float32,
    out: NDArray[np.uint8],
) -> None:
    """Write a stroke's codes to some pixels of a row, `out`, where they are brighter than what is there.

    down, across: from its beginning to the first of these pixels, and its direction.
    """
    for pixel in range(out.size):
        dx = across[0] + np.float32(np.int32(pixel))
        along, aside = down[0] * down[1] + dx * across[1], down[0] * across[1] - dx * down[1]
        beyond = max(max(-along, along - length), _ZERO)
        cover = min(max(outer - np.sqrt(aside * aside + beyond * beyond), _ZERO), _ONE)
        out[pixel] = max(out[pixel], np.uint8(np.int32(cover * level + _HALF)))


@compiled("void(f4[:, :, ::1], f4[::1], f4[::1], f4, f4, u1[:, ::1])")
def strokes(
    lines: Light, levels: Light, breadths: Light, blunt: float, farthest: np.float32, out: NDArray[np.uint8]
) -> None:
    """Draw N strokes to `out` (H, W): a pixel is covered as far as its middle lies inside the rim, up to 1.

    lines: (N, 2, 2) rows and columns of both ends, no farther than `farthest`. levels (N,): codes, 0 for none. breadths
    (N,): in pixels, of which either end gives way `blunt`, but no more than its half of the stroke.
    """
    height, width = out.shape
    for stroke in range(len(lines)):
        level, outer = levels[stroke], _HALF * breadths[stroke] + _HALF
        if level <= _ZERO:
            continue
        row, column, down, across = lines[stroke, 0, 0], lines[stroke, 0, 1], lines[stroke, 1, 0], lines[stroke, 1, 1]
        down, across = down - row, across - column
        length = max(np.sqrt(down * down + across * across), _TINY)
        given = min(blunt * breadths[stroke] / length, _HALF)
        below, right = row + down * (_ONE - given), column + across * (_ONE - given)
        row, column = row + down * given, column + across * given
        row, column = within(row, farthest), within(column, farthest)
        down, across = within(below, farthest) - row, within(right, farthest) - column
        length = np.sqrt(down * down + across * across)
        down, across = (down / length, across / length) if length > _TINY else (_ZERO, _ONE)
        upper = max(0, math.ceil(min(row, row + length * down) - outer))
        lower = min(height - 1, math.floor(max(row, row + length * down) + outer))
        left, right = min(column, column + length * across) - outer, max(column, column + length * across) + outer
        slant = across / down if abs(down) > _TINY else _ZERO
        reach = outer / abs(down) if abs(down) > _TINY else right - left  # on one row the stroke is no broader
        breadth = min((int(min(_TWO * reach, right - left)) + 1 + _VECTOR) // _VECTOR * _VECTOR, width)
        for y in range(upper, lower + 1):
            dy = np.float32(y) - row
            begin = min(max(0, int(max(left, column + dy * slant - reach))), width - breadth)
            aside = np.float32(begin) - column
            lay((dy, down), (aside, across), length, outer, level, out[y, begin : begin + breadth])


@inlined
def enlarge(small: NDArray[np.uint8], row: int, out_sums: NDArray[np.uint16], out: NDArray[np.uint8]) -> None:
    """Do to a row what `double` does."""
    near = row // 2
    far = min(max(near + 2 * (row % 2) - 1, 0), len(small) - 1)
    between_rows(small[near], small[far], out_sums)
    pairs = out.size // 2
    doubled(out_sums[: pairs + 2], _EVEN, _ODD, out)
    if out.size % 2:
        out[2 * pairs] = nearer(out_sums[pairs + 1], out_sums[pairs], _EVEN)


@compiled("void(u1[:, ::1], u1[:, ::1])")
def double(small: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Write the plane `small` (h, w), enlarged linearly, to `out` (H, W), at most one row or column less than twice."""
    sums = np.empty(small.shape[1] + 2, np.uint16)
    for row in range(len(out)):
        enlarge(small, row, sums, out[row])
