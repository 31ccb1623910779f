"""What air does to light, row by row (`haze`, `rain`): how far a point is, how much air that is, what arrives of it."""

import numpy as np

from degradations.kernels._compiled import compiled
from degradations.kernels._exponential import decay
from degradations.kernels._rows import between, threefold
from degradations.pairs.contract import Light

_ZERO, _ONE = np.float32(0), np.float32(1)
_SEEN = np.float32(1.5)  # of the unevenness of the density, where most is seen: 0.79, at 1.6 cells


@compiled("void(f4[:, ::1], f4, f4, f4, f4[:, ::1])")
def distances(inverse_depth: Light, offset: float, far: float, sky: float, out: Light) -> None:
    """Write the relative distance (1 + o) / (d + o) of inverse depth d to `out`; below `sky` it fades to `far`."""
    rows, columns = inverse_depth.shape
    for row in range(rows):
        for column in range(columns):
            depth = inverse_depth[row, column]
            away = (_ONE + offset) / (depth + offset)
            away += max(_ONE - depth / sky, _ZERO) * (far - away)
            out[row, column] = min(away, far)


@compiled("void(f4[:, ::1], f4[:, ::1], f4[::1], i8, f4, f4, f4[:, ::1])")
def optical_depths(away: Light, density: Light, rates: Light, top: int, beta: float, cell: float, out: Light) -> None:
    """Write beta times the path times its mean density to `out`, as `away` some rows of (H, W), from `top` on.

    density: (h, W). rates: elevation over the height of the layer of air, by row (H,): the path is
    (1 - exp(-rate d)) / rate, and d where rate is 0. cell: length of the density's clumps, of which a path of x cells
    sees 1.5 x / (1 + x^1.5): all within one clump is alike, and many of them average out.
    """
    rows, columns = away.shape
    cells = _ONE / cell
    for row in range(rows):
        rate = rates[top + row]
        first, second, share = between(top + row, rates.size, len(density))
        above, below = density[first], density[second]
        for column in range(columns):
            path = away[row, column]
            if rate > _ZERO:
                path = (_ONE - decay(path * rate)) / rate
            x = path * cells
            seen = _SEEN * x / (_ONE + x * np.sqrt(x))
            uneven = above[column] + (below[column] - above[column]) * share - _ONE
            out[row, column] = beta * path * (_ONE + uneven * seen)


@compiled("void(f4[:, :, ::1], f4[:, ::1], f4[::1], f4[::1], f4[:, :, ::1])")
def through_air(light: Light, depths: Light, extinction: Light, airlight: Light, out: Light) -> None:
    """Write L t + A (1 - t), t = exp(-extinction depth), to `out`, as `light` (H, W, 3).

    depths: optical, (H, W). extinction, airlight: of each value of a row, (3 W,).
    """
    rows, columns, _ = light.shape
    depth = np.empty(3 * columns, np.float32)
    for row in range(rows):
        seen, written = light[row].reshape(-1), out[row].reshape(-1)
        threefold(depths[row], depth)
        for value in range(3 * columns):
            t = decay(extinction[value] * depth[value])
            written[value] = airlight[value] + (seen[value] - airlight[value]) * t


@compiled("void(f4[:, :, ::1], f4[:, ::1], f4[:, :, ::1], f4, i8, i8, f4[:, :, ::1])")
def scattered_forward(
    light: Light, depths: Light, soft: Light, forward: float, top: int, height: int, out: Light
) -> None:
    """Write `light` to `out`, some rows from `top` of `height` on, of which a share is `soft`, (h, W, 3).

    That share is `forward` of what is lost on the way, 1 - exp(-depth).
    """
    rows, columns, _ = light.shape
    share, shares = np.empty(columns, np.float32), np.empty(3 * columns, np.float32)
    for row in range(rows):
        seen, written = light[row].reshape(-1), out[row].reshape(-1)
        for column in range(columns):
            share[column] = forward * (_ONE - decay(depths[row, column]))
        threefold(share, shares)
        first, second, part = between(top + row, height, len(soft))
        above, below = soft[first].reshape(-1), soft[second].reshape(-1)
        for value in range(3 * columns):
            blurred = above[value] + (below[value] - above[value]) * part
            written[value] = seen[value] + (blurred - seen[value]) * shares[value]
