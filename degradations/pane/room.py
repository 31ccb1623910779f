"""A room as a pane of glass mirrors it: walls, windows that light it, things that stand about, all in perspective.

Metres; x to the right, y down, z into the picture, the camera in the origin. Each pixel's ray ends at the nearest of
the walls and boxes; its light is what the windows send there (each seen as a point) and what all walls send back. That
is one constant, and of shadows only those beside things are made: a reflection shows no more.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from degradations.numerics.area import coarse
from degradations.numerics.random import chance, choice, generator, log_uniform, uniform
from degradations.pairs.contract import Light

GRID = 160  # pixels along the short side
FLOOR, CEILING, BACK, SIDE = (1.0, 1.4), (-2.2, -1.1), (3.0, 8.0), (1.2, 4.5)  # of the walls, from the camera
EXPOSED = 0.2  # mean light of a room
PLANK = 0.18
BAR = 0.05  # of a window

Point = tuple[float, float, float]
Box = tuple[Point, Point]  # the lower and the upper corner
Indices = NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class _Window:
    """An opening of the wall across `axis` (0: x, 2: z), from `low` to `high`, which agree there."""

    axis: int
    low: Point
    high: Point
    panes: tuple[int, int]

    def middle(self) -> Point:
        x, y, z = ((low + high) / 2 for low, high in zip(self.low, self.high, strict=True))
        return x, y, z

    def area(self) -> float:
        along = 2 - self.axis
        return (self.high[along] - self.low[along]) * (self.high[1] - self.low[1])

    def shows(self, points: Light, axes: Indices) -> NDArray[np.bool_]:
        """Return which of `points` (3, N), on planes across `axes`, lie in its panes and not on bars between them."""
        near = np.abs(points[self.axis] - np.float32(self.low[self.axis])) < np.float32(0.01)
        inside: NDArray[np.bool_] = (axes == self.axis) & near
        for axis, count in zip((2 - self.axis, 1), self.panes, strict=True):
            scale = count / (self.high[axis] - self.low[axis])
            share = (points[axis] - np.float32(self.low[axis])) * np.float32(scale)
            inside &= (share > 0) & (share < count) & (np.abs(share - np.rint(share)) > BAR * scale)
        return inside


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the rays meet: points (3, N), the axes of their planes, the boxes (-1: the room), their sides (-1 or 1)."""

    points: Light
    axes: Indices
    boxes: Indices
    sides: Light


