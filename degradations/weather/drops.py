"""Drops on the glass in front of the camera: each is a lens that shows the whole scene upside down.

A drop is a cap with an uneven outline, whose surface turns the ray the farther from its middle the more: it images
wide angles, minified and inverted, darkens to the rim (total reflection), and is itself out of focus. Where so much
water runs down that it stands between the drops, its film spreads light: a veil of what is around, uneven in runs.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from degradations.numerics.area import coarse
from degradations.numerics.fields import lattice
from degradations.numerics.random import gaussian_field, uniform_field
from degradations.numerics.strips import Work, enlarged, whole
from degradations.pairs.contract import Light
from degradations.pairs.severity import pixels
from degradations.weather.strokes import count, frames
from degradations.weather.trails import with_trails

Index = NDArray[np.int64]

SOURCE_SIDE = 160  # the scene as a drop sees it: so minified that more pixels would only alias
FILM_SIDE = 64  # short side of the copy on which the film, which is smooth, is made
ROW = 16384  # cv2.remap takes sides below 2^15


@dataclass(frozen=True, slots=True, kw_only=True)
class Glass:
    """What lies on the glass.

    count: per square of the shorter side. radius: median, in pixels at 1024. spread: standard deviation of the radii's
    logarithm. view: what one drop shows, in shorter sides. defocus: in pixels at 1024. film: mean share of the light
    that the water between the drops spreads, 0 to 1. seed: of shapes and places.
    """

    count: float
    radius: float
    spread: float
    view: float
    defocus: float
    film: float
    seed: int


def refract(light: Light, glass: Glass) -> Light:
    """Return `light` seen through the drops, a new array; between them nothing but a film changes it."""
    return whole(refracting(light, glass), light)


def refracting(light: Light, glass: Glass) -> Work:
    """Return the work that lets `light` be seen through the drops (see `refract`)."""
    height, width = light.shape[:2]
    blur = max(0.6, pixels(glass.defocus, light.shape))
    factor = 1 if min(height, width) < 256 else 4 if blur > 6 else 2
    canvas = max(1, -(-height // factor)), max(1, -(-width // factor))
    layer = cv2.GaussianBlur(
        _render(light, canvas, glass), (0, 0), max(0.3, blur / factor), borderType=cv2.BORDER_REPLICATE
    )
    if glass.film > 0:
        layer += _film(light, canvas, glass) * (1 - layer[..., 3:])

    def through_drops(light: Light, rows: slice, out: Light) -> None:
        drops = enlarged(layer, rows, (height, width))
        clear = cv2.cvtColor(np.float32(1) - cv2.extractChannel(drops, 3), cv2.COLOR_GRAY2RGB)
        cv2.multiply(light, clear, dst=out)
        cv2.add(out, cv2.cvtColor(drops, cv2.COLOR_RGBA2RGB), dst=out)

    return through_drops


def _render(light: Light, canvas: tuple[int, int], glass: Glass) -> Light:
    """Return the drops' light times their cover, and the cover, float32 (h, w, 4), at the canvas's size."""
    layer = np.zeros((*canvas, 4), np.float32)
    centres, radii, shapes = _outlines(light.shape[:2], canvas, glass)
    which, rows, columns = _footprints(centres, radii, canvas)
    if len(which) == 0:
        return layer
    down = (rows - centres[which, 0]).astype(np.float32)
    across = (columns - centres[which, 1]).astype(np.float32)
    down *= np.float32(0.9)  # a little taller than wide
    bearing = np.arctan2(down, across)
    stretch, turn = shapes[which, :2], shapes[which, 2:]
    outline = 1 + np.float32(0.22) * stretch[:, 0] * np.cos(2 * (bearing + turn[:, 0]))
    outline += np.float32(0.12) * stretch[:, 1] * np.cos(3 * (bearing + turn[:, 1]))
    from_middle = np.sqrt(down * down + across * across) / (radii[which] * outline)
    edge = np.clip((1 - from_middle) * radii[which] + np.float32(0.5), 0, 1)
    inside = np.flatnonzero(edge > 0)
    which, rows, columns, edge = which[inside], rows[inside], columns[inside], edge[inside]
    from_middle = np.minimum(from_middle[inside], 1)
    off = np.stack((down[inside], across[inside]), axis=1) / radii[which, None]
    places: Light = np.asarray(centres / np.array(canvas, dtype=np.float32), dtype=np.float32)[which]
    seen = _seen(light, places, np.asarray(off, dtype=np.float32), from_middle, glass.view)
    upper = np.clip(-off[:, 0], -0.6, 1)  # the upper rim sees the ground, the lower one the sky
    shade = (1 - np.float32(0.45) * from_middle**6) * (1 - np.float32(0.35) * upper * from_middle**2)
    layer[rows, columns] = np.column_stack((seen * (shade * edge)[:, None], edge))
    return layer


def _film(light: Light, canvas: tuple[int, int], glass: Glass) -> Light:
    """Return the light that the film spreads, and its share, float32 (h, w, 4), at the canvas's size."""
    grid = coarse(canvas, FILM_SIDE)
    runs = lattice(grid, glass.seed, cell=340, stream=6, narrow=4)  # four times taller than wide
    share = np.clip(np.float32(glass.film) * (1 + np.float32(0.5) * runs), 0, 0.9)
    around = cv2.resize(light, grid[::-1], interpolation=cv2.INTER_AREA).reshape(*grid, 3)
    around = cv2.GaussianBlur(around, (0, 0), FILM_SIDE / 4, borderType=cv2.BORDER_REPLICATE).reshape(*grid, 3)
    film = np.dstack((around * share[..., None], share))
    return np.asarray(cv2.resize(film, canvas[::-1], interpolation=cv2.INTER_LINEAR).reshape(*canvas, 4))


