"""What a sensor adds to light, and how it comes back as colour."""

import numpy as np

from degradations.kernels._compiled import compiled, inlined
from degradations.kernels._rows import between
from degradations.kernels.codes import nearest
from degradations.pairs.contract import Light

_ZERO, _ONE = np.float32(0), np.float32(1)
_HALF, _FOUR = np.float32(0.5), np.float32(4)


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


@inlined
def _raised(tone: np.float32, linear: np.float32, half: np.float32) -> np.float32:
    """Return the light x that `crush` makes `tone` of: x^2 (1 + toe) / (x + toe).

    linear: 4 toe (1 + toe). half: 0.5 / (1 + toe); both are not worked out for every value.
    """
    root: np.float32 = np.sqrt((tone + linear) * tone)
    return (tone + root) * half


@compiled("void(f4[::1], f4, f4[::1])")
def raise_toe(tones: Light, toe: np.float32, out: Light) -> None:
    """Write the light that a tone curve with `toe` turns into `tones` to `out`, both (N,)."""
    linear, half = _FOUR * toe * (_ONE + toe), _HALF / (_ONE + toe)
    for value in range(tones.size):
        out[value] = _raised(max(tones[value], _ZERO), linear, half)


@compiled("void(f4[:, :, ::1], f4[:, :, ::1], f4[:, :, ::1], f4, i8, i8, f4[:, :, ::1])")
def add_noise(light: Light, fine: Light, coarse: Light, toe: np.float32, top: int, height: int, out: Light) -> None:
    """Write `light` + `fine` + `coarse` to `out`, some rows of (H, W, 3) from `top` on; coarse: (h, W, 3).

    toe: of the tone curve that comes after the noise and has shaped `light`; 0 for none.
    """
    linear, half, full = _FOUR * toe * (_ONE + toe), _HALF / (_ONE + toe), _ONE + toe
    for row in range(len(light)):
        seen, noise, written = light[row].reshape(-1), fine[row].reshape(-1), out[row].reshape(-1)
        first, second, share = between(top + row, height, len(coarse))
        above, below = coarse[first].reshape(-1), coarse[second].reshape(-1)
        if toe > _ZERO:
            for value in range(seen.size):
                added = noise[value] + (above[value] + (below[value] - above[value]) * share)
                x = max(_raised(max(seen[value], _ZERO), linear, half) + added, _ZERO)
                written[value] = x * x * full / (x + toe)
            continue
        for value in range(seen.size):
            written[value] = seen[value] + noise[value] + (above[value] + (below[value] - above[value]) * share)
