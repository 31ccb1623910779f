"""Defocus: every point becomes the image of the lens's opening, as wide as it lies out of focus.

Thin lens: the circle of confusion grows linearly with the distance from the focused *disparity*, c = K |d - d_f|, so
inverse depth is used as it is. The picture is cut into layers of like blur, which are laid over each other from back to
front, each with its own spread silhouette.
"""

import math
from collections.abc import Callable

import cv2
import numpy as np

from degradations._contract import Light
from degradations._convolve import convolve

LAYERS = 8

Kernel = Callable[[float], Light]  # of a radius in pixels


def uniform_defocus(light: Light, radius: float, kernel: Kernel) -> Light:
    """Return `light` with every point `radius` pixels out of focus."""
    return convolve(light, kernel(radius))


def layered_defocus(light: Light, disparity: Light, *, focus: float, reach: float, kernel: Kernel) -> Light:
    """Return `light`, float32 (H, W, 3), blurred by |disparity - focus| times `reach` pixels.

    disparity: float32 (H, W), 1 nearest. The layers' silhouettes are hats that add up to 1, so slopes stay smooth;
    the light is divided by the silhouettes' total, so nothing darkens where a layer ends behind another.
    """
    signed = (disparity - np.float32(focus)) * np.float32(reach)
    centres = _centres(float(signed.min()), float(signed.max()))
    total = np.zeros((*light.shape[:2], 4), np.float32)
    for index, centre in enumerate(centres):
        _lay_over(total, light, _hat(signed, centres, index), kernel(abs(centre)))
    return np.asarray(total[..., :3] / np.maximum(total[..., 3:], 1e-6))


def _centres(low: float, high: float) -> list[float]:
    """Return signed radii from back to front, 0 among them, at least half a pixel apart, at most LAYERS."""
    step = max(0.5, (high - low) / (LAYERS - 1))
    return [step * index for index in range(math.floor(low / step), math.ceil(high / step) + 1)]


def _hat(signed: Light, centres: list[float], index: int) -> Light:
    step = centres[1] - centres[0] if len(centres) > 1 else 1.0
    hat = np.abs(signed - np.float32(centres[index]))
    hat *= np.float32(-1 / step)
    hat += np.float32(1)
    return np.asarray(np.maximum(hat, 0, out=hat))


def _lay_over(total: Light, light: Light, mask: Light, kernel: Light) -> None:
    """Put the light of `mask`, spread by `kernel`, over what is already in `total`, (H, W, 4) with the silhouette."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return
    margin = len(kernel) // 2
    box = tuple(slice(max(0, int(side[0]) - margin), int(side[-1]) + margin + 1) for side in (rows, columns))
    part = mask[box]
    layer = cv2.merge([*(channel * part for channel in cv2.split(light[box])), part])
    layer = convolve(layer, kernel)
    total[box] *= 1 - layer[..., 3:]
    total[box] += layer
