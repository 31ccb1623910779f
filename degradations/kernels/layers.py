"""Layers of a picture by depth: which light belongs to one, and how the next lies over it.

Layers are planes (4, H, W): red, green and blue light, each times the layer's silhouette, and that itself.
"""

import numpy as np
from numpy.typing import NDArray

from degradations.kernels._compiled import compiled, inlined
from degradations.kernels._rows import PLANE, mirrored
from degradations.kernels.codes import code_of, is_dark
from degradations.kernels.pyramid import grown_down, together
from degradations.pairs.contract import Light

_ZERO, _ONE, _EIGHTH, _HALF, _SIX = np.float32(0), np.float32(1), np.float32(1 / 8), np.float32(1 / 2), np.float32(6)
_STEPS, _NOTHING = np.float32(65535), np.float32(1e-6)


@inlined
def planes_of(codes: NDArray[np.uint8], table: Light, gains: Light, row: int, out: Light) -> None:
    """Do to a row what `planes` does."""
    red, green, blue = out[0, row], out[1, row], out[2, row]
    for column in range(red.size):
        red[column] = table[codes[3 * column]]
        green[column] = table[codes[3 * column + 1]]
        blue[column] = table[codes[3 * column + 2]]
    if is_dark(codes, gains):
        return
    for column in range(red.size):
        gain = gains[min(codes[3 * column], codes[3 * column + 1], codes[3 * column + 2])]
        red[column] += gain
        green[column] += gain
        blue[column] += gain


@compiled("void(u1[:, ::1], f4[::1], f4[::1], f4[:, :, ::1])")
def planes(codes: NDArray[np.uint8], table: Light, gains: Light, out: Light) -> None:
    """Write what `codes.decode_bright` makes of `codes` (H, 3 W) to the planes `out` (3, H, W)."""
    for row in range(len(codes)):
        planes_of(codes[row], table, gains, row, out)


@compiled("void(f4[:, ::1], f4, f4, i8, i8[:, :, ::1])")
def extents(disparity: Light, per_step: float, lowest: float, rows: int, out: NDArray[np.int64]) -> None:
    """Widen `out` (h, N, 2), first and last column, to what of each `rows` of `disparity` d is between two layers.

    The first layer is where d per_step is `lowest`, the next where it is 1 more.
    """
    height, columns = disparity.shape
    layers = np.empty(columns, np.int32)
    for row in range(height):
        for column in range(columns):
            layers[column] = np.int32(disparity[row, column] * per_step - lowest)
        found, start = row // rows, 0
        for end in range(1, columns + 1):
            if end < columns and layers[end] == layers[start]:  # most have their neighbour's layer
                continue
            layer = min(max(layers[start], 0), out.shape[1] - 1)
            out[found, layer, 0], out[found, layer, 1] = (
                min(out[found, layer, 0], start),
                max(out[found, layer, 1], end - 1),
            )
            start = end


@inlined
def hat_of(disparity: Light, per_step: float, centre: float, top: int, left: int, out: Light) -> None:
    """Do what `silhouette` does."""
    for row in range(len(out)):
        d, hat = disparity[mirrored(top + row, len(disparity)), left:], out[row]
        for column in range(hat.size):
            hat[column] = max(_ONE - abs(d[column] * per_step - centre), _ZERO)


@compiled("void(f4[:, ::1], f4, f4, i8, i8, f4[:, ::1])")
def silhouette(disparity: Light, per_step: float, centre: float, top: int, left: int, out: Light) -> None:
    """Write what belongs to the layer at `centre` to `out` (h, w), from `top`, `left` on.

    That is the part max(1 - |d per_step - centre|, 0), d = `disparity` (H, W), of each pixel. Rows beyond the picture
    are those of its mirror image.
    """
    hat_of(disparity, per_step, centre, top, left, out)


@inlined
def part_of(light: Light, hat: Light, top: int, left: int, out: Light) -> None:
    """Do what `cut` does."""
    for row in range(len(out)):
        seen, share, written = light[mirrored(top + row, len(light)), left:], hat[row], out[row]
        for column in range(written.size):
            written[column] = seen[column] * share[column]


@compiled("void(f4[:, ::1], f4[:, ::1], i8, i8, f4[:, ::1])")
def cut(light: Light, hat: Light, top: int, left: int, out: Light) -> None:
    """Write what of `light` (H, W) belongs to the layer of which `hat` (h, w) is the `silhouette` to `out` (h, w)."""
    part_of(light, hat, top, left, out)


@inlined
def lay(own: Light, cover: Light, out: Light) -> None:
    """Put a row of a layer's `own` light and its silhouette, `cover`, over `out`."""
    for column in range(out.size):
        out[column] = out[column] * (_ONE - cover[column]) + own[column]


