"""Light spread by two symmetric kernels of few taps in turn, row by row, while the rows around are in the cache.

A kernel is places (N, 2), rows and values (columns times channels), and weights (N + 1,), N 0, 4, 6, 8 and so on:

    y(p) = weights[N] x(p) + sum over k of weights[k] (x(p + places[k]) + x(p - places[k]))

Its window is the rows of x that it still needs, each at its number modulo their count, with as many values of its
mirror image at either end as places reach. The rows of a picture go on as their mirror image, too.
"""

import numpy as np
from numpy.typing import NDArray

from degradations.kernels._compiled import compiled, inlined
from degradations.kernels._rows import RGB, mirrored
from degradations.kernels.codes import decode_bright, encode
from degradations.pairs.contract import Light

Places = NDArray[np.int64]


@inlined
def mirror_ends(line: Light, values: int, channels: int) -> None:
    """Write to both ends of `line` the mirror image of the `values` in its middle."""
    margin = (line.size - values) // 2
    pixels, reach, inner = values // channels, margin // channels, line[margin:]
    for pixel in range(reach):
        before, beyond = mirrored(pixel - reach, pixels) * channels, mirrored(pixels + pixel, pixels) * channels
        for channel in range(channels):
            line[pixel * channels + channel] = inner[before + channel]
            inner[values + pixel * channels + channel] = inner[beyond + channel]


@inlined
def opposites(window: Light, place: Places, row: int, height: int, values: int) -> tuple[Light, Light]:
    """Return what stands at `place` seen from the pixels of `row`, and what stands opposite."""
    down, across, margin = place[0], place[1], (window.shape[1] - values) // 2
    here, opposite = mirrored(row + down, height) % len(window), mirrored(row - down, height) % len(window)
    return window[here, margin + across :], window[opposite, margin - across :]


@inlined
def spread(window: Light, places: Places, weights: Light, row: int, height: int, out: Light) -> None:
    """Write `row` of y to `out`."""
    margin = (window.shape[1] - out.size) // 2
    own, middle = window[row % len(window), margin:], weights[-1]
    if len(places) == 0:
        for value in range(out.size):
            out[value] = middle * own[value]
        return
    a, b = opposites(window, places[0], row, height, out.size)
    c, d = opposites(window, places[1], row, height, out.size)
    e, f = opposites(window, places[2], row, height, out.size)
    g, h = opposites(window, places[3], row, height, out.size)
    u, v, w, x = weights[0], weights[1], weights[2], weights[3]
    for value in range(out.size):
        near = u * (a[value] + b[value]) + v * (c[value] + d[value])
        far = w * (e[value] + f[value]) + x * (g[value] + h[value])
        out[value] = middle * own[value] + (near + far)
    for pair in range(4, len(places), 2):
        a, b = opposites(window, places[pair], row, height, out.size)
        c, d = opposites(window, places[pair + 1], row, height, out.size)
        u, v = weights[pair], weights[pair + 1]
        for value in range(out.size):
            out[value] += u * (a[value] + b[value]) + v * (c[value] + d[value])


@inlined
def follow(
    window: Light, places: Places, weights: Light, row: int, height: int, values: int, channels: int, out_window: Light
) -> None:
    """Write `row` of y to its place in `out_window`, that of the kernel that follows."""
    line, margin = out_window[row % len(out_window)], (out_window.shape[1] - values) // 2
    spread(window, places, weights, row, height, line[margin : margin + values])
    mirror_ends(line, values, channels)


@inlined
def coming(row: int, window: Light, height: int) -> range:
    """Return the rows that `row` of a kernel needs beyond those that the row before it needed."""
    down = len(window) // 2
    return range(row + down if row else 0, min(row + down + 1, height))


@compiled("void(f4[:, ::1], i8, i8[:, ::1], f4[::1], f4[:, ::1], i8[:, ::1], f4[::1], f4[:, ::1], i8, f4[:, ::1])")
def move(
    light: Light,
    channels: int,
    places: Places,
    weights: Light,
    out_window: Light,
    last_places: Places,
    last_weights: Light,
    out_last_window: Light,
    top: int,
    out: Light,
) -> None:
    """Write to `out` the rows of `light` (H, W C) spread by two kernels from `top` on, which follow those of before."""
    height, values = light.shape
    margin = (out_window.shape[1] - values) // 2
    for row in range(top, top + len(out)):
        for between in coming(row, out_last_window, height):
            for seen in coming(between, out_window, height):
                line = out_window[seen % len(out_window)]
                for value in range(values):
                    line[margin + value] = light[seen, value]
                mirror_ends(line, values, channels)
            follow(out_window, places, weights, between, height, values, channels, out_last_window)
        spread(out_last_window, last_places, last_weights, row, height, out[row - top])


@compiled(
    "void(u1[:, ::1], f4[::1], f4[::1], i8[:, ::1], f4[::1], f4[:, ::1], i8[:, ::1], f4[::1], f4[:, ::1], u1[::1], i8,"
    " u1[:, ::1])"
)
def move_codes(
    codes: NDArray[np.uint8],
    decoding: Light,
    gains: Light,
    places: Places,
    weights: Light,
    out_window: Light,
    last_places: Places,
    last_weights: Light,
    out_last_window: Light,
    encoding: NDArray[np.uint8],
    top: int,
    out: NDArray[np.uint8],
) -> None:
    """Do what `move` does with `codes` (H, 3 W), by the tables of `decode_bright` and `encode`."""
    height, values = codes.shape
    margin = (out_window.shape[1] - values) // 2
    done = np.empty(values, np.float32)
    for row in range(top, top + len(out)):
        for between in coming(row, out_last_window, height):
            for seen in coming(between, out_window, height):
                line = out_window[seen % len(out_window)]
                decode_bright(codes[seen], decoding, gains, line[margin : margin + values])
                mirror_ends(line, values, RGB)
            follow(out_window, places, weights, between, height, values, RGB, out_last_window)
        spread(out_last_window, last_places, last_weights, row, height, done)
        encode(done, encoding, out[row - top])
