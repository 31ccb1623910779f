"""Colour as JPEG has it (JFIF: luma and two chromas of 8 bits), row by row, as libjpeg rounds it: in 2^-16ths.

The weights are those of differences of colours, in 15 bits: a product of 16-bit numbers is one instruction of a vector.
"""

import numpy as np
from numpy.typing import NDArray

from degradations.kernels._compiled import inlined, inlined_in

Codes = NDArray[np.uint8]

_HALF, _GREY = 1 << 15, 128
_BLACK, _WHITE = np.int32(0), np.int32(255)
_MIDDLE = (_GREY << 16) + _HALF - 1


@inlined_in("int32")
def luma_of(red: np.int32, green: np.int32, blue: np.int32) -> np.int32:
    """Return G + 0.299 (R - G) + 0.114 (B - G)."""
    total = 19595 * (red - green) + 7471 * (blue - green) + (green << 16) + _HALF
    return np.int32(total >> 16)


@inlined_in("int32")
def blueness_of(red: np.int32, green: np.int32, blue: np.int32) -> np.int32:
    """Return Cb, 0.169 (B - R) + 0.331 (B - G)."""
    total = 11059 * (blue - red) + 21709 * (blue - green) + _MIDDLE
    return np.int32(total >> 16)


@inlined_in("int32")
def redness_of(red: np.int32, green: np.int32, blue: np.int32) -> np.int32:
    """Return Cr, 0.419 (R - G) + 0.081 (R - B)."""
    total = 27439 * (red - green) + 5329 * (red - blue) + _MIDDLE
    return np.int32(total >> 16)


@inlined_in("int32")
def limited(value: np.int32) -> np.int32:
    """Return `value` within [0, 255]."""
    positive = max(value, _BLACK)
    return min(positive, _WHITE)


@inlined_in("int32")
def red_of(luma: np.int32, redness: np.int32) -> np.int32:
    """Return luma + 1.402 Cr."""
    share = 26345 * redness + _HALF
    red = luma + redness + (share >> 16)
    return limited(red)


@inlined_in("int32")
def green_of(luma: np.int32, blueness: np.int32, redness: np.int32) -> np.int32:
    """Return luma - 0.344 Cb - 0.714 Cr."""
    share = 18734 * redness - 22554 * blueness + _HALF
    green = luma - redness + (share >> 16)
    return limited(green)


@inlined_in("int32")
def blue_of(luma: np.int32, blueness: np.int32) -> np.int32:
    """Return luma + 1.772 Cb."""
    share = _HALF - 14942 * blueness
    blue = luma + 2 * blueness + (share >> 16)
    return limited(blue)


@inlined
def to_ycc(rgb: Codes, luma: Codes, blueness: Codes, redness: Codes) -> None:
    """Write the colours of a row `rgb` (3 W,) to `luma`, `blueness` and `redness` (W,)."""
    for column in range(luma.size):
        red, green, blue = np.int32(rgb[3 * column]), np.int32(rgb[3 * column + 1]), np.int32(rgb[3 * column + 2])
        luma[column] = luma_of(red, green, blue)
        blueness[column] = blueness_of(red, green, blue)
        redness[column] = redness_of(red, green, blue)


@inlined
def to_rgb(luma: Codes, blueness: Codes, redness: Codes, rgb: Codes) -> None:
    """Write the colours of a row `luma`, `blueness`, `redness` (W,) to `rgb` (3 W,)."""
    for column in range(luma.size):
        light, blue, red = np.int32(luma[column]), np.int32(blueness[column]), np.int32(redness[column])
        blue, red = np.int32(blue - _GREY), np.int32(red - _GREY)
        rgb[3 * column] = red_of(light, red)
        rgb[3 * column + 1] = green_of(light, blue, red)
        rgb[3 * column + 2] = blue_of(light, blue)
