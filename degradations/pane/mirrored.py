"""What a pane of glass mirrors: a second photograph or a made-up view, out of focus, doubled, tinted.

The photograph is seen through a window of the aspect of the picture; what it has clipped is brighter than it says.
"""

import math
from typing import Any

import cv2
import numpy as np

from degradations.numerics.area import reduced
from degradations.numerics.light import decode
from degradations.optics.disk import defocus
from degradations.pairs.contract import Light
from degradations.pane.glass import ghost_ratio
from degradations.pane.interior import interior
from storage.records import Image, Scene

CLIPPED = 0.97  # light of the least channel
NEARLY, WHITE = 0.6, 0.9  # from which on, beside what is clipped, a rim is lit, and wholly
RUNG = 24  # px at 1024: how far a JPEG rings, in a photograph that is enlarged to be mirrored


def mirrored_view(params: Any, scene: Scene, grid: tuple[int, int], other: Light | None) -> Light:
    """Return the mirrored scene on `grid` at its own brightness: defocused, doubled and tinted.

    params: a Reflection. other: what is mirrored, if it is the first photograph.
    """
    light = other if other is not None else second_scene(params, scene, grid)
    shrinks = light.shape[0] >= grid[0] and light.shape[1] >= grid[1]  # INTER_AREA enlarges to blocks
    smoothly = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    light = cv2.resize(light, grid[::-1], interpolation=smoothly).reshape(*grid, 3)
    if params.highlights > 0 and "reflection" in scene.overlays:  # a made-up view knows its lamps
        light = _expanded(light, params.highlights)
    light = defocus(light, params.defocus * min(grid) / 1024)
    return np.asarray(cv2.transform(_doubled(light, params), np.diag(params.tint)), dtype=np.float32)


def second_scene(params: Any, scene: Scene, grid: tuple[int, int]) -> Light:
    """Return the light of the window of the second photograph, of its own size if it is small, or a made-up view."""
    if "reflection" not in scene.overlays:
        return interior(grid, params.interior_seed)
    twice = (2 * grid[0], 2 * grid[1])
    return decode(cropped(scene.overlays["reflection"], params, twice, zoom=params.zoom, enlarge=False))


def cropped(picture: Image, params: Any, shape: tuple[int, int], *, zoom: float, enlarge: bool = True) -> Image:
    """Return the window of `picture` that has the aspect of `shape`, at the size `shape` (or its own, if smaller)."""
    scale = max(shape[0] / picture.shape[0], shape[1] / picture.shape[1]) * zoom
    height, width = (min(have, max(1, round(side / scale))) for have, side in zip(picture.shape, shape, strict=False))
    top, left = round(params.row * (picture.shape[0] - height)), round(params.column * (picture.shape[1] - width))
    window = picture[top : top + height, left : left + width]
    if params.mirrored:
        window = np.asarray(cv2.flip(window, 1), dtype=np.uint8)
    if enlarge or (height >= shape[0] and width >= shape[1]):
        return reduced(np.ascontiguousarray(window), shape)
    return np.ascontiguousarray(window)


def _expanded(light: Light, highlights: float) -> Light:
    """Return `light` with its clipped parts brighter by `highlights`, and what is nearly white beside them by less.

    Where a JPEG has rung, codes just below white lie scattered along the rim of a white wall. Taken as they are they
    leave it nicked, and nothing hides that where a reflection is sharp.
    """
    least = cv2.min(cv2.min(*(cv2.extractChannel(light, k) for k in (0, 1))), cv2.extractChannel(light, 2))
    reach = round(RUNG * min(light.shape[:2]) / 2048)  # `light.min(axis=2)` takes 10 ms
    near = cv2.dilate((least > np.float32(CLIPPED)).astype(np.float32), np.ones((4 * reach + 1,) * 2, np.uint8))
    near = cv2.blur(near, (2 * reach + 1,) * 2, borderType=cv2.BORDER_REPLICATE)
    near *= np.clip((least - np.float32(NEARLY)) * np.float32(1 / (WHITE - NEARLY)), 0, 1) * np.float32(highlights)
    return np.asarray(light + near[..., None])  # all channels alike: skies would turn violet


def _doubled(light: Light, params: Any) -> Light:
    """Return (light + ratio * shifted light) / (1 + ratio): the second surface mirrors a little further on."""
    ratio = ghost_ratio(params.incidence)
    distance = params.ghost * min(light.shape[:2]) / 1024
    right, down = distance * math.cos(params.ghost_angle), distance * math.sin(params.ghost_angle)
    move = np.array([[1, 0, right], [0, 1, down]], np.float32)
    moved = cv2.warpAffine(light, move, light.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(cv2.addWeighted(light, 1 / (1 + ratio), moved.reshape(light.shape), ratio / (1 + ratio), 0))
