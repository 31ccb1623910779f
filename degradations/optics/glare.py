"""The light that a lens throws where none belongs: glare, star, halo, ghosts, anamorphic streak and veil of a source.

All of it is smooth but the lamp itself, so it is made on a grid of GRID pixels along the short side and enlarged.
Glare, star and halo are one texture over angle and log radius, shared by all sources.
"""

import math
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from degradations.numerics.area import coarse
from degradations.numerics.fields import lattice
from degradations.optics.aperture import ANGLES, FAR, NEAR, RADII, STEP, WAVELENGTHS, Aperture, lobes, outline, star
from degradations.pairs.contract import Light

if TYPE_CHECKING:
    from degradations.flare import Flare

GRID = 256
_SMOOTH = 64  # pixels along the short side of what is far out of focus
_MOST_SHIFT = 3  # samples of log radius between green and another colour, at most
_ABERRATION = np.array([0.97, 1.0, 1.03], dtype=np.float32)  # size of a ghost by channel
_RADII = (NEAR * np.exp(np.arange(RADII) * STEP)).astype(np.float32)


class Source(NamedTuple):
    """Where a source is, in shares of the height and width (outside [0, 1] when off the frame), and its light."""

    row: float
    column: float
    red: float
    green: float
    blue: float


class Ghost(NamedTuple):
    """An image of the aperture.

    along: on the line from the optical centre (0) through the source's mirror image (1). radius: share of the short
    side. light: at gain 1. hollow: -1 soft blob, 0 flat, 1 rim only.
    """

    along: float
    radius: float
    light: float
    red: float
    green: float
    blue: float
    hollow: float


def stray_light(params: "Flare", shape: tuple[int, int], visible: tuple[float, ...], *, short: int = GRID) -> Light:
    """Return the stray light at gain 1 of a picture of `shape` (H, W), float32 (h, w, 3) on a grid of `short` pixels.

    params: a Flare. visible: share of each source that nothing hides.
    """
    grid = coarse(shape, short)
    texture = rays(params)
    field = np.full((*grid, 3), 0, np.float32)
    for values, share in zip(params.sources, visible, strict=True):
        source = Source(*values)
        colour = np.array([source.red, source.green, source.blue], np.float32) * np.float32(share)
        down, across = _offsets(grid, shape, source)
        glow = _look_up(texture, down, across, params)
        _add_ghosts(glow, params, shape, source)
        if params.anamorphic > 0:
            glow += _anamorphic(params, down, across)
        field += (glow + np.float32(params.veil)) * colour
    return field * _grease(params, grid)[..., None] if params.grease > 0 else field


def rays(params: "Flare") -> Light:
    """Return glare, star and halo over angle and log radius, float32 (ANGLES + 1, RADII, 3); the last row is the first.

    The glare r^-a e^-dr and its shimmer are neutral, so that far glare has the colour of its source. Only glare, which
    dirt and coatings scatter, lies more to one side than to the other.
    """
    aperture = aperture_of(params)
    contrast = star(aperture)
    glare = (_RADII + np.float32(params.core)) ** np.float32(-params.falloff) * np.exp(
        np.float32(-params.decay) * _RADII
    )
    rough = np.float32(params.shimmer) * glare
    neutral = np.minimum(contrast * lobes(aperture)[:, None], 4) * rough + (glare - rough)
    peaks = _peaks(params, contrast)
    texture = np.empty((ANGLES + 1, RADII, 3), np.float32)
    for channel, wavelength in enumerate(WAVELENGTHS):
        shift = round(math.log(wavelength / WAVELENGTHS[1]) / STEP)
        moved = peaks[:, _MOST_SHIFT - shift : _MOST_SHIFT - shift + RADII]
        rows = neutral + moved * _fall(params, wavelength) + _halo(params, wavelength)
        texture[:-1, :, channel] = rows
    texture[-1] = texture[0]
    return texture


def aperture_of(params: "Flare") -> Aperture:
    """Return the aperture that a Flare describes."""
    return Aperture(
        blades=params.blades,
        roundness=params.roundness,
        rotation=params.rotation,
        dust=params.dust,
        scratches=params.scratches,
        smear=params.smear,
        seed=params.aperture_seed,
    )


def _peaks(params: "Flare", contrast: Light) -> Light:
    """Return the streaks of the star, what stands out of the glare, with _MOST_SHIFT more radii at both ends."""
    peaks = np.maximum(contrast - np.float32(1.5), 0)
    peaks *= np.minimum(np.sqrt(peaks), 3)
    peaks *= np.float32(0.2 * params.streaks)
    return np.asarray(cv2.copyMakeBorder(peaks, 0, 0, _MOST_SHIFT, _MOST_SHIFT, cv2.BORDER_REPLICATE))


def _fall(params: "Flare", wavelength: float) -> Light:
    """Return how streaks of `wavelength` fade with the radius: their length is proportional to it."""
    length = np.float32(params.streak_length * wavelength / WAVELENGTHS[1])
    return np.asarray(np.exp(-_RADII / length) * (_RADII + np.float32(params.core)) ** np.float32(-0.8))


