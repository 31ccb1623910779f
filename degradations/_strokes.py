"""Many short anti-aliased strokes on one uint8 plane, in a few calls: streaks of rain, splashes, flakes."""

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from degradations._contract import Light

CLASSES = 12  # brightnesses that are told apart
SHIFT = 4  # fractional bits of a coordinate
LONGEST = 16.0  # times its breadth: longer images hold no more strokes
FARTHEST = 2**15  # pixels from the image that a stroke may reach


def draw(shape: tuple[int, int], lines: Light, levels: Light, widths: Light) -> NDArray[np.uint8]:
    """Return a plane of strokes, uint8 (H, W), 0 where none is; where they cross, the brighter one stays.

    lines: float32 (N, K, 2) rows and columns of each stroke's K points, in pixels. levels: (N,) in [0, 1], its
    brightness; those that round to 0 are left out. widths: (N,) in pixels, at least 1 is drawn.
    """
    plane = np.zeros(shape, np.uint8)
    if len(lines) == 0:
        return plane
    points = np.rint(np.clip(lines[..., ::-1], -FARTHEST, FARTHEST) * 2**SHIFT).astype(np.int32)
    ranks = np.rint(np.clip(levels, 0, 1) * CLASSES).astype(np.int32)
    thickness = np.clip(np.rint(widths), 1, 64).astype(np.int32)
    keys = ranks * 65 + thickness
    order = np.argsort(keys, kind="stable")  # ascending: brighter over darker
    sorted_points, sorted_keys = list(points[order]), keys[order]
    borders = np.flatnonzero(np.diff(sorted_keys, prepend=-1, append=-1)).tolist()
    for first, last in pairwise(borders):
        rank, width = divmod(int(sorted_keys[first]), 65)
        if rank > 0:
            value = round(255 * rank / CLASSES)
            cv2.polylines(plane, sorted_points[first:last], False, value, width, cv2.LINE_AA, SHIFT)
    return plane


def count(expected: float, luck: float) -> int:
    """Return a Poisson count of mean `expected`, by its Gaussian limit: `luck` is standard normal."""
    return max(0, int(expected + luck * expected**0.5 + 0.5))


def frames(shape: tuple[int, int]) -> float:
    """Return the area of an image in squares of its shorter side, by which counts are told; no more than LONGEST."""
    return min(LONGEST, max(shape) / min(shape))
