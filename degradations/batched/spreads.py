"""The kernels that drawn blur params amount to, for the batched path; made on a CPU, half a millisecond each."""

import math
from functools import partial

import numpy as np

from degradations.blur import Blur, Defocus, Linear, Shake, Still, Web
from degradations.optics.defocus import WIDE
from degradations.optics.psf import aperture, bell, gaussian_taps, point_spread, ringing, trajectory
from degradations.optics.straight import strokes
from degradations.pairs.contract import Light
from degradations.pairs.severity import pixels

Kernels = tuple[Light, ...]


def spread_of(params: Blur, shape: tuple[int, ...]) -> tuple[Kernels, int]:
    """Return the kernels, in turn, by which `params` blur a picture of `shape` (H, W, ...), and how often it is halved.

    Raises ValueError for causes that kernels cannot describe: objects, rotation, defocus by depth, clips and chains.
    """
    cause, side = params.motion, min(shape[:2])
    match cause:
        case Still():
            return (), 0
        case Shake():
            path = partial(trajectory, centripetal=cause.centripetal, jerk=cause.jerk, tremor=cause.tremor)
            return (point_spread(path(pixels(cause.length, shape), cause.seed)),), 0
        case Linear():
            return strokes(pixels(cause.length, shape), cause.angle), 0
        case Defocus(focus=None):
            return _opening(cause, pixels(cause.radius, shape), side)
        case Web():
            return _soft(cause, pixels(cause.sigma, shape), side)
        case _:
            raise ValueError(f"{cause.cause} cannot be said by kernels: blur it by the NumPy path")


def _opening(cause: Defocus, radius: float, side: int, halvings: int = 0) -> tuple[Kernels, int]:
    if radius < WIDE or side < 4 * WIDE:
        return (aperture(radius, blades=cause.blades, rotation=cause.rotation, ring=cause.ring),), halvings
    return _opening(cause, math.sqrt(radius * radius - 8) / 2, (side + 1) // 2, halvings + 1)


def _soft(cause: Web, sigma: float, side: int) -> tuple[Kernels, int]:
    if cause.kernel == "ringing":
        return (ringing(1.7 / sigma),), 0
    if cause.kernel == "gaussian" and cause.aspect == 1:
        return _round(sigma, side)
    return _belled(cause, sigma * cause.aspect**0.5, sigma * cause.aspect**-0.5, side)


def _round(sigma: float, side: int, halvings: int = 0) -> tuple[Kernels, int]:
    if sigma * sigma < 3 or side < 16:
        taps = gaussian_taps(sigma)
        return (np.outer(taps, taps),), halvings
    return _round(math.sqrt((sigma * sigma - 2) / 4), (side + 1) // 2, halvings + 1)


def _belled(cause: Web, along: float, across: float, side: int, halvings: int = 0) -> tuple[Kernels, int]:
    if across * across < 5 or side < 32:
        sigma, aspect, flat = math.sqrt(along * across), along / across, cause.kernel == "plateau"
        return (bell(sigma, aspect, cause.angle, beta=cause.beta, plateau=flat),), halvings
    long, short = (math.sqrt((spread * spread - 2) / 4) for spread in (along, across))
    return _belled(cause, long, short, (side + 1) // 2, halvings + 1)
