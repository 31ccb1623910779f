"""Defocus: every point becomes the image of the lens's opening, as wide as it lies out of focus.

Thin lens: the circle of confusion grows linearly with the distance from the focused *disparity*, c = K |d - d_f|, so
inverse depth is used as it is. The picture is cut into layers of like blur, which are laid over each other from back to
front, each with its own spread silhouette.
"""

import math
from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from degradations._contract import Light
from degradations._convolve import convolve, convolving, growing, halved
from degradations._strips import Stream, Work, streamed, whole

LAYERS = 8
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
    half = opening(streamed(small), math.sqrt(radius * radius - 8) / 2, kernel)
    return growing(half, small.shape, stream.shape)


def layered_defocus(light: Light, disparity: Light, *, focus: float, reach: float, kernel: Kernel) -> Light:
    """Return `light`, float32 (H, W, 3), blurred by |disparity - focus| times `reach` pixels.

    disparity: float32 (H, W), 1 nearest. The layers' silhouettes are hats that add up to 1, so slopes stay smooth;
    the light is divided by the silhouettes' total, so nothing darkens where a layer ends behind another.
    """
    return whole(layering(streamed(light), disparity, focus=focus, reach=reach, kernel=kernel), light)


def layering(stream: Stream, disparity: Light, *, focus: float, reach: float, kernel: Kernel) -> Work:
    """Return the work that writes the rows of the light of `stream`, as `layered_defocus`."""
    from degradations.kernels.layers import cut, lay_over

    signed = cv2.addWeighted(disparity, reach, disparity, 0, -focus * reach).reshape(disparity.shape)
    centres = _centres(float(signed.min()), float(signed.max()))
    step = centres[1] - centres[0] if len(centres) > 1 else 1.0
    light, total = _planes(stream), np.zeros((4, *signed.shape), np.float32)
    kernel, extents = cache(kernel), _extents(signed, centres[0], step, len(centres))
    for index, centre in enumerate(centres):
        box = _box(extents[max(0, index - 1) : index + 1], abs(centre), signed.shape)
        if box is not None:
            top, left, height, width = box
            parts, radius = np.empty((4, height, width), np.float32), abs(centre)
            cut(light, signed, centre, step, top, left, parts)
            silhouette = opened(parts[3], radius, kernel)
            for part, below in zip(parts[:3], total[:3], strict=True):  # one by one: the cache holds one
                lay_over(opened(part, radius, kernel), silhouette, top, left, below)
            lay_over(silhouette, silhouette, top, left, total[3])

    def compose(_: Light, rows: slice, out: Light) -> None:
        silhouette = cv2.max(total[3][rows], 1e-6)
        cv2.merge([cv2.divide(plane[rows], silhouette) for plane in total[:3]], dst=out)

    return compose


def _planes(stream: Stream) -> Light:
    """Return the light of `stream` (H, W, 3) as planes (3, H, W)."""
    planes = np.empty((3, *stream.shape[:2]), np.float32)
    for rows, light in stream.strips:
        for channel, plane in enumerate(planes):
            cv2.extractChannel(light, channel, dst=plane[rows])
    return planes


def _centres(low: float, high: float) -> list[float]:
    """Return signed radii from back to front, 0 among them, at least half a pixel apart, about LAYERS of them."""
    step = max(0.5, (high - low) / (LAYERS - 1))
    return [step * index for index in range(math.floor(low / step), math.ceil(high / step) + 1)]


def _extents(signed: Light, lowest: float, step: float, count: int) -> NDArray[np.int64]:
    """Return the first and last row and column of what lies between each layer, from `lowest` on, and the next."""
    from degradations.kernels.layers import extents

    found = np.tile(np.array([signed.shape[0], -1, signed.shape[1], -1], np.int64), (count, 1))
    extents(signed, lowest, step, found)
    return found


def _box(extents: NDArray[np.int64], radius: float, shape: tuple[int, ...]) -> tuple[int, int, int, int] | None:
    """Return top, left, height and width of what a layer between `extents` reaches, or None if it is nowhere."""
    first_row, last_row, first_column, last_column = (
        int(side) for side in (extents[:, 0].min(), extents[:, 1].max(), extents[:, 2].min(), extents[:, 3].max())
    )
    if last_row < 0:
        return None
    margin = math.ceil(1.3 * radius) + 8  # a polygon's corners reach beyond the radius
    top, left = max(0, first_row - margin), max(0, first_column - margin)
    bottom, right = min(shape[0], last_row + margin + 1), min(shape[1], last_column + margin + 1)
    return top, left, bottom - top, right - left
