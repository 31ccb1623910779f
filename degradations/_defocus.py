"""Defocus: every point becomes the image of the lens's opening, as wide as it lies out of focus.

Thin lens: the circle of confusion grows linearly with the distance from the focused *disparity*, c = K |d - d_f|, so
inverse depth is used as it is. The picture is cut into layers of like blur, which are laid over each other from back to
front, each with its own spread silhouette.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from degradations._contract import Light
from degradations._convolve import MIRROR, convolve, convolving, growing
from degradations._strips import Work, strips, whole

LAYERS = 8
WIDE = 6.0  # pixels of radius from which a disk is made on a copy of half the size

Kernel = Callable[[float], Light]  # of a radius in pixels


def opened(light: Light, radius: float, kernel: Kernel) -> Light:
    """Return `light`, (H, W) or (H, W, C), with every point `radius` pixels out of focus."""
    if radius < WIDE or min(light.shape[:2]) < 4 * WIDE:
        return convolve(light, kernel(radius))
    return whole(opening(light, radius, kernel), light)


def opening(light: Light, radius: float, kernel: Kernel) -> Work:
    """Return the work that writes the rows of `opened`.

    Wide disks are made on a reduced copy: reducing and enlarging add a variance of 1 each and the disk has r^2 / 4, so
    the spread stays right and the rim softens by 1.4 pixels.
    """
    if radius < WIDE or min(light.shape[:2]) < 4 * WIDE:
        return convolving(light, kernel(radius))
    small = opened(cv2.pyrDown(light, borderType=MIRROR), math.sqrt(radius * radius - 8) / 2, kernel)
    return growing(small, light.shape)


def layered_defocus(light: Light, disparity: Light, *, focus: float, reach: float, kernel: Kernel) -> Light:
    """Return `light`, float32 (H, W, 3), blurred by |disparity - focus| times `reach` pixels.

    disparity: float32 (H, W), 1 nearest. The layers' silhouettes are hats that add up to 1, so slopes stay smooth;
    the light is divided by the silhouettes' total, so nothing darkens where a layer ends behind another.
    """
    return whole(layering(light, disparity, focus=focus, reach=reach, kernel=kernel), light)


def layering(light: Light, disparity: Light, *, focus: float, reach: float, kernel: Kernel) -> Work:
    """Return the work that writes the rows of `layered_defocus`."""
    signed = cv2.addWeighted(disparity, reach, disparity, 0, -focus * reach)
    centres = _centres(float(signed.min()), float(signed.max()))
    step = centres[1] - centres[0] if len(centres) > 1 else 1.0
    total = [np.zeros(light.shape[:2], np.float32) for _ in range(4)]
    planes = _split(light)
    kernel, places = cache(kernel), _places(signed, centres[0], step, len(centres))
    for index, centre in enumerate(centres):
        box = _box(places, index, abs(centre))
        if box is not None:
            mask = _hat(signed[box], centre, step)
            _lay_over([plane[box] for plane in total], [plane[box] for plane in planes], mask, abs(centre), kernel)

    def compose(_: Light, rows: slice, out: Light) -> None:
        silhouette = cv2.max(total[3][rows], 1e-6)
        cv2.merge([cv2.divide(plane[rows], silhouette) for plane in total[:3]], dst=out)

    return compose


def _split(light: Light) -> list[Light]:
    """Return the three planes of `light`: in the cache this takes a third of the time of `cv2.split`."""
    planes = [np.empty(light.shape[:2], np.float32) for _ in range(3)]
    for _, _, rows in strips(light.shape):
        for channel, plane in enumerate(planes):
            cv2.extractChannel(light[rows], channel, dst=plane[rows])
    return planes


def _centres(low: float, high: float) -> list[float]:
    """Return signed radii from back to front, 0 among them, at least half a pixel apart, about LAYERS of them."""
    step = max(0.5, (high - low) / (LAYERS - 1))
    return [step * index for index in range(math.floor(low / step), math.ceil(high / step) + 1)]


def _places(signed: Light, lowest: float, step: float, count: int) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Return in which rows and in which columns `signed` lies between each layer, from `lowest` on, and the next."""
    nearest = cv2.addWeighted(signed, 1 / step, signed, 0, -lowest / step - 0.5, dtype=cv2.CV_8U)
    return [((nearest == index).any(axis=1), (nearest == index).any(axis=0)) for index in range(count)]


def _box(places: list[tuple[NDArray[Any], NDArray[Any]]], index: int, radius: float) -> tuple[slice, slice] | None:
    """Return the rows and columns that layer `index` reaches once it is spread, or None if it is nowhere."""
    around = places[max(0, index - 1) : index + 1]
    rows, columns = (np.flatnonzero(np.any(sides, axis=0)) for sides in zip(*around, strict=True))
    if rows.size == 0:
        return None
    margin = math.ceil(1.3 * radius) + 8  # a polygon's corners reach beyond the radius
    tall, wide = (slice(max(0, int(side[0]) - margin), int(side[-1]) + margin + 1) for side in (rows, columns))
    return tall, wide


def _hat(signed: Light, centre: float, step: float) -> Light:
    hat = cv2.absdiff(np.ascontiguousarray(signed), np.float32(centre).item())
    hat = cv2.addWeighted(hat, -1 / step, hat, 0, 1.0, dst=hat)
    return np.asarray(cv2.threshold(hat, 0, 0, cv2.THRESH_TOZERO, dst=hat)[1], dtype=np.float32).reshape(signed.shape)


def _lay_over(total: list[Light], planes: list[Light], mask: Light, radius: float, kernel: Kernel) -> None:
    """Put the light of `planes` inside `mask`, spread by `radius`, over what is in `total`: planes and silhouette."""
    silhouette = opened(mask, radius, kernel)
    behind = 1 - silhouette
    for below, light in zip(total, planes, strict=False):  # plane by plane: the cache holds one
        own = opened(cv2.multiply(light, mask), radius, kernel)
        cv2.add(cv2.multiply(below, behind, dst=below), own, dst=below)
    cv2.add(cv2.multiply(total[3], behind, dst=total[3]), silhouette, dst=total[3])