@inlined
def before(own: Light, cover: Light, skipped: int, top: int, left: int, out: Light) -> None:
    """Do what `lay_over` does."""
    rows, columns = own.shape
    for row in range(skipped, rows - skipped):
        lay(own[row], cover[row], out[top + row - skipped, left : left + columns])


@compiled("void(f4[:, ::1], f4[:, ::1], i8, i8, i8, f4[:, ::1])")
def lay_over(own: Light, cover: Light, skipped: int, top: int, left: int, out: Light) -> None:
    """Put a layer's `own` light, (h, w) like its silhouette, `cover`, over `out` (H, W), from `top`, `left` on.

    Rows `skipped` at both ends are left out.
    """
    before(own, cover, skipped, top, left, out)


@inlined
def grown(small: Light, row: int, out_line: Light, out_even: Light, out_odd: Light, out: Light) -> None:
    """Write `row` of what `pyramid.enlarge` makes of `small` (h, w) to `out` (W,)."""
    values = small.shape[1]
    grown_down(small, row, PLANE, out_line)
    before, middle, after = out_line[:values], out_line[1 : 1 + values], out_line[2:]
    for value in range(values):
        out_even[value] = (_SIX * middle[value] + (before[value] + after[value])) * _EIGHTH
        out_odd[value] = (middle[value] + after[value]) * _HALF
    together(out_even, out_odd, PLANE, out)


@inlined
def grown_before(small: Light, first: int, count: int, top: int, left: int, out_room: Light, out: Light) -> None:
    """Do what `lay_grown_over` does."""
    values, width = small.shape[2], out_room.shape[1] - 2
    line, even, odd = out_room[0, : values + 2], out_room[1, :values], out_room[2, :values]
    cover = out_room[3, :width]
    for row in range(count):
        for turn in range(4):  # the silhouette first; one call of each piece, since each is compiled anew
            plane, own = (turn + 3) % 4, out_room[3 + min(turn, 1), :width]
            grown(small[plane], first + row, line, even, odd, own)
            lay(own, cover, out[plane, top + row, left : left + width])


@compiled("void(f4[:, :, ::1], i8, i8, i8, i8, i8, f4[:, :, ::1])")
def lay_grown_over(small: Light, width: int, first: int, count: int, top: int, left: int, out: Light) -> None:
    """Put a layer, `small` (4, h, w) once enlarged to `width`, over `out` (4, H, W), from `top`, `left` on.

    Of its rows these are `count` from `first` on.
    """
    room = np.empty((5, width + 2), np.float32)
    grown_before(small, first, count, top, left, room, out)


@inlined
def shared(layers: Light, row: int, scale: np.float32, out: Light) -> None:
    """Write `scale` times the light of a row of all `layers`, which their silhouettes share, to `out` (3, W)."""
    cover = layers[3, row]
    for plane in range(3):
        light, written = layers[plane, row], out[plane]
        for column in range(cover.size):
            written[column] = light[column] / max(cover[column], _NOTHING) * scale


@inlined
def interleaved(planes: Light, out: Light) -> None:
    """Write `planes` (3, W) to the row `out` (3 W,)."""
    for column in range(planes.shape[1]):
        out[3 * column] = planes[0, column]
        out[3 * column + 1] = planes[1, column]
        out[3 * column + 2] = planes[2, column]


@compiled("void(f4[:, :, ::1], i8, f4[:, ::1])")
def join(layers: Light, top: int, out: Light) -> None:
    """Write rows of the light of all `layers` (4, H, W), from `top` on, by their silhouettes, to `out` (h, 3 W)."""
    done = np.empty((3, layers.shape[2]), np.float32)
    for row in range(len(out)):
        shared(layers, top + row, _ONE, done)
        interleaved(done, out[row])


@inlined
def encoded(steps: Light, table: NDArray[np.uint8], out_codes: NDArray[np.uint16], out: NDArray[np.uint8]) -> None:
    """Write what `table` holds for the nearest whole numbers to `steps` (3, W) to the row `out` (3 W,)."""
    for plane in range(3):
        seen, written = steps[plane], out_codes[plane]
        for column in range(seen.size):
            written[column] = code_of(seen[column])
    for column in range(steps.shape[1]):
        out[3 * column] = table[out_codes[0, column]]
        out[3 * column + 1] = table[out_codes[1, column]]
        out[3 * column + 2] = table[out_codes[2, column]]


@compiled("void(f4[:, :, ::1], i8, u1[::1], u1[:, ::1])")
def join_codes(layers: Light, top: int, table: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Write to `out` (h, 3 W) what `codes.encode` makes, by its `table`, of what `join` makes of `layers`."""
    done, codes = np.empty((3, layers.shape[2]), np.float32), np.empty((3, layers.shape[2]), np.uint16)
    for row in range(len(out)):
        shared(layers, top + row, _STEPS, done)
        encoded(done, table, codes, out[row])
