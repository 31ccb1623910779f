"""Borders that are no part of a photograph: black bars, frames of one colour, rounded corners.

A bar is of one colour, to the last pixel of its rows, and ends in a straight edge across most of the picture; sky and
studio walls drift in colour or end along the outline of something. Rounded corners are four equal quarter circles of
one colour cut away.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.records import Image

_FLAT = 6  # levels that a compressed bar may vary by
_STRAY = 0.05  # share of the pixels of a row of a bar that may vary by more
_STEP = 24  # levels by which the picture must differ behind a bar
_WIDEST = 0.3  # of the side
_ACROSS = 0.6  # share of the columns where it must
_RINGING = 8  # rows that compression spoils behind the edge of a bar
_LARGEST_CORNER = 0.15  # of the shorter side

Levels = NDArray[np.int16]


def border(image: Image) -> float:
    """Return the width in pixels of the widest bar of one colour along a side of `image`, (H, W, 3)."""
    return float(max(_bar(np.rot90(image, turn)) for turn in range(4)))


def rounded_corner(image: Image) -> float:
    """Return the radius in pixels of equally rounded corners of one colour; 0 where there are none."""
    most = int(_LARGEST_CORNER * min(image.shape[:2]))
    corners = [np.rot90(image, turn)[: most + 1, : most + 1].astype(np.int16) for turn in range(4)]
    radii = np.array([_radius(corner) for corner in corners])
    colours = np.array([corner[0, 0] for corner in corners])
    alike = np.ptp(radii) <= 1 + 0.2 * radii.max() and np.ptp(colours, axis=0).max() <= _FLAT
    return float(radii.min()) if alike else 0.0


def _bar(image: Image) -> int:
    """Return how many rows at the top are a bar."""
    colour = np.median(image[0], axis=0).astype(np.int16)
    most = int(_WIDEST * len(image))
    width = next((row for row in range(most + 1) if np.mean(_away(image[row], colour) > _FLAT) > _STRAY), 0)
    behind = _away(image[width : width + _RINGING], colour)
    return width if width and np.mean(behind.max(0) >= _STEP) >= _ACROSS else 0


def _away(levels: NDArray[Any], colour: Levels) -> Levels:
    return np.asarray(np.abs(levels - colour).max(-1))


def _radius(corner: Levels) -> int:
    """Return the radius of what is cut away at the top left of `corner`, 0 if it is no quarter circle."""
    most = len(corner) - 1
    away = _away(corner, corner[0, 0]) > _FLAT
    runs = [int(np.argmax(line)) if line.any() else len(corner) for line in (away[0], away[:, 0], np.diagonal(away))]
    run = max(runs[:2])
    radius = round(run + (1 + math.sqrt(1 + 4 * run)) / 2)  # the outermost pixels of a circle are hardly cut
    is_even = 0 < run <= most and abs(runs[0] - runs[1]) <= 1 + 0.2 * radius
    is_round = abs(runs[2] - (1 - math.sqrt(0.5)) * radius) <= 1 + 0.1 * radius
    return radius if is_even and is_round else 0