def _halo(params: "Flare", wavelength: float) -> Light:
    """Return the ring around the source over the radius; diffracted red lies outside."""
    ring, width = np.float32(params.halo_radius * wavelength / WAVELENGTHS[1]), np.float32(0.1 * params.halo_radius)
    return np.asarray(np.float32(params.halo) * np.exp(-(((_RADII - ring) / width) ** 2)), dtype=np.float32)


def _offsets(grid: tuple[int, int], shape: tuple[int, int], source: Source) -> tuple[Light, Light]:
    """Return how far below and right of `source` each pixel of `grid` lies, in short sides: (h, 1) and (1, w)."""
    height, width = (side / min(shape) for side in shape)
    rows = (np.arange(grid[0], dtype=np.float32) + 0.5) / grid[0] - np.float32(source.row)
    columns = (np.arange(grid[1], dtype=np.float32) + 0.5) / grid[1] - np.float32(source.column)
    down, across = rows[:, None] * np.float32(height), columns[None, :] * np.float32(width)
    return down.astype(np.float32), across.astype(np.float32)


def _look_up(texture: Light, down: Light, across: Light, params: "Flare") -> Light:
    shape = (down.shape[0], across.shape[1])
    rows = np.broadcast_to(-down if params.flip_rows else down, shape).astype(np.float32)
    columns = np.broadcast_to(-across if params.flip_columns else across, shape).astype(np.float32)
    distance, angle = cv2.cartToPolar(columns, rows)
    radius = cv2.log(np.clip(distance, NEAR, FAR))
    radius = (radius - np.float32(math.log(NEAR))) * np.float32(1 / STEP)
    angle *= np.float32(ANGLES / (2 * math.pi))
    return np.asarray(cv2.remap(texture, radius, angle, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def _grease(params: "Flare", grid: tuple[int, int]) -> Light:
    """Return how unevenly a film on the front lens, far out of focus, scatters: float32 (h, w), about 1."""
    small = coarse(grid, _SMOOTH)
    film = lattice(small, params.grease_seed, cell=480) + np.float32(0.6) * lattice(
        small, params.grease_seed, cell=240, stream=1
    )
    film = cv2.resize(film, grid[::-1], interpolation=cv2.INTER_LINEAR).reshape(grid)
    film = film[:: -1 if params.flip_rows else 1, :: -1 if params.flip_columns else 1]
    return np.asarray(np.exp(np.float32(params.grease) * film), dtype=np.float32)


def _anamorphic(params: "Flare", down: Light, across: Light) -> Light:
    line = np.exp(-((down / np.float32(0.006)) ** 2)) * np.exp(-np.abs(across) / np.float32(params.anamorphic_length))
    tint = np.array([0.35, 0.6, 1.0], np.float32)  # the blue of cylindrical coatings
    return np.asarray(np.float32(params.anamorphic) * line[..., None] * tint, dtype=np.float32)


def _add_ghosts(glow: Light, params: "Flare", shape: tuple[int, int], source: Source) -> None:
    for values in params.ghosts:
        ghost = Ghost(*values)
        place = Source(0.5 - ghost.along * (source.row - 0.5), 0.5 - ghost.along * (source.column - 0.5), 1, 1, 1)
        _add_ghost(glow, params, shape, place, ghost)


def _add_ghost(glow: Light, params: "Flare", shape: tuple[int, int], place: Source, ghost: Ghost) -> None:
    grid = (glow.shape[0], glow.shape[1])
    scale = min(grid)
    reach = ghost.radius * 1.05 + 2 / scale
    top, bottom = _span(place.row, reach * min(shape) / shape[0], grid[0])
    left, right = _span(place.column, reach * min(shape) / shape[1], grid[1])
    if top >= bottom or left >= right:
        return
    down, across = _offsets(grid, shape, place)
    down, across = down[top:bottom], across[:, left:right]
    down, across = (-down if params.flip_rows else down), (-across if params.flip_columns else across)
    distance = np.sqrt(down * down + across * across)
    ratio = distance / (np.float32(ghost.radius) * outline(aperture_of(params), np.arctan2(down, across)))
    ratios = ratio[..., None] / _ABERRATION
    inside = np.clip((1 - ratios) * np.float32(ghost.radius * scale / 2) + 0.5, 0, 1)
    body = np.exp(-3 * ratios**2) if ghost.hollow < 0 else 1 - ghost.hollow * (1 - ratios**4)
    colour = np.array([ghost.red, ghost.green, ghost.blue], np.float32) * np.float32(ghost.light)
    glow[top:bottom, left:right] += inside * body * colour


def _span(middle: float, reach: float, size: int) -> tuple[int, int]:
    return max(0, math.floor((middle - reach) * size)), min(size, math.ceil((middle + reach) * size))
