"""Defocus: every point becomes the image of the lens's opening, as wide as it lies out of focus.

Thin lens: the circle of confusion grows linearly with the distance from the focused *disparity*, c = K |d - d_f|, so
inverse depth is used as it is. By depth, a picture is cut into layers of like blur (`layers`).
"""

import math
from collections.abc import Callable

from degradations.numerics.strips import Stream, Work, streamed, whole
from degradations.optics.convolve import convolve, convolving, growing, halved
from degradations.pairs.contract import Light

WIDE = 4.0  # pixels of radius from which a disk is made on a copy of half the size, 42 to 50 dB from the disk itself

Kernel = Callable[[float], Light]  # of a radius in pixels


def opened(light: Light, radius: float, kernel: Kernel) -> Light:
    """Return `light`, (H, W) or (H, W, C), with every point `radius` pixels out of focus."""
    if radius == 0:
        return light
    if radius < WIDE or min(light.shape[:2]) < 4 * WIDE:
        return convolve(light, kernel(radius))
    return whole(opening(streamed(light), radius, kernel), light)


def opening(stream: Stream, radius: float, kernel: Kernel) -> Work:
    """Return the work that writes the rows of the light of `stream`, `opened`.

    Wide disks are made on a reduced copy: reducing and enlarging add a variance of 1 each and the disk has r^2 / 4, so
    the spread stays right and the rim softens by 1.4 pixels.
    """
    if radius < WIDE or min(stream.shape[:2]) < 4 * WIDE:
        return convolving(stream.light(), kernel(radius))
    small = halved(stream)
    return growing(opening(streamed(small), narrower(radius), kernel), small.shape)


def narrower(radius: float) -> float:
    """Return the radius of a disk on a picture of half the size that is, once enlarged, a disk of `radius`."""
    return math.sqrt(radius * radius - 8) / 2