def room(shape: tuple[int, int], seed: int, outside: Light) -> Light:
    """Return the room of `seed`, float32 (H, W, 3) linear light; through its windows `outside`, as large, is seen."""
    rng, grid = generator(seed, 1), coarse(shape, GRID)
    low = -uniform(rng, *SIDE), uniform(rng, *CEILING), -2.0
    high = uniform(rng, *SIDE), uniform(rng, *FLOOR), uniform(rng, *BACK)
    rays = _rays(grid, turn=uniform(rng, -0.6, 0.6), focal=uniform(rng, 0.6, 1.1))
    windows = [_window(rng, low, high) for _ in range(1 + int(uniform(rng, 0, 3)))]
    things = [_thing(rng, low, high) for _ in range(3 + int(uniform(rng, 0, 5)))]
    boxes = [box for thing in things for box in thing]
    seen = _meet(rays, (low, high), boxes)
    view = _paint(rng, seen, [len(thing) for thing in things]) * (_lit(seen, windows) * _beside(seen, boxes))
    view *= np.float32(EXPOSED) / view.mean()
    framed = np.any([window.shows(seen.points, seen.axes) for window in windows], axis=0) & (seen.boxes < 0)
    through = cv2.resize(framed.astype(np.float32).reshape(grid), shape[::-1], interpolation=cv2.INTER_LINEAR)
    inside = cv2.resize(cv2.merge([*view.reshape(3, *grid)]), shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(inside + (outside - inside) * through[..., None], dtype=np.float32)


def _rays(shape: tuple[int, int], *, turn: float, focal: float) -> Light:
    """Return the directions (3, H W) of all pixels of a camera turned to the right by `turn`, in radians."""
    down, across = (
        np.broadcast_to((((np.arange(side) + 0.5) - side / 2) / (focal * min(shape))).reshape(form), shape)
        for side, form in zip(shape, ((-1, 1), (1, -1)), strict=True)
    )
    cos, sin = math.cos(turn), math.sin(turn)
    rays = np.stack((across * cos + sin, down, cos - across * sin)).astype(np.float32).reshape(3, -1)
    return np.where(np.abs(rays) < 1e-6, np.float32(1e-6), rays)


def _window(rng: np.random.Generator, low: Point, high: Point) -> _Window:
    """Draw a window of the left, the right or the back wall."""
    axis = choice(rng, (0, 2), (2, 1))
    place = choice(rng, (low[0], high[0])) if axis == 0 else high[2]
    start, end = (0.6, high[2]) if axis == 0 else (low[0], high[0])
    width = uniform(rng, 0.2, 0.6) * (end - start)
    left = start + uniform(rng, 0, 1) * (end - start - width)
    top, sill = low[1] + uniform(rng, 0.2, 0.5), high[1] - uniform(rng, 0.0, 1.0)
    panes = (1 + int(uniform(rng, 0, 1.6 * width + 1)), 1 + int(uniform(rng, 0, 3)))
    if axis == 0:
        return _Window(axis, (place, top, left), (place, sill, left + width), panes)
    return _Window(axis, (left, top, place), (left + width, sill, place), panes)


def _thing(rng: np.random.Generator, low: Point, high: Point) -> tuple[Box, ...]:
    """Draw a table, a seat or a shelf on the floor: the boxes it is made of."""
    kind = choice(rng, (_table, _seat, _shelf), (3, 3, 2))
    width, depth = uniform(rng, 0.5, 1.6), uniform(rng, 0.4, 0.9)
    left, near = uniform(rng, low[0], high[0] - width), uniform(rng, 1.8, max(1.9, high[2] - depth))
    parts = kind(rng, width, depth)
    return tuple(
        ((left + lower[0], high[1] - upper[1], near + lower[2]), (left + upper[0], high[1] - lower[1], near + upper[2]))
        for lower, upper in parts
    )


def _table(rng: np.random.Generator, width: float, depth: float) -> tuple[Box, ...]:
    """Return a slab on two trestles; here and below y is the height above the floor."""
    top, foot = uniform(rng, 0.7, 0.78), 0.12 * width
    feet = ((at, 0.0, 0.1 * depth) for at in (foot, width - foot - 0.06))
    return (
        ((0.0, top - 0.04, 0.0), (width, top, depth)),
        *((lower, (lower[0] + 0.06, top - 0.04, 0.9 * depth)) for lower in feet),
    )


def _seat(rng: np.random.Generator, width: float, depth: float) -> tuple[Box, ...]:
    """Return a chair or a sofa: a cushion on feet and a back, turned to or from the camera."""
    seat, back = uniform(rng, 0.4, 0.46), uniform(rng, 0.75, 1.0)
    behind = depth - 0.12 if chance(rng, 0.5) else 0.0
    return (
        ((0.0, seat - uniform(rng, 0.06, 0.3), 0.0), (width, seat, depth)),
        ((0.0, seat, behind), (width, back, behind + 0.12)),
        ((0.05, 0.0, 0.05), (0.12, seat, depth - 0.05)),
        ((width - 0.12, 0.0, 0.05), (width - 0.05, seat, depth - 0.05)),
    )


def _shelf(rng: np.random.Generator, width: float, depth: float) -> tuple[Box, ...]:
    return (((0.0, 0.0, 0.0), (width, uniform(rng, 0.8, 2.0), min(depth, 0.45))),)


def _meet(rays: Light, walls: Box, boxes: list[Box]) -> _Seen:
    """Return what is nearest along each of `rays`: a wall from within, or a box."""
    steps = np.float32(1) / rays
    low, high = _ends(steps, walls)
    leaves = np.maximum(low, high)
    axes, reached = leaves.argmin(axis=0).astype(np.int8), leaves.min(axis=0)
    met = np.full(rays.shape[1], -1, np.int8)
    for number, box in enumerate(boxes):
        low, high = _ends(steps, box)
        enters = np.minimum(low, high)
        entry = enters.max(axis=0)
        meets = np.flatnonzero((entry > 0) & (entry < np.maximum(low, high).min(axis=0)) & (entry < reached))
        reached[meets], axes[meets], met[meets] = entry[meets], enters[:, meets].argmax(axis=0), number
    sides = -np.sign(np.choose(axes, [*rays]))  # what is seen faces the camera
    return _Seen(rays * reached, axes, met, sides)


def _ends(steps: Light, box: Box) -> tuple[Light, Light]:
    """Return how far along the rays the planes of the lower and of the upper corner are, (3, N)."""
    low, high = (steps * np.array(corner, np.float32)[:, None] for corner in box)
    return low, high


def _paint(rng: np.random.Generator, seen: _Seen, parts: list[int]) -> Light:
    """Return the share of light that each point sends back, (3, N). parts: how many boxes each thing is made of."""
    wall, ground, above = uniform(rng, 0.25, 0.75) * _tint(rng, 0.12), np.array((1.25, 1.0, 0.75)), np.full(3, 0.75)
    ground = ground * uniform(rng, 0.06, 0.35)
    things = [colour for count in parts for colour in [_stuff(rng)] * count]
    colours = np.stack([wall, ground, above, *things])
    surface = np.where(seen.axes == 1, np.where(seen.sides < 0, 1, 2), 0)
    paint = colours.T.astype(np.float32)[:, np.where(seen.boxes < 0, surface, seen.boxes + 3)]
    shades = np.array([uniform(rng, 0.8, 1.2) for _ in range(64)], np.float32)
    wood = np.flatnonzero((seen.boxes < 0) & (surface == 1))
    paint[:, wood] *= shades[np.floor(seen.points[0, wood] / np.float32(PLANK)).astype(np.int64) % 64]
    shelves = [sum(parts[:index]) for index, count in enumerate(parts) if count == 1]
    books = np.flatnonzero(np.isin(seen.boxes, shelves) & (seen.axes != 1))
    paint[:, books] *= _books(rng, seen.points[:, books], shades)
    return np.asarray(paint)


def _stuff(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the colour of furniture: wood, or cloth, leather and lacquer, seldom bright."""
    if chance(rng, 0.5):
        return log_uniform(rng, 0.04, 0.4) * np.array((1.35, 1.0, 0.65)) ** uniform(rng, 0.5, 1.3)
    return log_uniform(rng, 0.02, 0.6) * _tint(rng, 0.3 if chance(rng, 0.8) else 1.0)


def _books(rng: np.random.Generator, points: Light, shades: Light) -> Light:
    """Return what stands on shelves between boards, as shares of their paint, (3, N)."""
    height, along = points[1] / np.float32(uniform(rng, 0.28, 0.4)), (points[0] + points[2]) / np.float32(0.05)
    board, book = np.floor(height), np.floor(along)
    number = (board * 37 + book * 11).astype(np.int64)
    share = np.where(height - board < 0.08, np.float32(1.2), shades[number % 64] ** 4 * np.float32(0.7))
    hue = np.stack([shades[(number + shift) % 64] for shift in (5, 19, 41)])
    return np.asarray(share * np.where(height - board < 0.08, np.float32(1), hue))


def _tint(rng: np.random.Generator, strength: float) -> NDArray[np.float64]:
    return np.array([1 + strength * uniform(rng, -0.5, 0.5) for _ in range(3)])


def _lit(seen: _Seen, windows: list[_Window]) -> Light:
    """Return the light that reaches each point: by the cosines at both ends, over the square of the distance."""
    light = np.full(len(seen.axes), 0.02 * sum(window.area() for window in windows), np.float32)
    for window in windows:
        way = np.array(window.middle(), np.float32)[:, None] - seen.points
        square = (way * way).sum(axis=0) + np.float32(0.5)
        facing = np.maximum(np.choose(seen.axes, [*way]) * seen.sides, 0)
        light += np.float32(window.area()) * facing * np.abs(way[window.axis]) / (square * square)
    return light


def _beside(seen: _Seen, boxes: list[Box]) -> Light:
    """Return the share of light that is left on the floor beside the boxes."""
    share = np.ones(len(seen.axes), np.float32)
    floor = np.flatnonzero((seen.boxes < 0) & (seen.axes == 1) & (seen.sides < 0))
    x, z = seen.points[0, floor], seen.points[2, floor]
    left = np.ones(len(floor), np.float32)
    for low, high in boxes:
        right, deep = np.maximum(low[0] - x, x - high[0]), np.maximum(low[2] - z, z - high[2])
        away = np.hypot(np.maximum(right, 0), np.maximum(deep, 0))
        left *= 1 - np.float32(0.6) * np.exp(-4 * away)
    share[floor] = left
    return share
