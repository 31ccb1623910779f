"""Between codes and light by tables, one value at a time: sRGB codes, 16-bit codes of light, curves."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from degradations.kernels._compiled import compiled, inlined
from degradations.pairs.contract import Light

_BLACK, _WHITE, _STEPS = np.float32(0), np.float32(1), np.float32(65535)
_NEAREST = np.float32(0xC00000)  # 1.5 times 2^23: a sum with it has no fraction
_SPAN = 3 * 128  # values that are looked at together: whole vectors
_LENGTH = 3 * 1365  # values at a time, so that their codes stay in the fastest cache


@inlined
def nearest(value: np.float32) -> np.float32:
    """Return the whole number nearest to `value`, which is below 2^22; ties to even."""
    return (value + _NEAREST) - _NEAREST


@inlined
def clipped(light: np.float32) -> np.float32:
    """Return `light` within [0, 1]: 0 if it is no number, which would lead out of a table."""
    light = light if light > _BLACK else _BLACK
    return light if light < _WHITE else _WHITE


@inlined
def code_of(steps: np.float32) -> np.uint32:
    """Return the nearest whole number to `steps` of light, 0 to 65535 once clipped; more bits stand above its 16."""
    steps = steps if steps > _BLACK else _BLACK
    steps = steps if steps < _STEPS else _STEPS
    return np.float32(steps + _NEAREST).view(np.uint32)


@inlined
def quantise(light: Light, out: NDArray[Any]) -> None:
    """Write the nearest of 65536 codes to each of `light`, clipped to [0, 1], to `out`."""
    for value in range(light.size):
        out[value] = code_of(light[value] * _STEPS)


@inlined
def is_dark(codes: NDArray[np.uint8], gains: Light) -> bool:
    """Return whether none of `codes` has a gain; gains (256,) rise."""
    brightest = np.uint8(0)
    for value in range(codes.size):
        brightest = max(brightest, codes[value])
    return bool(gains[brightest] == _BLACK)


@inlined
def add_gains(codes: NDArray[np.uint8], gains: Light, out: Light) -> None:
    """Add to each pixel of `out` (3 N,) the gain (256,), which rises, of the least of its `codes`."""
    if is_dark(codes, gains):  # nearly everywhere
        return
    for green in range(1, codes.size, 3):
        gain = gains[min(codes[green - 1], codes[green], codes[green + 1])]
        out[green - 1] += gain
        out[green] += gain
        out[green + 1] += gain


@inlined
def add_other_gains(codes: NDArray[np.uint8], gains: Light, out: Light) -> None:
    """Add to each pixel of `out` the gain (256,) of the least of the codes of every other pixel, from the first on."""
    for pixel in range((codes.size + 3) // 6):
        gain = gains[min(codes[6 * pixel], codes[6 * pixel + 1], codes[6 * pixel + 2])]
        if gain != _BLACK:
            out[3 * pixel] += gain
            out[3 * pixel + 1] += gain
            out[3 * pixel + 2] += gain


@inlined
def decode_apart(codes: NDArray[np.uint8], table: Light, gains: Light, out_even: Light, out_odd: Light) -> None:
    """Write what `decode_bright` makes of the even and of the odd pixels of `codes` (3 W,) to two rows."""
    pairs = codes.size // 6
    for pair in range(pairs):
        out_even[3 * pair] = table[codes[6 * pair]]
        out_even[3 * pair + 1] = table[codes[6 * pair + 1]]
        out_even[3 * pair + 2] = table[codes[6 * pair + 2]]
        out_odd[3 * pair] = table[codes[6 * pair + 3]]
        out_odd[3 * pair + 1] = table[codes[6 * pair + 4]]
        out_odd[3 * pair + 2] = table[codes[6 * pair + 5]]
    for value in range(6 * pairs, codes.size):
        out_even[value - 3 * pairs] = table[codes[value]]
    if is_dark(codes, gains):
        return
    for start in range(0, codes.size, _SPAN):
        part = codes[start : start + _SPAN]
        if not is_dark(part, gains):
            add_other_gains(part, gains, out_even[start // 2 :])
            add_other_gains(part[3:], gains, out_odd[start // 2 :])


@inlined
def look_up_together(
    even: NDArray[np.uint16], odd: NDArray[np.uint16], table: NDArray[np.uint8], out: NDArray[np.uint8]
) -> None:
    """Write to the row `out` (3 W,) what `table` holds for the codes of its even and odd pixels."""
    pairs = out.size // 6
    for pair in range(pairs):
        out[6 * pair] = table[even[3 * pair]]
        out[6 * pair + 1] = table[even[3 * pair + 1]]
        out[6 * pair + 2] = table[even[3 * pair + 2]]
        out[6 * pair + 3] = table[odd[3 * pair]]
        out[6 * pair + 4] = table[odd[3 * pair + 1]]
        out[6 * pair + 5] = table[odd[3 * pair + 2]]
    for value in range(6 * pairs, out.size):
        out[value] = table[even[value - 3 * pairs]]


@compiled("void(u1[::1], f4[::1], f4[::1])")
def decode(codes: NDArray[np.uint8], table: Light, out: Light) -> None:
    """Write `table[codes]` to `out`, all (N,) but `table`, (256,)."""
    for value in range(codes.size):
        out[value] = table[codes[value]]


@compiled("void(f4[::1], u1[::1], u1[::1])")
def encode(light: Light, table: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Write to `out` (N,) what `table` (65536,) holds for the 16-bit code of `light` (N,), which it clips to [0, 1]."""
    codes = np.empty(_LENGTH, np.uint16)
    for start in range(0, light.size, _LENGTH):
        part, written = light[start : start + _LENGTH], out[start : start + _LENGTH]
        quantise(part, codes)
        for value in range(part.size):
            written[value] = table[codes[value]]


