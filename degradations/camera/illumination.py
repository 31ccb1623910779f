"""The uneven light of a dark scene: a lamp's pool, a flash, a lens that shades its corners, places in the dark."""

from typing import TYPE_CHECKING

import cv2
import numpy as np

from degradations.numerics.fields import lattice
from degradations.numerics.regions import region_map
from degradations.pairs.contract import Light
from storage.records import Scene

if TYPE_CHECKING:
    from degradations.low_light import LowLight

REDUCTION = 8  # the field is smooth: an eighth of the size will do
SHRUNK = 4  # and a quarter for segments
FEATHER = 3.0  # pixels, between segments
SPOTS = 380.0  # pixels at 1024: width of the places that are darker than others


def illumination(params: "LowLight", scene: Scene) -> Light:
    """Return E of a LowLight, float32 at an eighth of the scene's size, in (0, 1]."""
    height, width = scene.image.shape[:2]
    shape = (-(-height // REDUCTION), -(-width // REDUCTION))
    lit, angle = _pool(params, shape, (height, width)), _shading(params, shape, (height, width))
    if params.flash and scene.depth is not None:
        near = cv2.resize(scene.depth, shape[::-1], interpolation=cv2.INTER_AREA).reshape(shape)
        lit = lit * np.float32(1 - params.flash) + np.float32(params.flash) * near * near  # 1/d^2
    light = np.exp(np.float32(params.field) * (lit - lit.max())) * angle * angle
    if params.unevenness:
        waves = lattice(shape, params.field_seed, cell=SPOTS)
        light = light * np.exp(np.float32(params.unevenness) * np.tanh(waves) - np.float32(params.unevenness))
    return np.asarray(light, dtype=np.float32)


def lighting(params: "LowLight", scene: Scene) -> Light | None:
    """Return E of a LowLight times that of the scene's segments, float32 (H, W); None where it is 1."""
    if params.field == params.vignette == params.unevenness == 0 and not params.segment_stops:
        return None
    light, (height, width) = illumination(params, scene), scene.image.shape[:2]
    if params.segment_stops and scene.segments is not None:
        small = (-(-height // SHRUNK), -(-width // SHRUNK))  # borders are soft
        stops = region_map(scene.segments, [2**stop for stop in params.segment_stops], FEATHER / SHRUNK, small)
        light = cv2.multiply(cv2.resize(light, small[::-1]).reshape(small), stops).reshape(small)
    return np.asarray(cv2.resize(light, (width, height), interpolation=cv2.INTER_LINEAR)).reshape(height, width)


def _pool(params: "LowLight", shape: tuple[int, int], size: tuple[int, int]) -> Light:
    """Return the inverse square of a lamp, levelled off near it, 1 at its place."""
    rows, columns = _places(shape)
    down = (rows - np.float32(params.lamp_row)) * (size[0] / min(size))
    across = (columns - np.float32(params.lamp_column)) * (size[1] / min(size))
    return np.asarray(1 / (1 + (down * down + across * across) / np.float32(params.lamp_radius**2)))


def _shading(params: "LowLight", shape: tuple[int, int], size: tuple[int, int]) -> Light:
    """Return how the lens shades the corners: the squared cosine of the angle, of which the fourth power counts."""
    rows, columns = _places(shape)
    radius = ((rows - 0.5) * size[0]) ** 2 + ((columns - 0.5) * size[1]) ** 2
    return np.asarray(1 / (1 + np.float32(params.vignette) * radius / ((size[0] ** 2 + size[1] ** 2) / 4)))


def _places(shape: tuple[int, int]) -> tuple[Light, Light]:
    rows, columns = ((np.arange(side, dtype=np.float32) + np.float32(0.5)) / np.float32(side) for side in shape)
    return rows[:, None], columns[None, :]
