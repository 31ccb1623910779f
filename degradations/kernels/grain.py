"""Shot noise of light, by a tile of ready numbers."""

import numpy as np

from degradations.kernels._compiled import compiled
from degradations.pairs.contract import Light

_ZERO = np.float32(0)


@compiled("void(f4[:, :, ::1], f4[:, :, ::1], i8, f4[:, :, ::1])")
def shot_noise(light: Light, tile: Light, top: int, out: Light) -> None:
    """Write L + sqrt(L) n to `out`, as `light` (H, W, 3): rows from `top` on. n: `tile` (T, T, 3), side by side."""
    rows, columns, _ = light.shape
    side = len(tile)
    for row in range(rows):
        for left in range(0, columns, side):
            seen, written = light[row, left : left + side].reshape(-1), out[row, left : left + side].reshape(-1)
            n = tile[(top + row) % side].reshape(-1)
            for value in range(seen.size):
                written[value] = seen[value] + np.sqrt(max(seen[value], _ZERO)) * n[value]
