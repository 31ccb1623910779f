"""Pictures of half the size and back, by the cubic B-spline [1 4 6 4 1] / 16, as Burt and Adelson (1983) do.

Rows are flat, (W C,). What is even and what is odd among their pixels is kept apart, so that loops run on neighbours.
"""

import numpy as np
from numpy.typing import NDArray

from degradations.kernels._compiled import compiled, inlined
from degradations.kernels._rows import RGB, mirrored
from degradations.kernels.codes import code_of, decode_apart, look_up_together
from degradations.pairs.contract import Light

_SIX, _FOUR = np.float32(6), np.float32(4)
_PIXEL, _EIGHTH, _HALF = np.float32(1 / 256), np.float32(1 / 8), np.float32(1 / 2)
_STEPS = np.float32(65535)
_BLOCK = 128  # columns that are blurred downwards together: their rows stay in the fastest cache


@inlined
def apart(row: Light, channels: int, out_even: Light, out_odd: Light) -> None:
    """Write the even pixels of `row` to `out_even`, and the odd ones to `out_odd`."""
    pairs = row.size // (2 * channels)
    if channels == 3:
        for pair in range(pairs):
            out_even[3 * pair] = row[6 * pair]
            out_even[3 * pair + 1] = row[6 * pair + 1]
            out_even[3 * pair + 2] = row[6 * pair + 2]
            out_odd[3 * pair] = row[6 * pair + 3]
            out_odd[3 * pair + 1] = row[6 * pair + 4]
            out_odd[3 * pair + 2] = row[6 * pair + 5]
    elif channels == 1:
        for pair in range(pairs):
            out_even[pair] = row[2 * pair]
            out_odd[pair] = row[2 * pair + 1]
    else:
        for pair in range(pairs):
            for channel in range(channels):
                out_even[channels * pair + channel] = row[2 * channels * pair + channel]
                out_odd[channels * pair + channel] = row[channels * (2 * pair + 1) + channel]
    for value in range(2 * channels * pairs, row.size):  # the last of an odd number of pixels is even
        out_even[value - channels * pairs] = row[value]


@inlined
def together(even: Light, odd: Light, channels: int, out: Light) -> None:
    """Write to the row `out` what `apart` makes `even` and `odd` of."""
    pairs = out.size // (2 * channels)
    if channels == 3:
        for pair in range(pairs):
            out[6 * pair] = even[3 * pair]
            out[6 * pair + 1] = even[3 * pair + 1]
            out[6 * pair + 2] = even[3 * pair + 2]
            out[6 * pair + 3] = odd[3 * pair]
            out[6 * pair + 4] = odd[3 * pair + 1]
            out[6 * pair + 5] = odd[3 * pair + 2]
    elif channels == 1:
        for pair in range(pairs):
            out[2 * pair] = even[pair]
            out[2 * pair + 1] = odd[pair]
    else:
        for pair in range(pairs):
            for channel in range(channels):
                out[2 * channels * pair + channel] = even[channels * pair + channel]
                out[channels * (2 * pair + 1) + channel] = odd[channels * pair + channel]
    for value in range(2 * channels * pairs, out.size):
        out[value] = even[value - channels * pairs]


@inlined
def at(place: int, even: Light, odd: Light, channels: int, channel: int) -> np.float32:
    """Return a `channel` of the pixel at `place` of a row, of which `even` and `odd` are kept apart."""
    value = place // 2 * channels + channel
    found: np.float32 = odd[value] if place % 2 else even[value]
    return found


@inlined
def across(pixels: int, channels: int, out_even: Light, out_odd: Light, out: Light) -> None:
    """Write a row of so many `pixels` at half the size to `out` (w C,).

    out_even, out_odd: ((w + 2) C,), room for one more pixel at either end, which is written to.
    """
    values = out.size
    before, middle, after = out_even[:values], out_even[channels : channels + values], out_even[2 * channels :]
    left, right = out_odd[:values], out_odd[channels : channels + values]
    end = pixels + pixels % 2
    for channel in range(channels):
        before[channel] = at(mirrored(-2, pixels), middle, right, channels, channel)
        left[channel] = at(mirrored(-1, pixels), middle, right, channels, channel)
        after[values - channels + channel] = at(mirrored(end, pixels), middle, right, channels, channel)
        if pixels % 2:
            right[values - channels + channel] = at(mirrored(pixels, pixels), middle, right, channels, channel)
    for value in range(values):
        ends = before[value] + after[value]
        out[value] = (_SIX * middle[value] + _FOUR * (left[value] + right[value]) + ends) * _PIXEL


