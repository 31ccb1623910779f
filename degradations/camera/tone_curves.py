"""Darkening by a curve of sRGB values: attenuation and gamma, chosen by hand, by statistics, or given by points.

    degraded = (alpha clean)^gamma

In the statistics mode of `low_light` alpha and gamma are those for which luma has a mean and a deviation as low-light
photographs have them; ours, in place of RealRestorer's reverse Retinexformer (arXiv 2603.25502, 3.1), whose weights are
not public.
"""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from degradations.numerics.light import linear_to_srgb, luminance, srgb_to_linear
from degradations.numerics.strips import Work
from degradations.pairs.contract import Light
from degradations.pairs.severity import path
from storage.records import Image

MEAN = (0.45, 0.34, 0.25, 0.17, 0.11, 0.06)  # of luma, sRGB, at the borders of the levels
SHARE = (0.9, 0.75, 0.6, 0.45, 0.32, 0.2)  # of the photograph's own mean that it keeps at most
STEPS = 4096  # of a curve's table
TOWARDS = (0.05, 0.2, 0.4, 0.6, 0.8, 1.0)  # how far the spread of tones goes to that of a dark photograph


def matched(image: Image, severity: float, *, lean: float, variation: float) -> tuple[float, float]:
    """Return alpha and gamma that give `image`, uint8 (H, W, 3), the tones of a dark photograph of `severity`.

    lean: factor of its mean luma, about 1. variation: deviation over mean of the luma of dark photographs.
    """
    luma = luminance(image[::4, ::4].astype(np.float32))
    histogram = np.bincount(np.rint(luma).astype(np.int64).ravel(), minlength=256).astype(np.float64)
    own = float(histogram @ np.arange(256)) / histogram.sum() / 255
    share = path(severity, SHARE, identity=1.0)
    mean = min(own * share, path(severity, MEAN, identity=1.0) * lean)
    spread = histogram @ (np.arange(256) / 255 - own) ** 2 / histogram.sum()
    own_variation = math.sqrt(float(spread) + 1e-6) / max(own, 1e-3)
    towards = path(severity, TOWARDS)
    return fit(histogram, mean, float(mean * own_variation ** (1 - towards) * variation**towards))


def fit(histogram: NDArray[np.float64], mean: float, deviation: float) -> tuple[float, float]:
    """Return alpha in (0, 1] and gamma in [1, 3.5] for which luma of `histogram` (256 sRGB bins) has that mean.

    Of all such pairs, the one whose standard deviation is nearest. A mean above the photograph's own gives 1 and 1.
    """
    weights = histogram / histogram.sum()
    values = np.arange(256) / 255
    gammas = np.exp(np.linspace(0, math.log(3.5), 33))[:, None]
    powers = values[None, :] ** gammas @ weights  # mean for alpha 1; alpha^gamma scales it
    scales = np.minimum(1.0, mean / np.maximum(powers, 1e-12))
    seconds = values[None, :] ** (2 * gammas) @ weights
    deviations = scales * np.sqrt(np.maximum(seconds - powers**2, 0))
    reached = powers * scales
    cost = np.abs(np.log((deviations + 1e-4) / (deviation + 1e-4))) + 100 * np.abs(reached - mean)
    best = int(np.argmin(cost))
    gamma = float(gammas[best, 0])
    return float(scales[best]) ** (1 / gamma), gamma


def power_table(attenuation: float, gamma: float) -> NDArray[np.float32]:
    """Return (alpha I)^gamma as linear light by the square root of linear light, (1, STEPS)."""
    curve = (np.float32(attenuation) * _tones()) ** np.float32(gamma)
    return np.asarray(srgb_to_linear(curve)[None, :], dtype=np.float32)


def points_table(curve: Sequence[float]) -> NDArray[np.float32]:
    """Return a curve as linear light by the square root of linear light, (3, STEPS).

    curve: sRGB values at evenly spaced sRGB values, one channel after the other.
    """
    points = np.asarray(curve).reshape(3, -1)
    places = np.linspace(0, 1, points.shape[1])
    channels = [np.interp(_tones(), places, channel).astype(np.float32) for channel in points]
    return np.stack([srgb_to_linear(channel) for channel in channels])


def through(tables: NDArray[np.float32]) -> Work:
    """Return the work that takes light, clipped to [0, 1], through one table (1, STEPS) or one a channel (3, STEPS)."""
    from degradations.kernels import codes

    return lambda light, rows, out: codes.curve(light.reshape(-1), tables, out.reshape(-1))


@cache
def _tones() -> Light:
    return np.asarray(linear_to_srgb((np.arange(STEPS) / (STEPS - 1)) ** 2), dtype=np.float32)
