"""Streaks: drops of a layer of air on their way through the exposure.

Sizes follow Marshall and Palmer (1948): N(D) = 8000 exp(-4.1 R^-0.21 D) per cubic metre and mm; they fall at
v = 9.65 - 10.3 exp(-0.6 D) m/s (Atlas et al. 1973). A drop covers a pixel for the part D / (v T) of the exposure
(Garg and Nayar 2007, doi:10.1007/s11263-006-0028-6), so that its streak is faint, and fainter where it is thinner than
a pixel. One velocity in space makes all streaks converge on one vanishing point.
"""

from dataclasses import dataclass
from functools import reduce
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from degradations.numerics.random import gaussian_field, uniform_field
from degradations.pairs.contract import Light
from degradations.weather.strokes import BLUNT, FAINTEST, breadths, count, draw, frames, grown

INTERCEPT = 8000.0  # N(0) of Marshall and Palmer
LAYERS = (0.35, 0.7, 1.4, 2.8, 5.6)  # metres from the camera; what falls farther away is part of the veil
SPREAD = 0.825  # volume of a layer from z / sqrt(2) to z sqrt(2) in a square field of view, over z^3 / f^2
NARROWEST = 0.5  # pixels at 1024: thinner drops are not drawn
SMALLEST, LARGEST = 0.8, 6.0  # mm
MOST = 3500  # streaks in a layer per square of the shorter side
SEGMENTS = (5, 5, 1, 1, 1)  # pieces of a streak, by layer: what is far away is too short to tell them
FOCUS = 8.0  # metres: the camera looks that far or farther
LEAST_BLUR = 0.3  # pixels: a layer that is less out of focus is not blurred
END = 0.45  # opacity of a streak's ends over that of its middle
TYPICAL = 16  # drops by which `overlaps` tells those of a layer
MARGIN = 0.1  # of the sides, where streaks start beyond the image


@dataclass(frozen=True, slots=True, kw_only=True)
class Fall:
    """How the rain falls, and through which camera.

    rate: mm/h. shutter: seconds. focal: pixels at 1024. angle, turbulence: degrees from the vertical and their spread.
    converge: of the directions, per focal length. aperture: defocus in pixels x metres at 1024. emphasis: how many of
    the drops that pass a pixel count as one streak. density: of the streaks, 1 for one a drop. seed: of the events.
    """

    rate: float
    density: float
    shutter: float
    focal: float
    angle: float
    turbulence: float
    converge: float
    aperture: float
    emphasis: float
    seed: int


def slope(rate: float) -> float:
    """Return Marshall and Palmer's Lambda, per mm, of a rain of `rate` > 0 mm/h."""
    return float(4.1 * rate**-0.21)


def terminal_velocity(diameter: Light) -> Light:
    """Return the speed of fall, m/s, of drops of `diameter` mm."""
    return np.asarray(9.65 - 10.3 * np.exp(-0.6 * diameter), dtype=np.float32)


def drops_in_layer(rate: float, z: float, focal: float) -> float:
    """Return how many drops of a layer `z` metres away are worth drawing, per square of the shorter side."""
    smallest = _smallest(z, focal)
    density = INTERCEPT / slope(rate) * np.exp(-slope(rate) * smallest)
    return float(min(MOST, density * SPREAD * z**3 / (focal / 1024) ** 2))