@inlined
def complete(lines: Light, row: int, height: int, out: Light) -> None:
    """Write `row` from the `lines` of the last five of `height` rows to `out`, at its number modulo how many it has."""
    top, above = lines[mirrored(2 * row - 2, height) % 5], lines[mirrored(2 * row - 1, height) % 5]
    bottom, below = lines[mirrored(2 * row + 2, height) % 5], lines[mirrored(2 * row + 1, height) % 5]
    middle, written = lines[2 * row % 5], out[row % len(out)]
    for value in range(written.size):
        near = above[value] + below[value]
        written[value] = _SIX * middle[value] + _FOUR * near + (top[value] + bottom[value])


@inlined
def complete_by(lines: Light, row: int, height: int, out: Light) -> None:
    """Write to `out` what `row`, the newest of the `lines`, completes (see `complete`)."""
    if row % 2 == 0 and row > 0:
        complete(lines, row // 2 - 1, height, out)
    if row == height - 1:
        complete(lines, row // 2, height, out)


@compiled("void(f4[:, ::1], i8, i8, i8, f4[:, ::1], f4[:, ::1])")
def reduce(light: Light, channels: int, top: int, height: int, out_lines: Light, out: Light) -> None:
    """Write what `light`, rows of (H, W C) from `top` on, completes of the picture of half the size, `out` (h, w C).

    out_lines (5, w C): each row reduced across, at its number modulo 5; they are kept from one call to the next.
    """
    pixels, room = light.shape[1] // channels, out.shape[1] + 2 * channels
    even, odd = np.empty(room, np.float32), np.empty(room, np.float32)
    for row in range(top, top + len(light)):
        apart(light[row - top], channels, even[channels:], odd[channels:])
        across(pixels, channels, even, odd, out_lines[row % 5])
        complete_by(out_lines, row, height, out)


@compiled("void(u1[:, ::1], f4[::1], f4[::1], i8, i8, f4[:, ::1], f4[:, ::1])")
def reduce_codes(
    codes: NDArray[np.uint8], table: Light, gains: Light, first: int, last: int, out_lines: Light, out: Light
) -> None:
    """Write what rows `first` to `last` complete of what `reduce` makes of the light of `codes` (see `decode_bright`).

    codes: (H, 3 W), all rows. out: the last rows of the small picture, each at its number modulo how many they are.
    Looking up a value at a time, decoding may as well write to where the value is needed.
    """
    height, values = len(codes), out.shape[1]
    even, odd = np.empty(values + 6, np.float32), np.empty(values + 6, np.float32)
    for row in range(first, last):
        decode_apart(codes[row], table, gains, even[3:], odd[3:])
        across(codes.shape[1] // 3, RGB, even, odd, out_lines[row % 5])
        complete_by(out_lines, row, height, out)


@inlined
def grown_down(small: Light, row: int, channels: int, out: Light) -> None:
    """Write `row` of the picture of twice the size, as wide as `small` and one pixel a side, to `out` ((w + 2) C,)."""
    rows, values = small.shape
    here, below, middle = small[row // 2], small[min(row // 2 + 1, rows - 1)], out[channels : channels + values]
    if row % 2:
        for value in range(values):
            middle[value] = (here[value] + below[value]) * _HALF
    else:
        above = small[mirrored(row // 2 - 1, rows)]
        for value in range(values):
            middle[value] = (_SIX * here[value] + (above[value] + below[value])) * _EIGHTH
    for channel in range(channels):
        out[channel] = middle[mirrored(-1, values // channels) * channels + channel]
        out[channels + values + channel] = middle[values - channels + channel]


@compiled("void(f4[:, ::1], i8, i8, f4[:, ::1])")
def enlarge(small: Light, channels: int, top: int, out: Light) -> None:
    """Write to `out`, rows of (H, W C) from `top` on, what `small` (h, w C) becomes at about twice its size.

    Where `small` ends the picture does; some of its rows will do if one beyond is among them.
    """
    values = small.shape[1]
    line = np.empty(values + 2 * channels, np.float32)
    even, odd = np.empty(values, np.float32), np.empty(values, np.float32)
    before, middle, after = line[:values], line[channels : channels + values], line[2 * channels :]
    for row in range(len(out)):
        grown_down(small, top + row, channels, line)
        for value in range(values):
            even[value] = (_SIX * middle[value] + (before[value] + after[value])) * _EIGHTH
            odd[value] = (middle[value] + after[value]) * _HALF
        together(even, odd, channels, out[row])


@compiled("void(f4[:, ::1], i8, u1[::1], u1[:, ::1])")
def enlarge_codes(small: Light, top: int, table: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Write to `out` (H, 3 W) what `codes.encode` makes, by its `table`, of what `enlarge` makes of `small` (h, 3 w).

    Looking up a value at a time, it may as well put together what is even and odd.
    """
    values = small.shape[1]
    line, even, odd = np.empty(values + 6, np.float32), np.empty(values, np.uint16), np.empty(values, np.uint16)
    before, middle, after = line[:values], line[3 : 3 + values], line[6:]
    for row in range(len(out)):
        grown_down(small, top + row, RGB, line)
        for value in range(values):  # a power of 2 times the steps is exact: the codes are those of `encode`
            even[value] = code_of((_SIX * middle[value] + (before[value] + after[value])) * (_EIGHTH * _STEPS))
            odd[value] = code_of((middle[value] + after[value]) * (_HALF * _STEPS))
        look_up_together(even, odd, table, out[row])


@inlined
def weighted(x: Light, step: int, taps: Light, out: Light) -> None:
    """Write the sum of `taps` (8,), from the middle one on, times `x` at each place of `out` and to both sides of it.

    x: begins 7 times `step` before `out`.
    """
    t0, t1, t2, t3, t4, t5, t6, t7 = taps[0], taps[1], taps[2], taps[3], taps[4], taps[5], taps[6], taps[7]
    for value in range(out.size):
        near = t1 * (x[value + 6 * step] + x[value + 8 * step]) + t2 * (x[value + 5 * step] + x[value + 9 * step])
        more = t3 * (x[value + 4 * step] + x[value + 10 * step]) + t4 * (x[value + 3 * step] + x[value + 11 * step])
        less = t5 * (x[value + 2 * step] + x[value + 12 * step]) + t6 * (x[value + step] + x[value + 13 * step])
        out[value] = t0 * x[value + 7 * step] + near + more + less
    if t7 != 0:  # narrow Gaussians have 13 taps
        for value in range(out.size):
            out[value] += t7 * (x[value] + x[value + 14 * step])


@inlined
def downwards(light: Light, height: int, taps: Light, top: int, tall: Light, margin: int, out: Light) -> None:
    """Write to `out`, some rows from `top` on with a `margin` before each, `light` (see `soften`) blurred downwards.

    tall: room for _BLOCK columns of these rows, 7 above and 7 below.
    """
    rows, values = len(out), light.shape[1]
    for left in range(0, values, _BLOCK):
        right = min(left + _BLOCK, values)
        for row in range(rows + 14):
            seen, kept = light[mirrored(top + row - 7, height) % len(light), left:right], tall[row * _BLOCK :]
            for value in range(seen.size):
                kept[value] = seen[value]
        for row in range(rows):
            weighted(tall[row * _BLOCK :], _BLOCK, taps, out[row, margin + left : margin + right])


@inlined
def sideways(line: Light, channels: int, taps: Light, out: Light) -> None:
    """Write `line`, a row with room for 7 pixels at either end, which it fills, to `out` (W C,), blurred across."""
    pixels, margin = out.size // channels, 7 * channels
    for pixel in range(7):
        before, beyond = mirrored(pixel - 7, pixels) + 7, mirrored(pixels + pixel, pixels) + 7
        for channel in range(channels):
            line[pixel * channels + channel] = line[before * channels + channel]
            line[margin + out.size + pixel * channels + channel] = line[beyond * channels + channel]
    if channels == 3:
        weighted(line, 3, taps, out)  # a step that is known becomes one loop over vectors
    else:
        weighted(line, channels, taps, out)


@compiled("void(f4[:, ::1], i8, i8, f4[::1], i8, f4[:, ::1])")
def soften(light: Light, height: int, channels: int, taps: Light, top: int, out: Light) -> None:
    """Write to `out`, some rows from `top` on, light of (H, W C) blurred both ways by 15 symmetric taps.

    light: the rows that this takes, each at its number modulo how many they are. taps (8,): from the middle one on.
    """
    margin, tall = 7 * channels, np.empty((len(out) + 14) * _BLOCK, np.float32)
    lines = np.empty((len(out), out.shape[1] + 2 * margin), np.float32)
    downwards(light, height, taps, top, tall, margin, lines)
    for row in range(len(out)):
        sideways(lines[row], channels, taps, out[row])
