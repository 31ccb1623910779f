"""Moire row by row: the beats of grids, their colours, the screen they are seen on, what it sends to the camera."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from degradations.kernels._compiled import compiled, inlined
from degradations.kernels._rows import between
from degradations.pairs.contract import Light

_ZERO, _ONE, _LEAST, _FIRST = np.float32(0), np.float32(1), np.float32(-0.95), np.int32(0)


@inlined
def phase(grid: Light, x: np.float32, columns: Light, side: int, place: NDArray[Any], down: Light, over: Light) -> None:
    """Write where in a tile of `side` samples a row `x` of cells lies: the sample, and the parts of one beyond it."""
    along, across, straight, tilt_rows = grid[0], grid[1], grid[2], grid[3]
    tilt_columns, bulge, start_row, start_column = grid[4], grid[5], grid[6], grid[7]
    period = np.float32(side - 2)
    turn = _ONE / period
    for column in range(columns.size):
        y = columns[column]
        lens = (_ONE + bulge * (x * x + y * y)) / (_ONE + tilt_rows * x + tilt_columns * y)
        u = ((along * x - across * y) * lens - straight * x + start_row) * turn
        v = ((across * x + along * y) * lens - straight * y + start_column) * turn
        u = min(max((u - np.floor(u)) * period, _ZERO), period)
        v = min(max((v - np.floor(v)) * period, _ZERO), period)
        i, j = min(max(np.int32(u), _FIRST), np.int32(side - 2)), min(max(np.int32(v), _FIRST), np.int32(side - 2))
        place[column] = i * np.int32(side) + j
        down[column] = u - np.float32(i)
        over[column] = v - np.float32(j)


@inlined
def add_samples(tile: Light, side: int, place: NDArray[Any], down: Light, over: Light, out: Light) -> None:
    """Add the samples of `tile` (side^2,) between which each place lies, by their shares, to `out`, all (W,)."""
    for column in range(place.size):
        at, i, j = np.uint32(place[column]), down[column], over[column]
        upper = tile[at] + (tile[at + np.uint32(1)] - tile[at]) * j
        below = at + np.uint32(side)
        lower = tile[below] + (tile[below + np.uint32(1)] - tile[below]) * j
        out[column] += upper + (lower - upper) * i


@inlined
def add_products(weight: Light, one: Light, other: Light, out: Light) -> None:
    """Add weight times `one` times `other` to `out`, all (W,)."""
    for column in range(weight.size):
        out[column] += weight[column] * one[column] * other[column]


@compiled("void(f4[:, :, :, ::1], f4[:, ::1], f4[::1], f4[::1], f4[:, ::1], f4[:, :, ::1], f4[:, :, ::1])")
def beats(tiles: Light, grids: Light, rows: Light, columns: Light, mask: Light, out: Light, out_moments: Light) -> None:
    """Write the sum of the tiles, each looked up along its grid's phase g(x) - n x / 2, to `out` (4, h, w).

    tiles: (G, 3, T + 2, T + 2), which go on beyond T as they begin. grids: (G, 8): along, across, straight; tilt of
    rows, of columns; bulge; start of rows, of columns. rows (h,), columns (w,): of the cells. mask: (h, w); where a row
    of it begins and ends with 0 nothing is looked up. The fourth of `out` is 1. out_moments (4, 4, w): to which the
    sum over rows of the mask times each product of two of the four is added, from the diagonal on.
    """
    side = tiles.shape[3]
    place, part = np.empty(columns.size, np.int32), np.empty((2, columns.size), np.float32)
    for row in range(rows.size):
        first, last = 0, columns.size
        while first < last and mask[row, first] == _ZERO:
            first += 1
        while first < last and mask[row, last - 1] == _ZERO:
            last -= 1
        where, down, over = place[first:last], part[0, first:last], part[1, first:last]
        out[:3, row], out[3, row] = _ZERO, _ONE
        for grid in range(len(grids)):
            phase(grids[grid], rows[row], columns[first:last], side, where, down, over)
            for channel in range(3):
                add_samples(tiles[grid, channel].reshape(-1), side, where, down, over, out[channel, row, first:last])
        for one in range(4):
            for other in range(one, 4):
                pair = out[one, row, first:last], out[other, row, first:last]
                add_products(mask[row, first:last], pair[0], pair[1], out_moments[one, other, first:last])


@compiled("void(f4[:, :, ::1], f4[:, ::1], f4[:, ::1], f4[:, :, ::1])")
def coloured(total: Light, mask: Light, matrix: Light, out: Light) -> None:
    """Write `matrix` (3, 4) times `total` (4, h, w), its fourth 1, inside `mask` (h, w), to `out` (3, h, w): P."""
    for row in range(len(mask)):
        red, green, blue, weight = total[0, row], total[1, row], total[2, row], mask[row]
        for channel in range(3):
            a, b, c, d = matrix[channel, 0], matrix[channel, 1], matrix[channel, 2], matrix[channel, 3]
            written = out[channel, row]
            for column in range(weight.size):
                mixed = a * red[column] + b * green[column] + c * blue[column] + d
                written[column] = max(mixed * weight[column], _LEAST)


@compiled("void(f4[:, :, ::1], f4[:, ::1], f4[::1], f4[::1], f4[::1], f4[::1], f4, f4[:, :, ::1])")
def screen(
    pattern: Light, mask: Light, bands: Light, down: Light, across: Light, white: Light, lift: float, out: Light
) -> None:
    """Write the gain of a screen that shows `pattern`, both (3, h, w), to `out`: 1 + P, with its look inside `mask`.

    bands (h,): of the rolling shutter. down (h,), across (w,): what the lens shades. white (3,): gains.
    """
    for row in range(len(mask)):
        for channel in range(3):
            seen, look, written = pattern[channel, row], mask[row], out[channel, row]
            bright, dark = bands[row] * white[channel], _ONE - down[row]
            for column in range(look.size):
                shown = (seen[column] + look[column]) * (dark - across[column]) * bright - look[column] + _ONE
                written[column] = shown * (_ONE - lift)


@compiled("void(f4[:, :, ::1], f4[:, :, ::1], f4, i8, i8, f4[:, :, ::1])")
def emit(light: Light, gain: Light, lift: float, top: int, height: int, out: Light) -> None:
    """Write L gain + lift to `out`, as `light` some rows of (H, W, 3) from `top` on; `gain`: (h, W, 3)."""
    for row in range(len(light)):
        seen, written = light[row].reshape(-1), out[row].reshape(-1)
        first, second, share = between(top + row, height, len(gain))
        above, below = gain[first].reshape(-1), gain[second].reshape(-1)
        for value in range(seen.size):
            written[value] = seen[value] * (above[value] + (below[value] - above[value]) * share) + lift
