"""What a sensor adds to light, and how it comes back as colour."""

import numpy as np

from degradations._compiled import compiled
from degradations._contract import Light
from degradations.kernels._rows import between
from degradations.kernels.codes import nearest

_ZERO, _ONE = np.float32(0), np.float32(1)


@compiled("void(f4[:, ::1], f4[:, ::1], f4[::1], f4, f4, f4, f4[:, ::1])")
def raw_noise(signal: Light, field: Light, rows: Light, shot: float, read: float, levels: float, out: Light) -> None:
    """Write min(quantise(x + sqrt(shot x + read) n + row), 1) - x, x = `signal`, n = `field`, to `out`, all (H, W).

    rows (H,): what is added to each. levels: of the converter, 0 for none.
    """
    height, width = signal.shape
    for row in range(height):
        for column in range(width):
            x = signal[row, column]
            raw = np.sqrt(max(x, _ZERO) * shot + read) * field[row, column] + x + rows[row]
            if levels > _ZERO:
                raw = nearest(raw * levels) / levels
            out[row, column] = min(raw, _ONE) - x


@compiled("void(f4[:, :, ::1], f4[:, :, ::1], f4[:, :, ::1], i8, i8, f4[:, :, ::1])")
def add_noise(light: Light, fine: Light, coarse: Light, top: int, height: int, out: Light) -> None:
    """Write `light` + `fine` + `coarse` to `out`, some rows of (H, W, 3) from `top` on; coarse: (h, W, 3)."""
    for row in range(len(light)):
        seen, noise, written = light[row].reshape(-1), fine[row].reshape(-1), out[row].reshape(-1)
        first, second, share = between(top + row, height, len(coarse))
        above, below = coarse[first].reshape(-1), coarse[second].reshape(-1)
        for value in range(seen.size):
            written[value] = seen[value] + noise[value] + (above[value] + (below[value] - above[value]) * share)
