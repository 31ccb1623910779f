"""From severity to strength: one monotone path per parameter, given by its values at the borders of the five levels."""

from collections.abc import Sequence

import numpy as np

BORDERS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # of the levels
FADE = 0.05  # below this severity a strength fades to the identity, so that harm is continuous at 0
LEAST = 1e-9  # below this severity it is the identity: products of strengths would underflow


def path(severity: float, borders: Sequence[float], *, identity: float = 0.0) -> float:
    """Return the strength at `severity` in [0, 1], linear between its values at severities 0, 0.2, ..., 1.

    `borders[0]` is the lower end of level 1; below FADE it fades from there to `identity`, which it is below LEAST.
    Those above the level may be left out.
    """
    if severity < LEAST:
        return identity
    strength = float(np.interp(severity, BORDERS[: len(borders)], borders))
    return identity + (strength - identity) * min(1.0, severity / FADE)


def pixels(length: float, shape: Sequence[int]) -> float:
    """Return `length`, given in pixels at min(H, W) = 1024, in pixels of an image of `shape` (H, W, ...)."""
    return length * min(shape[0], shape[1]) / 1024
