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

from degradations._contract import Light
from degradations._convolve import MIRROR, convolve

LAYERS = 8
WIDE = 6.0  # pixels of radius from which a disk is made on a copy of half the size

Kernel = Callable[[float], Light]  # of a radius in pixels


def opened(light: Light, radius: float, kernel: Kernel) -> Light:
    """Return `light`, (H, W) or (H, W, C), with every point `radius` pixels out of focus.

    Wide disks are made on a reduced copy: reducing and enlarging add a variance of 1 each and the disk has r^2 / 4, so
    the spread stays right and the rim softens by 1.4 pixels.
    """
    if radius < WIDE or min(light.shape[:2]) < 4 * WIDE:
        return convolve(light, kernel(radius))
    small = opened(cv2.pyrDown(light, borderType=MIRROR), math.sqrt(radius * radius - 8) / 2, kernel)
    return np.asarray(cv2.pyrUp(small, dstsize=light.shape[1::-1]))


def layered_defocus(light: Light, disparity: Light, *, focus: float, reach: float, kernel: Kernel) -> Light:
    """Return `light`, float32 (H, W, 3), blurred by |disparity - focus| times `reach` pixels.

    disparity: float32 (H, W), 1 nearest. The layers' silhouettes are hats that add up to 1, so slopes stay smooth;
    the light is divided by the silhouettes' total, so nothing darkens where a layer ends behind another.
    """
    signed = (disparity - np.float32(focus)) * np.float32(reach)
    centres = _centres(float(signed.min()), float(signed.max()))
    total = [np.zeros(light.shape[:2], np.float32) for _ in range(4)]
    kernel = cache(kernel)
    for centre in centres:
        _lay_over(total, light, _hat(signed, centre, _step(centres)), abs(centre), kernel)
    silhouette = np.maximum(total[3], np.float32(1e-6))
    return np.asarray(cv2.merge([cv2.divide(plane, silhouette) for plane in total[:3]]))


def _centres(low: float, high: float) -> list[float]:
    """Return signed radii from back to front, 0 among them, at least half a pixel apart, about LAYERS of them."""
    step = max(0.5, (high - low) / (LAYERS - 1))
    return [step * index for index in range(math.floor(low / step), math.ceil(high / step) + 1)]


def _step(centres: list[float]) -> float:
    return centres[1] - centres[0] if len(centres) > 1 else 1.0


def _hat(signed: Light, centre: float, step: float) -> Light:
    hat = cv2.absdiff(signed, np.float32(centre).item())
    hat = cv2.addWeighted(hat, -1 / step, hat, 0, 1.0, dst=hat)
    return np.asarray(cv2.max(hat, 0.0, dst=hat), dtype=np.float32).reshape(signed.shape)


def _lay_over(total: list[Light], light: Light, mask: Light, radius: float, kernel: Kernel) -> None:
    """Put the light of `mask`, spread by `radius`, over what is in `total`: three planes and the silhouette."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return
    margin = math.ceil(1.3 * radius) + 8  # a polygon's corners reach beyond the radius
    box = tuple(slice(max(0, int(side[0]) - margin), int(side[-1]) + margin + 1) for side in (rows, columns))
    part = np.ascontiguousarray(mask[box])
    silhouette = opened(part, radius, kernel)
    behind = 1 - silhouette
    for channel, plane in enumerate(total[:3]):  # plane by plane: the cache holds one, and memory is used again
        own = opened(cv2.multiply(cv2.extractChannel(light[box], channel), part), radius, kernel)
        plane[box] = cv2.add(cv2.multiply(plane[box], behind), own, dst=own)
    total[3][box] = cv2.add(cv2.multiply(total[3][box], behind), silhouette)