def layers(shape: tuple[int, int], fall: Fall, *, front: int = 1) -> tuple[NDArray[np.uint8], float]:
    """Return the streaks of each of LAYERS, uint8 (5, H, W), and the opacity in [0, 1] that 255 stands for in all.

    front: how many of the nearest nothing hides; those are one plane, in which they add up.
    """
    canvases = [_canvas(shape, z, fall) for z in LAYERS]
    events = [_events(canvas, z, fall) for canvas, z in zip(canvases, LAYERS, strict=True)]
    peak = max(float(opacity.max(initial=0)) for _, opacity, _ in events)
    planes = []
    for canvas, (lines, opacity, widths) in zip(canvases, events, strict=True):
        plane = draw(canvas.shape, lines, opacity / np.float32(max(peak, 1e-6)), widths)
        if canvas.blur > LEAST_BLUR and len(lines):
            plane = np.asarray(cv2.GaussianBlur(plane, (0, 0), canvas.blur))
        planes.append(plane)
    together = [reduce(_added, planes[:front]), *planes[front:]]
    return np.stack([grown(plane, shape) for plane in together]), peak


def _added(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the sum of two planes at the size of the larger one, up to 255."""
    small, large = sorted((first, second), key=len)
    return np.asarray(cv2.add(grown(small, (large.shape[0], large.shape[1])), large))


def overlaps(shape: tuple[int, int], fall: Fall) -> tuple[Light, float]:
    """Return how many streaks of at least code 1 to 255 lie on a point on average, (5, 255), and their `peak`."""
    layered = [(_canvas(shape, z, fall), z, drops_in_layer(fall.rate, z, fall.focal) * fall.density) for z in LAYERS]
    rarest = [np.array([1 / (1 + number * frames(shape))], np.float32) for _, _, number in layered]
    largest = [_drops(luck, canvas, z, fall) for luck, (canvas, z, _) in zip(rarest, layered, strict=True)]
    peak = max(float(drop.opacity[0]) for drop in largest)
    opacities = np.arange(1, 256, dtype=np.float32) * np.float32(peak / 255)
    chances = np.asarray((np.arange(TYPICAL) + 0.5) / TYPICAL, np.float32)
    found = np.empty((len(LAYERS), 255), np.float32)
    for out, (canvas, z, number), pieces in zip(found, layered, SEGMENTS, strict=True):
        areas = _areas(_drops(chances, canvas, z, fall), canvas.blur, pieces, FAINTEST * peak, opacities)
        out[:] = areas * np.float32(number / (1024 * canvas.scale) ** 2)
    return found, peak


@dataclass(frozen=True, slots=True, kw_only=True)
class _Canvas:
    """Where a layer is drawn: its shape, the pixels that one at 1024 is there, and its defocus in them."""

    shape: tuple[int, int]
    scale: float
    blur: float


def _canvas(shape: tuple[int, int], z: float, fall: Fall) -> _Canvas:
    scale = min(shape) / 1024
    blur = scale * fall.aperture * abs(1 / z - 1 / FOCUS)
    factor = 1 if min(shape) < 256 else 4 if blur > 5 else 2 if blur > 1.5 or z > 4 else 1
    reduced = -(-shape[0] // factor), -(-shape[1] // factor)
    return _Canvas(shape=reduced, scale=scale / factor, blur=blur / factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drops:
    """Drops of one layer, (N,) each: fall in pixels of the canvas, opacity of their streaks once in focus, width."""

    fall: Light
    opacity: Light
    width: Light


def _smallest(z: float, focal: float) -> float:
    return max(SMALLEST, 1000 * NARROWEST * z / focal)


def _drops(chances: Light, canvas: _Canvas, z: float, fall: Fall) -> _Drops:
    """Return the drops that `chances`, uniform in (0, 1], stand for: the smaller, the larger the drop."""
    diameter = np.minimum(_smallest(z, fall.focal) - np.log(chances) / slope(fall.rate), LARGEST)
    speed = terminal_velocity(diameter)
    focal = fall.focal * canvas.scale
    width = diameter / 1000 * focal / z
    covered = np.minimum(1, diameter / (1000 * speed * fall.shutter))
    opacity = (1 - (1 - covered) ** fall.emphasis) * np.minimum(1, width)
    visible = opacity / (1 + 0.5 * canvas.blur / np.maximum(width, 1))
    lengths = speed * fall.shutter * focal / z
    return _Drops(fall=lengths.astype(np.float32), opacity=visible.astype(np.float32), width=width.astype(np.float32))


def _areas(drops: _Drops, blur: float, pieces: int, faintest: float, opacities: Light) -> Light:
    """Return how many pixels a streak covers on average at least as opaquely as each of `opacities` (N,).

    What is in focus falls off within the pixel at its rim, what is not as a Gaussian of the same light.
    """
    total, breadth = np.zeros(len(opacities), np.float32), breadths(drops.width)[:, None]
    spread = np.sqrt(breadth**2 / 12 + blur**2)
    for share, level in ((0.4, END), (0.6, 1.0)) if pieces > 2 else ((1.0, 1.0),):  # two of five pieces are ends
        opacity = 0.85 * level * drops.opacity[:, None]
        if blur > LEAST_BLUR:
            height = opacity * np.minimum(breadth / (np.sqrt(2 * np.pi) * spread), 1)
            half = spread * np.sqrt(2 * np.log(np.maximum(height / opacities, 1)))
        else:
            half = np.where(opacity >= opacities, (breadth + 1) / 2 - opacities / np.maximum(opacity, 1e-6), 0)
        shown = opacity >= faintest
        total += np.mean(shown * half * (2 * share * drops.fall[:, None] + (np.pi - 2 * BLUNT) * half), axis=0)
    return total


def _events(canvas: _Canvas, z: float, fall: Fall) -> tuple[Light, Light, Light]:
    """Return segments (N, 2, 2), their opacities (N,) and widths (N,), in pixels of the canvas."""
    index = LAYERS.index(z)
    room = (1 + 2 * MARGIN) ** 2 * frames(canvas.shape)
    luck = float(gaussian_field((1,), fall.seed, stream=10 * index)[0])
    num_drops = count(drops_in_layer(fall.rate, z, fall.focal) * fall.density * room, luck)
    chances = uniform_field((num_drops, 4), fall.seed, stream=10 * index + 1)
    gauss = gaussian_field((num_drops,), fall.seed, stream=10 * index + 2)
    drops = _drops(chances[:, 0], canvas, z, fall)
    sides = np.array(canvas.shape, np.float32)[:, None]
    start = ((1 + 2 * MARGIN) * chances[:, 1:3].T - MARGIN) * sides
    angle = np.radians(fall.angle + fall.turbulence * gauss)
    seen = (start - sides / 2) / (fall.focal * canvas.scale) * fall.converge
    travel = np.asarray((np.stack((np.cos(angle), np.sin(angle))) - seen) * drops.fall, np.float32)
    return _segments(start, travel, drops.opacity, drops.width, chances[:, 3], SEGMENTS[index])


def _segments(
    start: Light, travel: Light, opacity: NDArray[Any], width: NDArray[Any], phase: Light, pieces: int
) -> tuple[Light, Light, Light]:
    """Cut each streak into pieces: its ends are fainter, and the drop's oscillation makes its light come and go.

    start, travel: rows and columns, (2, N).
    """
    steps = np.linspace(-0.5, 0.5, pieces + 1, dtype=np.float32)[:, None]
    lines = np.empty((pieces, len(width), 2, 2), np.float32)
    for axis in (0, 1):  # loops over all streaks, not over the two places of each
        points = start[axis] + steps * travel[axis]
        lines[..., 0, axis], lines[..., 1, axis] = points[:-1], points[1:]
    order = np.arange(pieces, dtype=np.float32)[:, None]
    is_end = (np.abs(order - (pieces - 1) / 2) > pieces / 3) & (pieces > 2)
    swing = 0.85 + 0.15 * np.cos(2 * np.pi * (phase + order * np.float32(0.4)))
    levels = opacity * np.where(is_end, np.float32(END), np.float32(1)) * swing
    return lines.reshape(-1, 2, 2), levels.ravel().astype(np.float32), np.tile(width, pieces).astype(np.float32)
