"""A view that a pane of glass may mirror when no photograph is at hand: a room with windows, a street, or trees.

A reflection is seen defocused and faint: tones, edges and the spread of brightness matter, detail does not. Everything
is a pure function of an integer seed, in linear light where 1 is white.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from degradations.numerics.area import coarse
from degradations.numerics.fields import lattice
from degradations.numerics.random import uniform_field
from degradations.pairs.contract import Light
from degradations.pane.room import room
from degradations.pane.street import street
from storage.records import Image

_RANGE = 6.0  # brightest light of a shape, which is kept as its square root in 8 bits
_GRID = 256  # pixels along the short side of the view: it is defocused anyway
_TONES = 96  # pixels along the short side of what is smooth
_LAMPS = 3

_CLEAR, _LEAF = (0.22, 0.34, 0.55), (0.85, 1.0, 0.6)  # light of a clear sky's upper end, and tint of leaves, by channel

Numbers = NDArray[np.float32]  # a row of numbers in (0, 1)


class _Canvas(NamedTuple):
    """Shapes with soft edges: the square root of their light and their cover, both uint8."""

    colour: Image
    cover: Image


def interior(shape: tuple[int, int], seed: int) -> Light:
    """Return the view of `seed`, float32 (H, W, 3) linear light, mean .15 to .45: half rooms, half outdoors."""
    grid = coarse(shape, _GRID)
    view = _room(grid, seed) if uniform_field((1,), seed, stream=3)[0] < 0.5 else _outdoors(grid, seed)
    view = cv2.resize(view, shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.maximum(view.reshape(*shape, 3), 0), dtype=np.float32)


def _room(shape: tuple[int, int], seed: int) -> Light:
    numbers = uniform_field((_LAMPS, 12), seed, stream=1)
    view = room(shape, seed, np.float32(0.7) * _outdoors(shape, seed + 1))
    canvas = _Canvas(np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.uint8))
    for row in numbers[: int(numbers[2, 11] * (_LAMPS + 1))]:
        _lamp(canvas, row)
    return _over(view, canvas)


def _outdoors(shape: tuple[int, int], seed: int) -> Light:
    """Return a street, or trees, below a sky."""
    sky = _sky(shape, seed)
    if uniform_field((1,), seed, stream=4)[0] < 0.65:
        return street(shape, seed, sky)
    down = np.linspace(0, 1, shape[0], dtype=np.float32)[:, None]
    tops = _tones(shape, seed, cell=420, octaves=2, gain=0.6, stream=6)[-1:]  # along one row: no crown floats
    leaves = 1.6 * tops + 0.4 * _tones(shape, seed, cell=120, octaves=1, gain=1, stream=7)
    leaves += np.float32(0.4) * lattice(shape, seed, cell=50, stream=8) + np.float32(0.3) * lattice(
        shape, seed, cell=18, stream=9
    )
    top = 0.2 + 0.5 * float(uniform_field((2,), seed, stream=4)[1])
    crowns = 1 / (1 + np.exp(np.clip(-6 * (leaves + 9 * (down - np.float32(top))), -30, 30)))
    green = 0.03 + 0.025 * np.clip(leaves + 1, 0, 3)
    shares = crowns * _roughness(shape, seed)
    return np.dstack([sky[..., k] * (1 - crowns) + green * leaf * shares for k, leaf in enumerate(_LEAF)])


def _sky(shape: tuple[int, int], seed: int) -> Light:
    """Return a sky, float32 (H, W, 3): darker and bluer upwards, with clouds."""
    down = np.linspace(0, 1, shape[0], dtype=np.float32)[:, None]
    clouds = _tones(shape, seed, cell=700, octaves=4, gain=0.5, stream=10)
    cover = np.clip(0.5 + 0.6 * clouds, 0, 1) * np.float32(uniform_field((1,), seed, stream=15)[0])
    return np.dstack([clear + 0.4 * down + (0.85 - clear - 0.4 * down) * cover for clear in _CLEAR])


def _roughness(shape: tuple[int, int], seed: int) -> Light:
    """Return the unevenness of leaves, float32 (H, W) about 1."""
    texture = _tones(shape, seed, cell=60, octaves=1, gain=1, stream=20) + lattice(shape, seed, cell=14, stream=21)
    return np.asarray(np.exp(np.float32(0.1) * texture))


def _tones(shape: tuple[int, int], seed: int, *, cell: float, octaves: int, gain: float, stream: int) -> Light:
    """Return the sum of `octaves` of smooth noise, made on a small grid."""
    grid = coarse(shape, _TONES)
    layers = (
        np.float32(gain**octave) * lattice(grid, seed, cell=cell / 2**octave, stream=stream + octave)
        for octave in range(octaves)
    )
    small = np.sum(list(layers), axis=0, dtype=np.float32)
    return np.asarray(cv2.resize(small, shape[::-1], interpolation=cv2.INTER_CUBIC).reshape(shape))


def _lamp(canvas: _Canvas, numbers: Numbers) -> None:
    height, width = canvas.cover.shape
    centre = (round(float(numbers[0]) * width * 16), round(float(numbers[1]) * 0.6 * height * 16))
    radius = max(1, round((0.003 + 0.008 * float(numbers[2]) ** 2) * min(height, width) * 16))
    light = (0.9 + 1.6 * numbers[4]) * np.array([1, 0.6 + 0.35 * numbers[3], 0.3 + 0.6 * numbers[3]])
    cv2.circle(canvas.colour, centre, radius + 16, _stored(light), -1, cv2.LINE_8, 4)
    cv2.circle(canvas.cover, centre, radius, 255, -1, cv2.LINE_AA, 4)


def _stored(light: Light) -> tuple[float, ...]:
    return tuple(float(value) for value in 255 * np.sqrt(np.clip(light / _RANGE, 0, 1)))


def _over(view: Light, canvas: _Canvas) -> Light:
    """Return the shapes of `canvas` before `view`."""
    drawn = canvas.colour.astype(np.float32)
    drawn *= drawn * np.float32(_RANGE / 255**2)
    cover = (canvas.cover * np.float32(1 / 255))[..., None]
    return np.asarray(view + (drawn - view) * cover, dtype=np.float32)
