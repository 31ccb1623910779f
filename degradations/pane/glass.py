"""A pane of glass: how much it reflects and lets through, and where on it the reflection shows.

Fresnel's equations for unpolarised light (Born and Wolf, Principles of Optics, section 1.5), n = 1.5, both surfaces.
"""

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from degradations.numerics.area import coarse
from degradations.numerics.fields import lattice
from degradations.numerics.light import LUMA, luminance
from degradations.numerics.random import uniform_field
from degradations.pairs.contract import Light
from storage.records import Image

if TYPE_CHECKING:
    from degradations.reflection import Reflection

INDEX = 1.5
GRID = 256  # pixels along the short side on which weights, which are smooth, are made
FEATURES, HIDDEN = 6, 4


def surface(incidence: float) -> float:
    """Return the reflectance of one surface for unpolarised light at `incidence` in degrees."""
    inside = math.asin(math.sin(math.radians(incidence)) / INDEX)
    outer, inner = math.cos(math.radians(incidence)), math.cos(inside)
    across = ((outer - INDEX * inner) / (outer + INDEX * inner)) ** 2
    along = ((inner - INDEX * outer) / (inner + INDEX * outer)) ** 2
    return (across + along) / 2


def transmission(incidence: float) -> float:
    """Return the share of light that passes both surfaces directly."""
    return (1 - surface(incidence)) ** 2


def ghost_ratio(incidence: float) -> float:
    """Return how strong the second surface's reflection is beside the first one's."""
    return (1 - surface(incidence)) ** 2


def weight(params: "Reflection", field: Light) -> Light:
    """Return how much of the reflection shows, float32 in (0, 1): 1/2 where `field` is `params.cover`."""
    slope = np.clip((field - np.float32(params.cover)) * np.float32(1 / params.softness), -30, 30)
    return np.asarray(1 / (1 + np.exp(-slope)), dtype=np.float32)


def gains(params: "Reflection", field: Light) -> Light:
    """Return the gain of the mirrored world, float32: from `params.faint`, which it has all over, to `params.gain`.

    params: a Reflection. field: as `weight_field` returns it.
    """
    shown = weight(params, field)
    shown *= np.float32(params.gain - params.faint)
    shown += np.float32(params.faint)
    return shown


def weight_field(
    params: "Reflection", behind: Light, mirrored: Light, segments: Image | None, *, short: int = GRID
) -> Light:
    """Return the field, float32 (h, w) of scale about 1, above whose level `params.cover` the reflection shows.

    params: a Reflection. behind, mirrored: the scenes on both sides of the glass, linear light. segments: (H, W) labels
    or None; only read for weight "segments".
    """
    shape = (behind.shape[0], behind.shape[1])
    grid = coarse(shape, short)
    if params.weight == "network_like":
        return _of_both_layers(params, behind, mirrored, grid)
    clouds = lattice(grid, params.weight_seed, cell=420) + np.float32(0.5) * lattice(
        grid, params.weight_seed, cell=170, stream=1
    )
    if params.weight == "window":
        clouds = _pane(params, shape, grid) + np.float32(0.12) * clouds
    if params.weight == "segments":
        clouds = _of_segments(params, segments, grid) + np.float32(0.25) * clouds
    return np.asarray(clouds, dtype=np.float32)


def _pane(params: "Reflection", shape: tuple[int, int], grid: tuple[int, int]) -> Light:
    """Return the distance from the edge of a tilted pane, positive inside, in thirds of the short side."""
    row, column, height, width, tilt = params.pane
    down = (((np.arange(grid[0]) + 0.5) / grid[0] - row) * shape[0] / min(shape))[:, None]
    across = (((np.arange(grid[1]) + 0.5) / grid[1] - column) * shape[1] / min(shape))[None, :]
    vertical, horizontal = down - tilt * across, across + tilt * down
    inside = np.minimum(height / 2 - np.abs(vertical), width / 2 - np.abs(horizontal))
    return np.asarray(3 * inside, dtype=np.float32)


def _of_segments(params: "Reflection", segments: Image | None, grid: tuple[int, int]) -> Light:
    """Return a height for each segment, slightly blurred at its border."""
    heights = 2.4 * uniform_field((256,), params.weight_seed, stream=2) - np.float32(1.2)
    labels = cv2.resize(segments, grid[::-1], interpolation=cv2.INTER_NEAREST).reshape(grid)
    return np.asarray(cv2.GaussianBlur(heights[labels], (0, 0), 1.2), dtype=np.float32)


def _of_both_layers(params: "Reflection", behind: Light, mirrored: Light, grid: tuple[int, int]) -> Light:
    """Return a random two-layer perceptron of smooth features of both scenes, in place of SynNet's trained weights."""
    features = np.stack([feature for layer in (behind, mirrored) for feature in _features(layer)])
    inner = np.array(params.projection[: FEATURES * HIDDEN], np.float32).reshape(HIDDEN, FEATURES)
    outer = np.array(params.projection[FEATURES * HIDDEN :], np.float32)
    field = np.tensordot(outer, np.tanh(np.tensordot(inner, features, 1)), 1)
    field = (field - field.mean()) / max(float(field.std()), 1e-3)
    return np.asarray(cv2.resize(field, grid[::-1], interpolation=cv2.INTER_CUBIC).reshape(grid), dtype=np.float32)


def _features(layer: Light) -> tuple[Light, Light, Light]:
    """Return lightness, warmth and local contrast of a scene on a grid of 32 x 32, each about -1 to 1."""
    small = np.cbrt(np.clip(cv2.resize(layer, (32, 32), interpolation=cv2.INTER_AREA), 0, 1))
    light = luminance(small) / np.float32(LUMA.sum())
    contrast = np.abs(light - cv2.GaussianBlur(light, (0, 0), 2))
    smooth = [cv2.GaussianBlur(feature, (0, 0), 1.5) for feature in (light, small[..., 0] - small[..., 2], contrast)]
    return smooth[0] * 2 - 1, smooth[1] * 3, smooth[2] * 8 - 1
