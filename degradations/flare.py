"""Flare: a bright source scatters in the lens and lays glare, a star, ghosts and a veil over the picture.

    I = L + gain * F,    F = sum over sources of colour * (glare + star + halo + ghosts + streak + veil)

in linear light, before the exposure clips. The glare falls as r^-a e^-dr from the source; the star is the diffraction
of a drawn aperture with dust and scratches (`aperture`); ghosts are images of the aperture on the line through source
and optical centre, a few per cent larger in blue than in red. The source is a highlight of the photograph, a lamp
put into it (then it stands in the clean image too, as in Flare7K++, arXiv 2306.04236), or off the frame. A pattern of
the user's folder is added as Flare7K does (arXiv 2210.06570, section 4): gamma-decoded and linear, with random flips.

Ours: severity sets one number, the gain, from the area it touches: at the borders of the levels 2, 10, 20, 50, 80 and
97 % of the pixels change by more than 2 % of the range. The rest of the lens does not depend on severity, so more
severe is brighter everywhere.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np

from degradations.numerics.area import brightening, proxy, reduced
from degradations.numerics.light import decode, linear, luminance
from degradations.numerics.random import chance, choice, integer, log_uniform, seed, uniform
from degradations.numerics.strips import ByRows, Work, enlarged, whole
from degradations.optics.glare import GRID, Ghost, Source, stray_light
from degradations.pairs.contract import Degradation, Frame, Light, Options, Part, Share, Stage
from degradations.pairs.severity import path, pixels
from storage.records import Image, Scene

AREA = (0.02, 0.10, 0.20, 0.50, 0.80, 0.97)  # share of visibly changed pixels at the borders of the levels
FLOOR = (0.0, 0.0, 0.0, 0.0, 0.0, 0.08)  # median of the added light: extreme flare is strong in the dark, too
CAP = (0.03, 0.08, 0.12, 0.2, 0.3, 0.4)  # mean of the added light, where a white picture cannot change
_PLACES, _CELLS = 12, 32  # drawn for an inserted lamp, of which it takes one; a side of the copy they are judged on
_NIGHT, _LIT = 0.05, 0.15  # mean luminance below which it is night, and that of a place where then a lamp can be
Kind = Literal["highlight", "inserted", "off_frame", "pattern"]
_KINDS: tuple[Kind, ...] = ("highlight", "inserted", "off_frame")
_SUN, _AT_NIGHT = (0, 1.5, 2.5, 3, 0, 0), (2.5, 2.5, 2, 1.5, 1, 1)  # how often by day and at night
_LAMPS = ((1.0, 0.58, 0.25), (1.0, 0.74, 0.5), (1.0, 0.9, 0.78), (1.0, 0.97, 0.93), (0.82, 0.9, 1.0), (1.0, 0.66, 0.12))
"""Linear light of bulbs of 2000, 2800 and 4000 K, of the sun, an LED of 7500 K and sodium."""


class FlareOptions(Options, frozen=True):
    """patterns: folder of flare images, mixed in when given. pattern_share: how often one that is there is used."""

    patterns: str | None = None
    pattern_share: Share = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Flare:
    """A lens, a source of light and how bright it is.

    gain: of the stray light, 0 none. source: where it comes from; sources: (row, column, red, green, blue) each,
    position in shares of height and width. lamp_radius (px at 1024) and lamp_light (1 is white): of an inserted lamp,
    which fades to half at 0.9 radii.

    blades 5 to 11, roundness 0 to 1, rotation (radians), dust, scratches (counts), smear 0 to 1, aperture_seed: the
    aperture. core (short sides), falloff, decay: the glare (r + core)^-falloff e^(-decay r), r in short sides; shimmer
    0 to 1: how much its rays differ. streaks, streak_length (short sides): the star. halo, halo_radius (short sides).
    ghosts: (along, radius, light, red, green, blue, hollow) each, see `glare.Ghost`. anamorphic, anamorphic_length
    (short sides): the horizontal line. veil: uniform light. All strengths at gain 1. grease, grease_seed: log
    unevenness of the whole, from a film on the front lens.

    flip_rows, flip_columns: the lens, or the pattern, mirrored. pattern_gamma 1.8 to 2.2, 0 when no pattern is used.
    """

    gain: float
    source: Kind
    sources: tuple[tuple[float, ...], ...]
    lamp_radius: float
    lamp_light: float
    blades: int
    roundness: float
    rotation: float
    dust: int
    scratches: int
    smear: float
    aperture_seed: int
    core: float
    falloff: float
    decay: float
    shimmer: float
    streaks: float
    streak_length: float
    halo: float
    halo_radius: float
    ghosts: tuple[tuple[float, ...], ...]
    anamorphic: float
    anamorphic_length: float
    veil: float
    grease: float
    grease_seed: int
    flip_rows: bool
    flip_columns: bool
    pattern_gamma: float


def sample(rng: np.random.Generator, severity: float, scene: Scene, options: FlareOptions) -> Flare:
    """Draw a lens and a source, and find the gain at which they touch the area that `severity` asks for."""
    flare = _draw(rng, scene, options)
    return replace(flare, gain=_gain(flare, severity, scene))


def _apply(frame: Frame, params: Flare, scene: Scene) -> Frame | Work:
    """Add the stray light to `frame`; an inserted lamp is added to both sides."""
    shape = (scene.image.shape[0], scene.image.shape[1])
    field = _field(params, scene, shape, GRID) * np.float32(params.gain)

    def add_stray_light(light: Light, rows: slice, out: Light) -> None:
        cv2.add(light, enlarged(field, rows, shape).reshape(light.shape), dst=out)

    if params.source != "inserted":
        return add_stray_light
    degraded, clean = whole(add_stray_light, linear(frame.degraded)), linear(frame.clean).copy()
    for light in (clean, degraded):
        _add_lamp(light, params, scene)
    return Frame(degraded=degraded, clean=clean)


apply = ByRows(_apply, idle=lambda params: params.gain == 0, looks="both")


def _field(params: Flare, scene: Scene, shape: tuple[int, int], short: int) -> Light:
    if params.source == "pattern":
        return _pattern(params, scene, shape, short)
    return stray_light(params, shape, (_visible(params, scene),) * len(params.sources), short=short)


# The lamp.


def _lamp(params: Flare, shape: tuple[int, int]) -> tuple[slice, slice, Light]:
    """Return the rows and columns that the lamp covers and its coverage, float32 in [0, 1]."""
    source, radius = Source(*params.sources[0]), max(0.5, pixels(params.lamp_radius, shape))
    reach = 2 * radius + 1
    middle = (source.row * shape[0] - 0.5, source.column * shape[1] - 0.5)
    spans = [slice(max(0, int(at - reach)), max(0, int(at + reach) + 2)) for at in middle]
    rows, columns = (np.arange(size, dtype=np.float32)[span] for size, span in zip(shape, spans, strict=True))
    distance = np.hypot(rows[:, None] - np.float32(middle[0]), columns[None, :] - np.float32(middle[1]))
    ratio = distance * np.float32(0.5 / radius)
    return spans[0], spans[1], np.maximum(1 - ratio * ratio, 0) ** 3


def _unhidden(params: Flare, scene: Scene, rows: slice, columns: slice) -> Light:
    """Return 1 where the lamp can be seen: on the segment that holds its centre, the others stand in front."""
    assert scene.segments is not None  # asked only when they are there
    source, shape = Source(*params.sources[0]), scene.segments.shape
    row, column = (min(size - 1, max(0, int(at * size))) for at, size in zip(source[:2], shape, strict=True))
    return np.asarray(scene.segments[rows, columns] == scene.segments[row, column], dtype=np.float32)


def _visible(params: Flare, scene: Scene) -> float:
    if params.source != "inserted" or scene.segments is None:
        return 1.0
    rows, columns, cover = _lamp(params, (scene.segments.shape[0], scene.segments.shape[1]))
    return float((cover * _unhidden(params, scene, rows, columns)).sum() / max(float(cover.sum()), 1e-6))


def _add_lamp(light: Light, params: Flare, scene: Scene) -> None:
    rows, columns, cover = _lamp(params, (light.shape[0], light.shape[1]))
    if scene.segments is not None:
        cover = cover * _unhidden(params, scene, rows, columns)
    colour = np.array(params.sources[0][2:], np.float32)
    light[rows, columns] += (cover * np.float32(params.lamp_light))[..., None] * colour


# The user's pattern.


def _pattern(params: Flare, scene: Scene, shape: tuple[int, int], short: int) -> Light:
    pattern = reduced(scene.overlays["flare"], _covering(scene.overlays["flare"].shape, shape, short))
    pattern = pattern[:: -1 if params.flip_rows else 1, :: -1 if params.flip_columns else 1]
    height, width = _covering(shape, shape, short)
    top, left = (pattern.shape[0] - height) // 2, (pattern.shape[1] - width) // 2
    window = pattern[top : top + height, left : left + width]
    return np.asarray((window / np.float32(255)) ** np.float32(params.pattern_gamma), dtype=np.float32)


def _covering(picture: tuple[int, ...], shape: tuple[int, int], short: int) -> tuple[int, int]:
    """Return the size at which `picture`, its aspect kept, covers a copy of `shape` with `short` pixels a side."""
    shrink = min(1.0, short / min(shape))
    height, width = (max(1, round(side * shrink)) for side in shape)
    scale = max(height / picture[0], width / picture[1])
    return max(height, round(picture[0] * scale)), max(width, round(picture[1] * scale))


# Drawing.


def _draw(rng: np.random.Generator, scene: Scene, options: FlareOptions) -> Flare:
    pattern = chance(rng, options.pattern_share) and "flare" in scene.overlays
    found = _highlights(scene.image)
    light = luminance(decode(reduced(scene.image, (_CELLS, _CELLS)))).reshape(_CELLS, _CELLS)
    at_night = bool(light.mean() < _NIGHT)
    place, stands = _place(rng, light, at_night=at_night)
    kind = choice(rng, _KINDS, (0.5 if found else 0.0, 0.6 if stands else 0.0, 0.15))  # most flares show their source
    odds = _AT_NIGHT if at_night else _SUN
    inserted = (*place, *_colour(rng, odds))
    outside = (*_outside(rng), *_colour(rng, odds))
    sources = {"highlight": found, "inserted": (inserted,), "off_frame": (outside,), "pattern": ()}[kind]
    return Flare(
        gain=0.0,
        source="pattern" if pattern else kind,
        sources=sources,
        lamp_radius=log_uniform(rng, 3, 12),
        lamp_light=log_uniform(rng, 2, 8),
        blades=integer(rng, 5, 11),
        roundness=uniform(rng, 0, 0.8),
        rotation=uniform(rng, 0, 6.283),
        dust=integer(rng, 4, 40),
        scratches=integer(rng, 0, 10),
        smear=uniform(rng, 0.3, 1) if chance(rng, 0.25) else 0.0,
        aperture_seed=seed(rng),
        core=log_uniform(rng, 0.003, 0.015),
        falloff=uniform(rng, 0.9, 1.6),
        decay=uniform(rng, 1.2, 3.5),
        shimmer=uniform(rng, 0.3, 0.9),
        streaks=log_uniform(rng, 0.1, 3) if chance(rng, 0.85) else 0.0,
        streak_length=log_uniform(rng, 0.08, 0.6),
        halo=log_uniform(rng, 0.5, 3) if chance(rng, 0.3) else 0.0,
        halo_radius=log_uniform(rng, 0.06, 0.4),
        ghosts=_ghosts(rng) if chance(rng, 0.7) else (),
        anamorphic=log_uniform(rng, 5, 30) if chance(rng, 0.1) else 0.0,
        anamorphic_length=log_uniform(rng, 0.15, 0.8),
        veil=log_uniform(rng, 0.12, 1),
        grease=uniform(rng, 0.3, 0.65),
        grease_seed=seed(rng),
        flip_rows=chance(rng, 0.5),
        flip_columns=chance(rng, 0.5),
        pattern_gamma=uniform(rng, 1.8, 2.2) if pattern else 0.0,
    )


def _place(rng: np.random.Generator, light: Light, *, at_night: bool) -> tuple[tuple[float, float], bool]:
    """Draw where a lamp is put in, and whether one can stand there; light: the luminance of _CELLS x _CELLS places.

    By day it is the sun, and the sun stands in the sky; at night a lamp hangs where it is lit. Elsewhere it would stand
    in front of a house, on a table or in a face.
    """
    places = tuple((uniform(rng, 0.04, 0.6), uniform(rng, 0.04, 0.96)) for _ in range(_PLACES))
    fit = light * (light > _LIT if at_night else _sky(light))
    weights = tuple(float(fit[int(row * _CELLS), int(column * _CELLS)]) ** 3 for row, column in places)
    return choice(rng, places, tuple(weight + 1e-9 for weight in weights)), max(weights) > 0


def _sky(light: Light) -> Any:
    """Return where `light`, luminance (h, w), is sky, bool: smooth, brighter than the ground, and so up to the top."""
    mean = cv2.blur(light, (3, 3))
    rough = np.sqrt(np.maximum(cv2.blur(light * light, (3, 3)) - mean * mean, 0))
    smooth = (rough < 0.12 * mean) & (light > 1.5 * np.median(light[2 * len(light) // 3 :]))
    return np.logical_and.accumulate(smooth, axis=0)


def _colour(rng: np.random.Generator, odds: tuple[float, ...]) -> tuple[float, float, float]:
    """Draw the colour of a lamp; a sun that stands in the picture, or just beyond, is low and so it is warm."""
    lamp = choice(rng, _LAMPS, odds)
    red, green, blue = (light * uniform(rng, 0.92, 1.0) for light in lamp)
    return red, green, blue


def _outside(rng: np.random.Generator) -> tuple[float, float]:
    """Draw a place 5 to 35 % beyond the upper, left or right edge."""
    along, beyond = uniform(rng, 0, 1), uniform(rng, 0.05, 0.35)
    return choice(rng, ((-beyond, along), (along * 0.7, -beyond), (along * 0.7, 1 + beyond)), (2, 1, 1))


def _ghosts(rng: np.random.Generator) -> tuple[tuple[float, ...], ...]:
    return tuple(_ghost(rng) for _ in range(integer(rng, 2, 9)))


def _ghost(rng: np.random.Generator) -> Ghost:
    radius = log_uniform(rng, 0.012, 0.11)
    tint = choice(rng, ((0.5, 1.0, 0.6), (1.0, 0.6, 0.85), (0.5, 0.7, 1.0), (1.0, 0.8, 0.5), (0.9, 0.9, 0.9)))
    red, green, blue = (light * uniform(rng, 0.7, 1) for light in tint)
    hollow = uniform(rng, 0, 0.95) if chance(rng, 0.65) else -1.0
    light = log_uniform(rng, 0.3, 3) * (0.03 / radius) ** 0.5
    return Ghost(uniform(rng, -0.8, 1.7), radius, light, red, green, blue, hollow)


def _highlights(image: Image) -> tuple[tuple[float, ...], ...]:
    """Return up to three lamps of `image` as sources: small, clipped, far brighter than what is around them."""
    small = reduced(image, _covering(image.shape, (image.shape[0], image.shape[1]), GRID))
    bright = (small.max(axis=2) >= 250) & (small.mean(axis=2) >= 215)
    count, labels, stats, centres = cv2.connectedComponentsWithStats(bright.astype(np.uint8))
    light = decode(small)
    lamps = [
        _lamp_at(light, labels == index, stats[index], centres[index])
        for index in sorted(range(1, count), key=lambda index: -int(stats[index, cv2.CC_STAT_AREA]))[:12]
        if 2 <= stats[index, cv2.CC_STAT_AREA] <= 0.012 * bright.size
    ]
    found = sorted((lamp for lamp in lamps if lamp is not None), key=lambda lamp: -lamp[0])[:3]
    if not found:
        return ()
    return tuple(
        (row, column, *(float(part * weight / found[0][0]) for part in colour)) for weight, row, column, colour in found
    )


def _lamp_at(light: Light, inside: Any, stats: Any, centre: Any) -> tuple[float, float, float, Light] | None:
    area, width, height = (int(stats[column]) for column in (cv2.CC_STAT_AREA, cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT))
    ring = cv2.dilate(inside.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool) & ~inside
    around = light[ring].mean(axis=0) if ring.any() else np.ones(3, np.float32)
    if area < 0.35 * width * height or around.mean() > 0.3:
        return None
    colour = 0.5 + 0.5 * around / max(float(around.max()), 1e-6)
    row, column = (centre[1] + 0.5) / light.shape[0], (centre[0] + 0.5) / light.shape[1]
    return area**0.5, float(row), float(column), colour


def _gain(flare: Flare, severity: float, scene: Scene) -> float:
    """Return the gain at which the share AREA of the pixels changes visibly, within FLOOR and CAP."""
    small = proxy(scene.image)
    shape = (scene.image.shape[0], scene.image.shape[1])
    field = _field(flare, scene, shape, min(small.shape[:2]))
    field = np.maximum(cv2.resize(field, small.shape[1::-1]).reshape(small.shape), 1e-9)
    needed = (brightening(small) / field).min(axis=2)
    share = path(severity, AREA)
    touching = float(np.quantile(needed, share, method="lower"))
    floor = path(severity, FLOOR) / float(np.median(field))
    cap = path(severity, CAP) / float(field.mean())
    return min(max(touching, floor), cap) * min(1.0, severity / 0.05)


DEGRADATION = Degradation(
    params=Flare,
    sample=sample,
    parts=(Part(Stage.OPTICS, apply),),
    reads=frozenset({"segments", "overlay"}),
    overlay="pattern",
    options=FlareOptions,
    local=True,
)
