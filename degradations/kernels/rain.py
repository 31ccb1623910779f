"""Rain row by row: what veil and streaks let pass, and the light of a wet scene behind and between them."""

import numpy as np
from numpy.typing import NDArray

from degradations.kernels._compiled import compiled, inlined
from degradations.kernels._exponential import decay
from degradations.kernels._rows import between, threefold
from degradations.pairs.contract import Light

_ZERO, _ONE, _FULL = np.float32(0), np.float32(1), np.float32(255)

Codes = NDArray[np.uint8]


@inlined
def add_before(codes: Codes, inverse_depth: Light, limit: np.float32, out: Light) -> None:
    """Add `codes` (W,) to `out` where what stands behind them is farther than `limit`."""
    for column in range(codes.size):
        code = np.float32(codes[column])
        out[column] += code if inverse_depth[column] < limit else _ZERO


@compiled("void(f4[:, ::1], f4[:, ::1], u1[:, :, ::1], f4[::1], f4, f4, i8, f4[:, ::1])")
def passing(
    away: Light,
    inverse_depth: Light,
    planes: Codes,
    limits: Light,
    peak: float,
    extinction: float,
    top: int,
    out: Light,
) -> None:
    """Write the share of light that passes veil and streaks, exp(-extinction away) (1 - opacity), to `out`.

    away, inverse_depth: some rows of (H, W) from `top` on. planes (N, H, W): streaks of each layer, 255 for `peak`.
    limits (N,): inverse depth of the layers.
    """
    rows, columns = away.shape
    streaks = np.empty(columns, np.float32)
    opaque = peak / _FULL
    for row in range(rows):
        streaks[:] = _ZERO
        for layer in range(limits.size):
            add_before(planes[layer, top + row], inverse_depth[row], limits[layer], streaks)
        for column in range(columns):
            veil = decay(extinction * away[row, column])
            out[row, column] = veil * (_ONE - min(streaks[column], _FULL) * opaque)


@compiled("void(f4[:, :, ::1], f4[:, ::1], u1[:, ::1], f4, f4[:, ::1], f4[:, :, ::1], i8, i8, f4[:, :, ::1])")
def wet(
    light: Light,
    clear: Light,
    crowns: Codes,
    peak: float,
    dry: Light,
    environment: Light,
    top: int,
    height: int,
    out: Light,
) -> None:
    """Write L c dry + E (1 - c) to `out`, as `light` some rows of (H, W, 3) from `top` on.

    c: `clear`, as light (H, W), behind `crowns` (H, W), 255 for `peak`. dry: what wetness leaves of light, (h, W).
    environment: E, (h, W, 3).
    """
    rows, columns = clear.shape
    plane, passed, dried = (
        np.empty(columns, np.float32),
        np.empty(3 * columns, np.float32),
        np.empty(3 * columns, np.float32),
    )
    opaque = peak / _FULL
    for row in range(rows):
        seen, written = light[row].reshape(-1), out[row].reshape(-1)
        struck, clean = crowns[top + row], clear[row]
        for column in range(columns):
            plane[column] = clean[column] * (_ONE - np.float32(struck[column]) * opaque)
        threefold(plane, passed)
        first, second, share = between(top + row, height, len(dry))
        above, below = dry[first], dry[second]
        for column in range(columns):
            plane[column] *= above[column] + (below[column] - above[column]) * share
        threefold(plane, dried)
        first, second, share = between(top + row, height, len(environment))
        upper, lower = environment[first].reshape(-1), environment[second].reshape(-1)
        for value in range(3 * columns):
            scattered = upper[value] + (lower[value] - upper[value]) * share
            written[value] = seen[value] * dried[value] + scattered * (_ONE - passed[value])
