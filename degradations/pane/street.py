"""A street as a pane of glass mirrors it: houses on both sides in perspective, cars before them, sky above.

Metres; x to the right, y down, z along the street, the camera in the origin. Each pixel's ray ends at the nearest of
ground, fronts, what closes the street, and cars. What is lit, shaded and far away differs; what is finer than a pixel
is its own mean, so that rows of windows that recede do not flicker.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from degradations.numerics.area import coarse
from degradations.numerics.random import bits, chance, generator, log_uniform, uniform
from degradations.pairs.contract import Light

GRID = 200  # pixels along the short side
EYE = 1.6  # height of the camera above the ground
STOREY, SHOP = 3.3, 4.0  # heights of the floors and of the lowest one
FAR, HAZE = 120.0, 180.0  # where the street ends, and the distance at which a third is left
_PANES = 4096  # windows told apart

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """The houses of one side: where each begins along the street, height, distance of windows, colour (3, houses)."""

    starts: Light
    heights: Light
    pitches: Light
    walls: Light
    lit: float


def street(shape: tuple[int, int], seed: int, sky: Light) -> Light:
    """Return the street of `seed`, float32 (H, W, 3) linear light; `sky`, as large, is seen above it."""
    rng, grid = generator(seed, 2), coarse(shape, GRID)
    rays, width = _rays(grid, turn=uniform(rng, -0.5, 0.5), focal=uniform(rng, 0.6, 1.0)), uniform(rng, 9, 22)
    left = width * uniform(rng, 0.25, 0.75)
    shaded = uniform(rng, 0.25, 0.6)
    sides = (shaded, 1.0) if chance(rng, 0.5) else (1.0, shaded)
    rows = [_row(rng, lit) for lit in sides]
    light, reached = _ground(rays, left, width)
    panes = bits((_PANES,), seed, stream=9).astype(np.int64)
    for row, place in zip(rows, (-left, width - left), strict=True):
        _add_houses(light, reached, rays, row, np.float32(place) / rays[0], 2, panes)
    _add_houses(light, reached, rays, _row(rng, 0.5 * sum(sides)), np.float32(FAR) / rays[2], 0, panes)
    for _ in range(int(uniform(rng, 2, 9))):
        _add_car(rng, light, reached, rays, left, width)
    there = np.isfinite(reached)
    light += (np.array([[0.5], [0.55], [0.6]], np.float32) - light) * (1 - np.exp(-np.where(there, reached, 0) / HAZE))
    solid = cv2.resize(there.astype(np.float32).reshape(grid), shape[::-1], interpolation=cv2.INTER_LINEAR)
    seen = cv2.resize(cv2.merge([*light.reshape(3, *grid)]), shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(sky + (seen - sky) * solid[..., None], dtype=np.float32)


def _rays(shape: tuple[int, int], *, turn: float, focal: float) -> Light:
    """Return the directions (3, H W) of all pixels; the camera is turned to the right by `turn` and a little up."""
    down, across = (
        np.broadcast_to((((np.arange(side) + 0.5) - side * middle) / (focal * min(shape))).reshape(form), shape)
        for side, middle, form in zip(shape, (0.62, 0.5), ((-1, 1), (1, -1)), strict=True)
    )
    cos, sin = math.cos(turn), math.sin(turn)
    rays = np.stack((across * cos + sin, down, cos - across * sin)).astype(np.float32).reshape(3, -1)
    return np.where(np.abs(rays) < 1e-6, np.float32(1e-6), rays)


def _row(rng: np.random.Generator, lit: float) -> _Row:
    count = 14
    starts = np.cumsum([-10.0, *(log_uniform(rng, 7, 24) for _ in range(count - 1))])
    common = uniform(rng, 8, 20)  # one street is about as high all along
    heights = [common * uniform(rng, 0.7, 1.3) for _ in range(count)]
    heights = [0.0 if chance(rng, 0.04) else height for height in heights]
    walls = [uniform(rng, 0.12, 0.45) * np.array(_stone(rng)) for _ in range(count)]
    pitches = [uniform(rng, 2.0, 3.6) for _ in range(count)]
    return _Row(
        starts=starts.astype(np.float32),
        heights=np.array(heights, np.float32),
        pitches=np.array(pitches, np.float32),
        walls=np.array(walls, np.float32).T,
        lit=lit,
    )


def _stone(rng: np.random.Generator) -> tuple[float, float, float]:
    """Draw the colour of plaster, brick or stone: from warm to grey."""
    warmth, green = uniform(rng, -0.03, 0.3), uniform(rng, -0.04, 0.04)
    return 1 + warmth, 1 + green, 1 - warmth


def _ground(rays: Light, left: float, width: float) -> tuple[Light, Light]:
    """Return the light (3, N) of the ground and how far along the rays it is: infinitely above the horizon."""
    reached = np.where(rays[1] > 0, EYE / np.maximum(rays[1], 1e-6), np.inf).astype(np.float32)
    near = np.where(np.isfinite(reached), reached, 0)
    x, z = rays[0] * near, rays[2] * near
    across = (x + np.float32(left)) / np.float32(width)  # 0 to 1 between the fronts
    beside = np.abs(across - 0.5) > 0.32
    dashed = (np.abs(across - 0.5) < 0.01) & (np.mod(z, 9) < 4)
    share = np.where(beside, np.float32(0.22), np.where(dashed, np.float32(0.5), np.float32(0.11)))
    return share * np.array([[1.0], [1.0], [0.97]], np.float32), reached


def _add_houses(light: Light, reached: Light, rays: Light, row: _Row, away: Light, axis: int, panes: Numbers) -> None:
    """Write the houses of `row`, which go along `axis`, where the rays meet their plane after `away`."""
    along = rays[axis] * away + (np.float32(FAR / 2) if axis == 0 else np.float32(0))
    house = np.clip(np.searchsorted(row.starts, along) - 1, 0, len(row.starts) - 1)
    up = EYE - rays[1] * away
    seen = np.flatnonzero((away > 0.3) & (away < reached) & (up > 0) & (up < row.heights[house]) & (along < 2 * FAR))
    along, up, house, away = along[seen], up[seen], house[seen], away[seen]
    wall = row.walls[:, house] * np.float32(row.lit) * (0.55 + 0.45 * np.clip(up / 12, 0, 1))
    finest = row.pitches[house] / np.maximum(_footprint(rays[:, seen], away, axis), 1e-3)
    light[:, seen] = wall * _windows(row, house, along, up, finest, panes)
    reached[seen] = away


def _footprint(rays: Light, away: Light, axis: int) -> Light:
    """Return how far a pixel reaches along a front, in metres: the longer, the more it is seen from the side."""
    across = np.abs(rays[2 - axis])
    return np.asarray(away * np.float32(1.2 / GRID) * (1 + np.abs(rays[axis]) / across))


def _windows(row: _Row, house: Numbers, along: Light, up: Light, finest: Light, panes: Numbers) -> Light:
    """Return the light of a front as a share of its wall's, (1, N): rows of windows, shops, ledges, a cornice."""
    place = (along - row.starts[house]) / row.pitches[house]
    floors = np.maximum(up - SHOP, 0) / STOREY
    column, floor = np.floor(place).astype(np.int64), np.floor(floors).astype(np.int64)
    across, high = place - column, floors - floor
    shop = up < SHOP
    glass = np.where(shop, (up > 0.5) & (up < 3.1) & (across > 0.08), (np.abs(across - 0.5) < 0.22) & (high > 0.25))
    glass &= high < 0.8
    kind = panes[(column * 31 + floor * 131 + house * 17) % _PANES] % 64
    pane = np.where(kind == 0, np.float32(3.5), 0.15 + kind.astype(np.float32) / 90)  # lit, or with what it mirrors
    ledge = np.where((high < 0.06) & ~shop | (row.heights[house] - up < 0.5), np.float32(1.25), np.float32(1))
    share = np.where(glass, pane, ledge)
    mean = np.where(shop, np.float32(0.6), np.float32(0.8))
    return np.asarray(mean + (share - mean) * np.clip(finest / 2 - 0.5, 0, 1), dtype=np.float32)[None]