def _outlines(shape: tuple[int, ...], canvas: tuple[int, int], glass: Glass) -> tuple[Light, Light, Light]:
    """Return centres (N, 2), radii (N,) in pixels of the canvas, and shapes (N, 4), small drops first."""
    num_drops = count(glass.count * frames((shape[0], shape[1])), float(gaussian_field((1,), glass.seed)[0]))
    chances = uniform_field((num_drops, 6), glass.seed, stream=1)
    sizes = np.exp(glass.spread * gaussian_field((num_drops,), glass.seed, stream=2))
    radii = (pixels(glass.radius, canvas) * np.clip(sizes, 0.2, 5)).astype(np.float32)
    order = np.argsort(radii, kind="stable")
    shapes = chances[:, 2:] * np.array([1, 1, 2 * np.pi, 2 * np.pi], dtype=np.float32)
    centres = (chances[:, :2] * np.array(canvas, dtype=np.float32))[order]
    return with_trails(centres, radii[order], shapes[order], seed=glass.seed)


def _footprints(centres: Light, radii: Light, canvas: tuple[int, int]) -> tuple[Index, Index, Index]:
    """Return, for every pixel of every drop's square, the drop, the row and the column, as flat arrays."""
    sides = 2 * np.ceil(radii * 1.3).astype(np.int64) + 1
    which = np.repeat(np.arange(len(radii)), sides**2)
    place = np.arange(len(which)) - np.repeat(np.cumsum(sides**2) - sides**2, sides**2)
    side = sides[which]
    corner = np.rint(centres).astype(np.int64) - sides[:, None] // 2
    rows, columns = corner[which, 0] + place // side, corner[which, 1] + place % side
    inside = (rows >= 0) & (rows < canvas[0]) & (columns >= 0) & (columns < canvas[1])
    return which[inside], rows[inside], columns[inside]


def _seen(light: Light, centres: Light, off: Light, from_middle: Light, view: float) -> Light:
    """Return the light, float32 (N, 3), that reaches the camera through points `off` the middle of their drops."""
    if len(centres) == 0:
        return np.zeros((0, 3), np.float32)
    height, width = light.shape[:2]
    factor = max(1.0, min(height, width) / SOURCE_SIDE)
    size = max(1, round(width / factor)), max(1, round(height / factor))
    small = cv2.resize(light, size, interpolation=cv2.INTER_AREA)
    bend = np.float32(0.6 * view * min(size)) * (1 + from_middle[:, None] ** 2)  # wider towards the rim
    middle = (0.5 + np.float32(0.6) * (centres - 0.5)) * np.array(size[::-1], dtype=np.float32)
    points = (middle - off * bend).astype(np.float32)
    length = len(points)
    padded = np.zeros((-(-length // ROW) * ROW, 2), np.float32)
    padded[:length] = points
    maps = padded.reshape(-1, ROW, 2)
    seen = cv2.remap(
        small,
        np.ascontiguousarray(maps[..., 1]),
        np.ascontiguousarray(maps[..., 0]),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
    return np.asarray(seen).reshape(-1, 3)[:length]
