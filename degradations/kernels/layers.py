"""Layers of a picture by depth: which light belongs to one, and how the next lies over it."""

import numpy as np
from numpy.typing import NDArray

from degradations._compiled import compiled, inlined
from degradations._contract import Light

_ZERO, _ONE = np.float32(0), np.float32(1)


@compiled("void(f4[:, ::1], f4, f4, i8[:, ::1])")
def extents(signed: Light, lowest: float, step: float, out: NDArray[np.int64]) -> None:
    """Widen `out` (N, 4), first and last row, first and last column, to what of `signed` (H, W) is between two layers.

    The first layer is at `lowest`, the next a `step` from it.
    """
    rows, columns = signed.shape
    per_step, layers = _ONE / step, np.empty(columns, np.int32)
    for row in range(rows):
        for column in range(columns):
            layers[column] = np.int32((signed[row, column] - lowest) * per_step)
        start = 0
        for end in range(1, columns + 1):
            if end < columns and layers[end] == layers[start]:  # most have their neighbour's layer
                continue
            layer = min(max(layers[start], 0), len(out) - 1)
            out[layer, 0], out[layer, 1] = min(out[layer, 0], row), max(out[layer, 1], row)
            out[layer, 2], out[layer, 3] = min(out[layer, 2], start), max(out[layer, 3], end - 1)
            start = end


@inlined
def part_of(light: Light, signed: Light, centre: float, step: float, top: int, left: int, out: Light) -> None:
    """Do what `cut` does."""
    _, rows, columns = out.shape
    per_step = _ONE / step
    for row in range(rows):
        s, hat = signed[top + row, left:], out[3, row]
        for column in range(columns):
            hat[column] = max(_ONE - abs(s[column] - centre) * per_step, _ZERO)
        for channel in range(3):
            seen, written = light[channel, top + row, left:], out[channel, row]
            for column in range(columns):
                written[column] = seen[column] * hat[column]


@compiled("void(f4[:, :, ::1], f4[:, ::1], f4, f4, i8, i8, f4[:, :, ::1])")
def cut(light: Light, signed: Light, centre: float, step: float, top: int, left: int, out: Light) -> None:
    """Write what of `light` (3, H, W) belongs to the layer at `centre` to `out` (4, h, w), from `top`, `left` on.

    That is its part max(1 - |s - centre| / step, 0), s = `signed` (H, W), which is the fourth of `out`.
    """
    part_of(light, signed, centre, step, top, left, out)


@inlined
def before(own: Light, silhouette: Light, top: int, left: int, out: Light) -> None:
    """Do what `lay_over` does."""
    rows, columns = own.shape
    for row in range(rows):
        above, cover, below = own[row], silhouette[row], out[top + row, left : left + columns]
        for column in range(columns):
            below[column] = below[column] * (_ONE - cover[column]) + above[column]


@compiled("void(f4[:, ::1], f4[:, ::1], i8, i8, f4[:, ::1])")
def lay_over(own: Light, silhouette: Light, top: int, left: int, out: Light) -> None:
    """Put a layer's `own` light, (h, w) like its `silhouette`, over what is in `out` (H, W), from `top`, `left` on."""
    before(own, silhouette, top, left, out)
