"""Snow: flakes by layers of depth, near ones large and soft, far ones a veil.

A flake is opaque and lit by the whole sky: I = L (1 - a) + E a, where a is the part of the exposure for which it covers
a pixel, spread over its disc of defocus (Garg and Nayar's model of rain, doi:10.1007/s11263-006-0028-6, with the slow
fall of snow, about 1 m/s, Locatelli and Hobbs 1974, doi:10.1029/JC079i015p02185). Flakes hide only what lies behind
them; their number in a layer is Poisson's. Ours: sizes, counts and the wind. This file is all there is of snow: an
example of how a degradation is added.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from degradations.numerics.light import decode, luminance
from degradations.numerics.random import gaussian_field, log_uniform, seed, uniform, uniform_field
from degradations.numerics.strips import ByRows, Work
from degradations.pairs.contract import Degradation, Frame, Light, Part, Stage
from degradations.pairs.severity import path, pixels
from degradations.weather.strokes import count, draw, frames
from storage.records import Scene

LAYERS = (3.0, 1.5, 0.8, 0.4, 0.2)  # inverse depth, near to far: flakes are as much smaller, slower and sharper
NUMBER = (1.2, 8.0, 40.0, 140.0, 350.0)  # flakes per square of the shorter side in each layer, at density 1
DENSITY = (0.5, 1.2, 2.6, 5.0, 9.0, 16.0)  # by level
VEIL = (0.01, 0.03, 0.07, 0.13, 0.25, 0.45)  # share of the airlight where inverse depth is 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Snow:
    """What was drawn; lengths in pixels at min(H, W) = 1024.

    density: times NUMBER, 0 to 16, 0 is none. veil: share of airlight at infinity, 0 to 0.5. size: radius of the
    nearest flakes, 6 to 14. fall: way of the nearest flakes during the exposure, 6 to 120. angle: of it from the
    vertical, degrees. defocus: sigma of the nearest flakes' blur, 2 to 10. opacity: of a flake, 0.6 to 0.95. light:
    linear RGB of flakes and veil. flake_seed: of places and sizes.
    """

    density: float
    veil: float
    size: float
    fall: float
    angle: float
    defocus: float
    opacity: float
    light: tuple[float, float, float]
    flake_seed: int


def sample(rng: np.random.Generator, severity: float, scene: Scene, options: object) -> Snow:
    """Draw the snow: severity sets how much, not how it falls."""
    del options
    sky = float(np.percentile(luminance(decode(scene.image)), 95))
    brightness = float(np.clip(1.2 * sky, 0.08, 0.9)) * uniform(rng, 0.85, 1.0)
    tint = uniform(rng, 0.0, 0.04)  # overcast daylight is a little blue
    return Snow(
        density=path(severity, DENSITY),
        veil=path(severity, VEIL),
        size=log_uniform(rng, 6, 14),
        fall=log_uniform(rng, 6, 120),
        angle=uniform(rng, -50, 50),
        defocus=log_uniform(rng, 2, 10),
        opacity=uniform(rng, 0.6, 0.95),
        light=(brightness * (1 - tint), brightness, min(1.0, brightness * (1 + tint))),
        flake_seed=seed(rng),
    )


def _fall(frame: Frame, params: Snow, scene: Scene) -> Frame | Work:
    """Put snow between the camera and the scene."""
    from degradations.kernels.air import through_air

    assert scene.depth is not None
    depth, width = scene.depth, scene.image.shape[1]
    colour, even = np.tile(np.array(params.light, np.float32), width), np.ones(3 * width, np.float32)
    flakes = [layer(scene.image.shape[:2], index, params) for index in range(len(LAYERS))]

    def snow(light: Light, rows: slice, out: Light) -> None:
        passed = np.float32(1) - np.float32(params.veil) * (np.float32(1) - depth[rows]) ** 2
        for plane, nearness in zip(flakes, LAYERS, strict=True):
            hidden = plane[rows] * (depth[rows] < np.float32(nearness))
            passed *= np.float32(1) - hidden * np.float32(1 / 255)
        through_air(light, -cv2.log(passed).reshape(passed.shape), even, colour, out)

    return snow


fall = ByRows(_fall, idle=lambda params: params.density == 0)


def layer(shape: tuple[int, ...], index: int, params: Snow) -> NDArray[np.uint8]:
    """Return the opacity, uint8 (H, W), of the flakes of layer `index` of LAYERS."""
    ways, levels, widths = _flakes((shape[0], shape[1]), index, params)
    plane = draw((shape[0], shape[1]), ways, levels, widths)
    blur = pixels(params.defocus, shape) * LAYERS[index] / LAYERS[0]
    return cv2.GaussianBlur(plane, (0, 0), blur) if blur > 0.4 else plane


def _flakes(shape: tuple[int, int], index: int, params: Snow) -> tuple[Light, Light, Light]:
    """Return each flake's way (N, 2, 2) in rows and columns, its opacity (N,) and its width (N,) in pixels."""
    nearness = LAYERS[index] / LAYERS[0]
    expected = NUMBER[index] * params.density * frames(shape)
    num_flakes = count(expected, float(gaussian_field((1,), params.flake_seed, stream=3 * index)[0]))
    chances = uniform_field((num_flakes, 4), params.flake_seed, stream=3 * index + 1)
    gauss = gaussian_field((num_flakes, 2), params.flake_seed, stream=3 * index + 2)
    width = 2 * pixels(params.size, shape) * nearness * np.exp(np.float32(0.35) * gauss[:, 0])
    speed = pixels(params.fall, shape) * nearness * (0.7 + 0.6 * chances[:, 2])
    angle = np.radians(params.angle + 8 * gauss[:, 1])
    way = speed[:, None] * np.stack((np.cos(angle), np.sin(angle)), axis=1)
    middle = (1.2 * chances[:, :2] - 0.1) * np.array(shape, dtype=np.float32)
    covered = np.sqrt(width / (width + speed)) * np.minimum(1, width)
    ways = np.stack((middle - way / 2, middle + way / 2), axis=1)
    return ways.astype(np.float32), (params.opacity * covered).astype(np.float32), width.astype(np.float32)


DEGRADATION = Degradation(
    params=Snow, sample=sample, parts=(Part(Stage.MEDIA, fall),), needs=frozenset({"depth"}), local=True
)
