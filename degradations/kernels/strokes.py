"""Strokes with round ends on one plane: each pixel has the brightest that covers it."""

import math

import numpy as np
from numpy.typing import NDArray

from degradations._compiled import compiled
from degradations._contract import Light

_ZERO, _HALF, _ONE, _TINY = np.float32(0), np.float32(0.5), np.float32(1), np.float32(1e-3)


@compiled("void(f4[:, :, ::1], f4[::1], f4[::1], u1[:, ::1])")
def strokes(lines: Light, levels: Light, breadths: Light, out: NDArray[np.uint8]) -> None:
    """Draw N strokes to `out` (H, W): a pixel is covered as far as its middle lies inside the rim, up to 1.

    lines: (N, 2, 2) rows and columns of both ends. levels (N,): codes. breadths (N,): in pixels.
    """
    height, width = out.shape
    for stroke in range(len(lines)):
        row, column, level, rim = lines[stroke, 0, 0], lines[stroke, 0, 1], levels[stroke], _HALF * breadths[stroke]
        down, across = lines[stroke, 1, 0] - row, lines[stroke, 1, 1] - column
        length, outer = np.sqrt(down * down + across * across), rim + _HALF
        down, across = (down / length, across / length) if length > _TINY else (_ZERO, _ONE)
        upper = max(0, math.ceil(min(row, row + length * down) - outer))
        lower = min(height - 1, math.floor(max(row, row + length * down) + outer))
        left, right = min(column, column + length * across) - outer, max(column, column + length * across) + outer
        slant = across / down if abs(down) > _TINY else _ZERO
        reach = outer / abs(down) if abs(down) > _TINY else right - left  # on one row the stroke is no broader
        for y in range(upper, lower + 1):
            dy, line = np.float32(y) - row, out[y]
            first, last = max(left, column + dy * slant - reach), min(right, column + dy * slant + reach)
            for x in range(max(0, math.ceil(first)), min(width - 1, int(last)) + 1):
                dx = np.float32(x) - column
                along, aside = dy * down + dx * across, dy * across - dx * down
                beyond = max(max(-along, along - length), _ZERO)
                cover = min(max(outer - np.sqrt(aside * aside + beyond * beyond), _ZERO), _ONE)
                line[x] = max(line[x], np.uint8(np.int32(cover * level + _HALF)))