def _add_car(rng: np.random.Generator, light: Light, reached: Light, rays: Light, left: float, width: float) -> None:
    """Write a car to `light` and `reached`: a body and, on it, a cabin of glass below a roof that mirrors the sky."""
    side = 0.24 if chance(rng, 0.5) else 0.76
    x, z = side * width - left, log_uniform(rng, 5, 60)
    paint = log_uniform(rng, 0.02, 0.6) * np.array(_stone(rng), np.float32)[:, None]
    for low, high, glass in (((-0.9, 0.15, 0.0), (0.9, 0.9, 4.3), False), ((-0.75, 0.9, 1.1), (0.75, 1.45, 3.6), True)):
        lower = np.array((x + low[0], EYE - high[1], z + low[2]), np.float32)[:, None]
        upper = np.array((x + high[0], EYE - low[1], z + high[2]), np.float32)[:, None]
        first, last = lower / rays, upper / rays
        enters = np.minimum(first, last)
        entry = enters.max(axis=0)
        met = np.flatnonzero((entry > 0) & (entry < np.maximum(first, last).min(axis=0)) & (entry < reached))
        axis = enters[:, met].argmax(axis=0)
        body = np.float32(0.05) if glass else paint
        light[:, met] = np.where(
            axis == 1,
            np.float32(0.3) + paint * np.float32(0.6),
            body * np.where(axis == 2, np.float32(1), np.float32(0.6)),
        )
        reached[met] = entry[met]
