"""A view that a pane of glass may mirror when no photograph is at hand: a room with windows, or trees and houses.

A reflection is seen defocused and faint: tones, edges and the spread of brightness matter, detail does not. Everything
is a pure function of an integer seed, in linear light where 1 is white.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from degradations._area import coarse
from degradations._contract import Light
from degradations._fields import lattice
from degradations._random import uniform_field
from degradations._room import room
from storage.records import Image

_RANGE = 6.0  # brightest light of a shape, which is kept as its square root in 8 bits
_GRID = 256  # pixels along the short side of the view: it is defocused anyway
_TONES = 96  # pixels along the short side of what is smooth
_HOUSES, _LAMPS = 14, 3

_SKY_AND_LEAF = ((0.9, 0.85), (0.97, 1.0), (1.05, 0.6))  # tints by channel

Numbers = NDArray[np.float32]  # a row of numbers in (0, 1)


class _Canvas(NamedTuple):
    """Shapes with soft edges: the square root of their light and their cover, both uint8."""

    colour: Image
    cover: Image


def interior(shape: tuple[int, int], seed: int) -> Light:
    """Return the view of `seed`, float32 (H, W, 3) linear light, mean .15 to .45: half rooms, half streets."""
    grid = coarse(shape, _GRID)
    view = _room(grid, seed) if uniform_field((1,), seed, stream=3)[0] < 0.5 else _street(grid, seed)
    view *= _roughness(grid, seed)
    view = cv2.resize(view, shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.maximum(view.reshape(*shape, 3), 0), dtype=np.float32)


def _room(shape: tuple[int, int], seed: int) -> Light:
    numbers = uniform_field((_LAMPS, 12), seed, stream=1)
    view = room(shape, seed, np.float32(0.7) * _street(shape, seed + 1))
    canvas = _Canvas(np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.uint8))
    for row in numbers[: int(numbers[2, 11] * (_LAMPS + 1))]:
        _lamp(canvas, row)
    return _over(view, canvas)


def _street(shape: tuple[int, int], seed: int) -> Light:
    """Return sky above trees and houses."""
    numbers = uniform_field((_HOUSES, 12), seed, stream=4)
    down = np.linspace(0, 1, shape[0], dtype=np.float32)[:, None]
    tops = _tones(shape, seed, cell=420, octaves=2, gain=0.6, stream=6)[-1:]  # along one row: no crown floats
    leaves = 1.6 * tops + 0.4 * _tones(shape, seed, cell=120, octaves=1, gain=1, stream=7)
    leaves += np.float32(0.4) * lattice(shape, seed, cell=50, stream=8) + np.float32(0.3) * lattice(
        shape, seed, cell=18, stream=9
    )
    sky = 0.75 - 0.35 * down + 0.08 * _tones(shape, seed, cell=300, octaves=1, gain=1, stream=5)
    crowns = 1 / (1 + np.exp(np.clip(-6 * (leaves + 9 * (down - 0.2 - 0.5 * numbers[0, 10])), -30, 30)))
    green = 0.03 + 0.025 * np.clip(leaves + 1, 0, 3)
    view = cv2.merge([sky * tint + (green * leaf - sky * tint) * crowns for tint, leaf in _SKY_AND_LEAF])
    canvas = _Canvas(np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.uint8))
    for row in numbers[: int(numbers[1, 11] * _HOUSES / 2)]:
        _house(canvas, row)
    return _over(view, canvas)


def _roughness(shape: tuple[int, int], seed: int) -> Light:
    """Return the unevenness of all surfaces, float32 (H, W, 1) about 1."""
    texture = _tones(shape, seed, cell=60, octaves=1, gain=1, stream=20) + lattice(shape, seed, cell=14, stream=21)
    return np.asarray(np.exp(np.float32(0.06) * texture)[..., None])


def _tones(shape: tuple[int, int], seed: int, *, cell: float, octaves: int, gain: float, stream: int) -> Light:
    """Return the sum of `octaves` of smooth noise, made on a small grid."""
    grid = coarse(shape, _TONES)
    layers = (
        np.float32(gain**octave) * lattice(grid, seed, cell=cell / 2**octave, stream=stream + octave)
        for octave in range(octaves)
    )
    small = np.sum(list(layers), axis=0, dtype=np.float32)
    return np.asarray(cv2.resize(small, shape[::-1], interpolation=cv2.INTER_CUBIC).reshape(shape))


def _house(canvas: _Canvas, numbers: Numbers) -> None:
    """Draw a front with rows of windows."""
    shape, lean = canvas.cover.shape, 0.05 * (numbers[4] - 0.5)
    height, width = 0.3 + 0.6 * numbers[2], 0.15 + 0.4 * numbers[3]
    middle = (1 - 0.4 * height + 0.2 * numbers[0], numbers[1])
    wall = (0.05 + 0.25 * numbers[5]) * (np.array([1.08, 1.0, 0.9]) + 0.16 * (numbers[6:9] - 0.5))
    _fill(canvas, _quad(shape, middle, height, width, lean), wall)
    rows, columns = 2 + int(height * (7 + 5 * numbers[9])), 2 + int(width * (9 + 9 * numbers[10]))
    for row, column, place in _grid(shape, middle, height, width, rows, columns):
        pane = _quad(shape, place, 0.58 * height / rows, 0.42 * width / columns, lean)
        _fill(canvas, pane, wall * (0.25 + 0.5 * numbers[(row * 3 + column) % 9]))


def _grid(
    shape: Sequence[int], middle: tuple[float, float], height: float, width: float, rows: int, columns: int
) -> Iterator[tuple[int, int, tuple[float, float]]]:
    """Yield row, column and middle (in shares of the frame) of the panes that divide a front of so many short sides."""
    down, across = (side * min(shape) / of for side, of in zip((height, width), shape, strict=False))
    for row, column in product(range(rows), range(columns)):
        yield (
            row,
            column,
            (middle[0] + down * ((row + 0.5) / rows - 0.5), middle[1] + across * ((column + 0.5) / columns - 0.5)),
        )


def _lamp(canvas: _Canvas, numbers: Numbers) -> None:
    height, width = canvas.cover.shape
    centre = (round(float(numbers[0]) * width * 16), round(float(numbers[1]) * 0.6 * height * 16))
    radius = max(1, round((0.003 + 0.008 * float(numbers[2]) ** 2) * min(height, width) * 16))
    light = (0.9 + 1.6 * numbers[4]) * np.array([1, 0.6 + 0.35 * numbers[3], 0.3 + 0.6 * numbers[3]])
    cv2.circle(canvas.colour, centre, radius + 16, _stored(light), -1, cv2.LINE_8, 4)
    cv2.circle(canvas.cover, centre, radius, 255, -1, cv2.LINE_AA, 4)


def _quad(
    shape: Sequence[int], middle: tuple[float, float], height: float, width: float, lean: float
) -> NDArray[np.int32]:
    """Return the corners (column, row), in 16ths of pixels, of a leaning rectangle; its sizes are in short sides."""
    scale = min(shape[0], shape[1])
    centre = np.array([middle[1] * shape[1], middle[0] * shape[0]])
    unit = np.array([[-1, -1 - lean], [1, -1 + lean], [1, 1 - lean], [-1, 1 + lean]])
    return np.rint((centre + unit * (width * scale / 2, height * scale / 2)) * 16).astype(np.int32)


def _fill(canvas: _Canvas, corners: NDArray[np.int32], light: Light) -> None:
    cv2.fillPoly(canvas.colour, [corners], _stored(light), cv2.LINE_AA, 4)
    cv2.fillPoly(canvas.cover, [corners], 255, cv2.LINE_AA, 4)


def _stored(light: Light) -> tuple[float, ...]:
    return tuple(float(value) for value in 255 * np.sqrt(np.clip(light / _RANGE, 0, 1)))


def _over(view: Light, canvas: _Canvas) -> Light:
    """Return the shapes of `canvas` before `view`."""
    drawn = canvas.colour.astype(np.float32)
    drawn *= drawn * np.float32(_RANGE / 255**2)
    cover = (canvas.cover * np.float32(1 / 255))[..., None]
    return np.asarray(view + (drawn - view) * cover, dtype=np.float32)