@compiled("void(f4[::1], f4[:, ::1], f4[::1])")
def curve(light: Light, tables: Light, out: Light) -> None:
    """Write `light` (N,), clipped to [0, 1], through the tables (1 or 3, T) of its channels in turn to `out`.

    Tables are by the square root of light, evenly from 0 to 1: a few thousand entries are as fine as tones need.
    """
    steps, flat = tables.shape[1], tables.reshape(-1)
    codes = np.empty(_LENGTH, np.uint32)
    places = (np.arange(_LENGTH) % len(tables) * steps).astype(np.uint32)  # where the table of a channel begins
    for start in range(0, light.size, _LENGTH):
        part, written = light[start : start + _LENGTH], out[start : start + _LENGTH]
        for value in range(part.size):
            tone = np.sqrt(clipped(part[value])) * np.float32(steps - 1)
            codes[value] = np.uint32(np.int32(nearest(tone))) + places[value]
        for value in range(part.size):
            written[value] = flat[codes[value]]


@compiled("void(f4[::1], f4, f4[::1])")
def crush(light: Light, toe: float, out: Light) -> None:
    """Write x^2 (1 + toe) / (x + toe), x = `light` clipped to [0, 1], to `out`, both (N,)."""
    for value in range(light.size):
        x = clipped(light[value])
        out[value] = x * x * (_WHITE + toe) / (x + toe)


@compiled("void(u2[::1], f4[::1], f4[::1])")
def look_up(codes: NDArray[np.uint16], table: Light, out: Light) -> None:
    """Write `table[codes]` to `out`, all (N,) but `table`, (65536,)."""
    for value in range(codes.size):
        out[value] = table[codes[value]]


@compiled("void(f4[::1], u1[::1], f4[::1], f4[::1])")
def brighten(light: Light, codes: NDArray[np.uint8], gains: Light, out: Light) -> None:
    """Write `light` (3 N,) to `out`, each pixel plus the gain (256,), which rises, of the least of its `codes`."""
    for start in range(0, light.size, _SPAN):
        seen, part, written = light[start : start + _SPAN], codes[start : start + _SPAN], out[start : start + _SPAN]
        for value in range(seen.size):
            written[value] = seen[value]
        add_gains(part, gains, written)


@compiled("void(u1[::1], f4[::1], f4[::1], f4[::1])")
def decode_bright(codes: NDArray[np.uint8], table: Light, gains: Light, out: Light) -> None:
    """Write to `out` (3 N,) what `brighten` makes of what `decode` makes of `codes`."""
    for start in range(0, codes.size, _SPAN):
        part, written = codes[start : start + _SPAN], out[start : start + _SPAN]
        for value in range(part.size):
            written[value] = table[part[value]]
        add_gains(part, gains, written)
