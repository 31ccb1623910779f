"""Layers of a picture by depth: which light belongs to one, and how the next lies over it."""

import numpy as np
from numpy.typing import NDArray

from degradations._compiled import compiled
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


@compiled("void(f4[:, :, ::1], f4[:, ::1], f4, f4, i8, i8, f4[:, :, ::1])")
def cut(light: Light, signed: Light, centre: float, step: float, top: int, left: int, out: Light) -> None:
    """Write what of `light` (H, W, 3) belongs to the layer at `centre` to `out` (4, h, w), from `top`, `left` on.

    That is its part max(1 - |s - centre| / step, 0), s = `signed` (H, W), which is the fourth of `out`.
    """
    _, rows, columns = out.shape
    per_step = _ONE / step
    for row in range(rows):
        s, seen, hat = signed[top + row, left:], light[top + row, left:].reshape(-1), out[3, row]
        for column in range(columns):
            hat[column] = max(_ONE - abs(s[column] - centre) * per_step, _ZERO)
        for channel in range(3):
            own, written = seen[channel:], out[channel, row]
            for column in range(columns):
                written[column] = own[3 * column] * hat[column]


@compiled("void(f4[:, ::1], f4[:, ::1], i8, i8, f4[:, ::1])")
def lay_over(own: Light, silhouette: Light, top: int, left: int, out: Light) -> None:
    """Put a layer's `own` light, (h, w) like its `silhouette`, over what is in `out` (H, W), from `top`, `left` on."""
    rows, columns = own.shape
    for row in range(rows):
        above, cover, below = own[row], silhouette[row], out[top + row, left : left + columns]
        for column in range(columns):
            below[column] = below[column] * (_ONE - cover[column]) + above[column]
