"""How much of a picture rain touches, foretold without drawing it, and the shower that touches as much as asked for.

What rain does to a pixel depends on that pixel alone: veil and wet ground move its light by what distance and slope
say, and streaks lie on it by chance. They fall independently of each other, so that exp(-n) of all points are free of
those of which n lie on a point on average (the Boolean model). A coarse grid of pixels thus tells the share of a
picture that changes visibly, as it is drawn later, within a few per cent of itself.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, rfft

from degradations.numerics.area import brightening, dimming
from degradations.numerics.light import decode
from degradations.pairs.contract import Light
from storage.records import Image

SIDE = 48  # of the grid
HALVINGS = 6  # of the logarithm of a bracket: to about 3 %
CODES = 255  # of opacity
_SUMS = 1280  # more than the codes of five layers add up to


@dataclass(frozen=True, slots=True, kw_only=True)
class Shower:
    """density: of streaks, 1 for one a drop. wetness: stops. extinction: of the veil, per unit of relative distance."""

    density: float
    wetness: float
    extinction: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """N pixels before it rains.

    light: linear RGB, (3, N). darker, brighter: what it falls or rises to before that is seen, (3, N). environment: the
    light of drops and veil, (3, N). away: relative distance, (N,). up: how far they face up, 0 to 1, (N,). before: how
    many layers of streaks fall before them, (N,).
    """

    light: Light
    darker: Light
    brighter: Light
    environment: Light
    away: Light
    up: Light
    before: NDArray[np.intp]


def places(shape: tuple[int, int]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return rows and columns, (SIDE, SIDE) each, of pixels spread evenly over an image of `shape`."""
    rows, columns = (((np.arange(SIDE) + 0.5) * side / SIDE).astype(np.intp) for side in shape)
    return np.repeat(rows[:, None], SIDE, axis=1), np.repeat(columns[None], SIDE, axis=0)


def sight(image: Image, *, environment: Light, away: Light, up: Light, before: NDArray[np.intp]) -> Sight:
    """Return the sight of pixels `image`, uint8 (h, w, 3), in the light `environment`, (h, w, 3); the others (h, w)."""
    light = decode(image)
    kinds = (light, light - dimming(image), light + brightening(image), environment)
    light, darker, brighter, around = (np.ascontiguousarray(each.reshape(-1, 3).T) for each in kinds)
    return Sight(
        light=light,
        darker=darker,
        brighter=brighter,
        environment=around,
        away=away.ravel(),
        up=up.ravel(),
        before=before.ravel(),
    )


def shower(
    seen: Sight, streaks: tuple[Light, float], *, least: Shower, most: Shower, streaked: float, touched: float
) -> Shower:
    """Return the shower between `least` and `most` that changes the share `touched` of the pixels visibly.

    streaks: how many there are, and their peak (see `streaks.overlaps`). Their density is that at which they change
    the share `streaked` alone. Ground that is dry yet is wetted then, and what is missing still is left to the veil.
    """
    overlaps, peak = streaks
    bare = needed(seen, wetness=0.0, extinction=0.0)
    density = _solved(
        lambda tried: _area(seen, bare, odds(overlaps, tried), peak), least.density, most.density, streaked
    )
    chances = odds(overlaps, density)

    def area(wetness: float, extinction: float) -> float:
        return _area(seen, needed(seen, wetness=wetness, extinction=extinction), chances, peak)

    wetness = _solved(lambda tried: area(tried, least.extinction), least.wetness, most.wetness, touched)
    extinction = _solved(lambda tried: area(wetness, tried), least.extinction, most.extinction, touched)
    return Shower(density=density, wetness=wetness, extinction=extinction)


def needed(seen: Sight, *, wetness: float, extinction: float) -> Light:
    """Return how opaque a streak must be to change each pixel visibly, (N,) >= 0; 0 where it is changed without one."""
    veil = np.exp(np.float32(-extinction) * seen.away)
    light = seen.light * (veil * np.exp2(np.float32(-wetness) * seen.up)) + seen.environment * (1 - veil)
    contrast = seen.environment - light
    room = np.where(contrast > 0, seen.brighter - light, light - seen.darker)
    changed = np.any((light <= seen.darker) | (light >= seen.brighter), axis=0)
    opacity = np.min(room / np.maximum(np.abs(contrast), np.float32(1e-6)), axis=0)
    return np.where(changed, np.float32(0), opacity)


def odds(overlaps: Light, density: float) -> Light:
    """Return how probably the first 0 to 5 layers together are at least as opaque as each code, (6, 257) from 0 on.

    overlaps: how many streaks of at least codes 1 to 255 lie on a point of each layer, (5, 255), at density 1. Of one
    layer the most opaque streak counts, those of several add up.
    """
    below = np.exp(np.float32(-density) * overlaps)  # no streak as opaque as that
    single = np.diff(below, axis=1, prepend=np.float32(0), append=np.float32(1))  # 0, 1, ... 255
    together = np.cumprod(rfft(single, _SUMS, axis=1), axis=0)
    found = np.zeros((len(overlaps) + 1, CODES + 2), np.float32)
    found[:, 0] = 1
    found[1:, 1:-1] = 1 - np.cumsum(irfft(together, _SUMS, axis=1)[:, :CODES], axis=1)
    return found


def _area(seen: Sight, opacity: Light, chances: Light, peak: float) -> float:
    """Return the share of pixels that change; opacity: what each needs, chances: of what codes, 255 for `peak`."""
    code = np.minimum(np.ceil(opacity * np.float32(CODES / peak)), CODES + 1).astype(np.intp)
    return float(chances[seen.before, code].mean())


def _solved(rising: Callable[[float], float], low: float, high: float, share: float) -> float:
    """Return where in [low, high], both > 0, `rising` is `share`; the nearer end where it is not."""
    if rising(low) >= share:
        return low
    if rising(high) <= share:
        return high
    for _ in range(HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if rising(middle) < share else (low, middle)
    return float((low * high) ** 0.5)
