"""Strokes with round ends on one plane: each pixel has the brightest that covers it."""

import math

import numpy as np
from numpy.typing import NDArray

from degradations._compiled import compiled, inlined
from degradations._contract import Light

_ZERO, _HALF, _ONE, _TINY = np.float32(0), np.float32(0.5), np.float32(1), np.float32(1e-3)


@inlined
def within(place: np.float32, farthest: np.float32) -> np.float32:
    """Return `place`, no farther than `farthest` from 0."""
    return max(min(place, farthest), -farthest)


@inlined
def lay(code: np.float32, row: int, column: int, out: NDArray[np.uint8]) -> None:
    """Write `code` to a pixel of `out` if it is brighter than what is there."""
    out[row, column] = max(out[row, column], np.uint8(np.int32(code + _HALF)))


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
        for y in range(upper, lower + 1):
            dy = np.float32(y) - row
            first, last = max(left, column + dy * slant - reach), min(right, column + dy * slant + reach)
            begin, end = max(0, int(first)), min(width - 1, int(last)) + 1  # `ceil` would call the C library
            start, stop = dy * down + (first - column) * across, dy * down + (last - column) * across
            if min(start, stop) >= _ZERO and max(start, stop) <= length:  # away from both ends
                for x in range(begin, end):
                    aside = abs(dy * across - (np.float32(x) - column) * down)
                    lay(min(max(outer - aside, _ZERO), _ONE) * level, y, x, out)
            else:
                for x in range(begin, end):
                    dx = np.float32(x) - column
                    along, aside = dy * down + dx * across, dy * across - dx * down
                    beyond = max(max(-along, along - length), _ZERO)
                    cover = min(max(outer - np.sqrt(aside * aside + beyond * beyond), _ZERO), _ONE)
                    lay(cover * level, y, x, out)
