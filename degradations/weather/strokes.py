"""Many short strokes on one uint8 plane: streaks of rain, splashes, flakes."""

import numpy as np
from numpy.typing import NDArray

from degradations.pairs.contract import Light

FAINTEST = 1 / 24  # of the brightest: what is fainter is not drawn
LONGEST = 16.0  # times its breadth: longer images hold no more strokes
FARTHEST = np.float32(2**15)  # pixels from the image that a stroke may reach
THINNEST, BROADER = 1.33, 1.9  # pixels: breadth of a stroke of one, and what a broader one gains
BLUNT = 0.15  # of the breadth, which an end gives way; the bands were measured with strokes that cover as much


def draw(shape: tuple[int, int], lines: Light, levels: Light, widths: Light) -> NDArray[np.uint8]:
    """Return a plane of strokes, uint8 (H, W), 0 where none is; where they cross, the brighter one stays.

    lines: float32 (N, 2, 2) rows and columns of each stroke's ends, in pixels. levels: (N,) in [0, 1], its brightness.
    widths: (N,) in pixels, at least 1 is drawn.
    """
    from degradations.kernels.strokes import strokes

    plane = np.zeros(shape, np.uint8)
    codes = np.where(levels >= FAINTEST, np.minimum(levels, 1) * np.float32(255), np.float32(0))
    strokes(np.ascontiguousarray(lines), codes, breadths(widths), BLUNT, FARTHEST, plane)
    return plane


def grown(plane: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return `plane`, which is that of `shape` (H, W) halved, rounded up, no time or several times, at that size."""
    from degradations.kernels.strokes import double

    if plane.shape == shape:
        return plane
    out = np.empty(shape, np.uint8)
    double(grown(plane, ((shape[0] + 1) // 2, (shape[1] + 1) // 2)), out)
    return out


def breadths(widths: Light) -> Light:
    """Return how broad strokes of `widths` (N,) are drawn, in pixels."""
    whole = np.clip(np.rint(widths), 1, 64)
    return np.asarray(np.where(whole > 1, whole + BROADER, THINNEST), dtype=np.float32)


def count(expected: float, luck: float) -> int:
    """Return a Poisson count of mean `expected`, by its Gaussian limit: `luck` is standard normal."""
    return max(0, int(expected + luck * expected**0.5 + 0.5))


def frames(shape: tuple[int, int]) -> float:
    """Return the area of an image in squares of its shorter side, by which counts are told; no more than LONGEST."""
    return min(LONGEST, max(shape) / min(shape))
