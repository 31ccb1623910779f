"""What the pixels of one photograph say of its sharpness, noise, block edges and tones; no reference.

Edge width follows Zhuo and Sim (Pattern Recognition 2011, doi:10.1016/j.patcog.2011.03.009): an edge of Gaussian
width s, smoothed further by a and by b, has gradients in the ratio sqrt((s^2 + b^2) / (s^2 + a^2)). The rest is ours.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from filters._statistics import box, length
from storage.records import Image, Plane

_FINE, _WIDE = 0.7, 1.6  # sigmas of the two smoothings of an edge
_UNKNOWN_WIDTH = 0.0  # too few edges: nothing says that the image is blurred
_BLOCK = 16
_GRID = 8
_FINEST = 0.8  # sigma that divides the finest octave from the next, pixels
_BUSY = 4.0  # levels of the third octave in a block that has detail


def edge_width(grey: Plane) -> float:
    """Return the width (one sigma, pixels, 0.7 of the gradient included) of the sharpest tenth of the strong edges.

    Only the sharpest edges count, because a photograph may well have its background out of focus.
    """
    fine, wide = (_gradient(cv2.GaussianBlur(grey, (0, 0), sigma)) for sigma in (_FINE, _WIDE))
    strength = length(*wide)
    ridge = _ridge(strength, np.abs(wide[0]) > np.abs(wide[1]))
    edges = ridge & (strength > max(2.0, 0.5 * float(np.percentile(strength[::4, ::4], 97))))
    if np.count_nonzero(edges) <= 50:
        return _UNKNOWN_WIDTH
    squared = np.maximum((length(*fine)[edges] / strength[edges]) ** 2, 1.0001)
    widths = np.sqrt(np.maximum((_WIDE**2 - squared * _FINE**2) / (squared - 1), 0))
    return float(np.percentile(widths, 10))


def fine_detail(image: Image) -> float:
    """Return the diagonal detail of luma over that at half size: about 0.7, below 0.43 if blurred or enlarged twice."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    half = _halved(grey)
    if min(half.shape) < 2:
        return 1.0
    coarse = diagonal_detail(half.astype(np.float32)).std()
    return float(diagonal_detail(grey.astype(np.float32)).std() / max(coarse, 0.05))


def detail(grey: Plane) -> float:
    """Return the finest octave over the next where it is largest: the 90th percentile of the busy blocks.

    About 1.3 in a sharp photograph, below 0.9 where no part of it is in focus or compression has taken the finest
    octave; 1 where nothing is busy.
    """
    fine, middle, wide = (cv2.GaussianBlur(grey, (0, 0), _FINEST * 2**octave) for octave in range(3))
    octaves = [_power(grey - fine), _power(fine - middle), _power(middle - wide)]
    unclipped = _power(((wide > 8) & (wide < 247)).astype(np.float32)) > 0.9
    busy = unclipped & (octaves[2] > _BUSY**2)
    if np.count_nonzero(busy) < 8:
        return 1.0
    return float(np.percentile(np.sqrt(octaves[0][busy] / (octaves[1][busy] + 0.02)), 90))


def noise(image: Image) -> dict[str, float]:
    """Return noise in levels: `noise` of luma at half size, its `evenness`, `chroma_noise` at full size.

    Noise is everywhere, texture is not: each is the 5th percentile over blocks, and evenness, the 15th percentile
    over the 5th, is near 1 where even the quietest blocks hold the same noise. Half size, because cameras smooth
    noise and JPEG removes its highest frequencies.
    """
    planes = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb))
    half = _halved(planes[0])
    low, middle = np.percentile(_spread(half, half), (5, 15))
    chroma = (_spread(planes[1], planes[0]) + _spread(planes[2], planes[0])) / 2
    return {
        "noise": float(low),
        "evenness": float(middle / max(low, 0.05)),
        "chroma_noise": float(np.percentile(chroma, 5)),
    }


def blockiness(grey: Plane) -> float:
    """Return the mean step, in levels, at the edges of 8 x 8 blocks at any offset, beyond that anywhere else."""
    return min(_grid_step(grey), _grid_step(np.ascontiguousarray(grey.T)))


def tones(grey: Plane) -> dict[str, float]:
    """Return `contrast` (1st to 99th percentile) and `light` (90th) in levels, `clipped` and `flat` as shares.

    clipped: the larger of white and black.
    """
    low, light, high = np.percentile(grey[::4, ::4], (1, 90, 99))
    mean = box(grey, 9)
    flat = np.mean(box(grey * grey, 9) - mean * mean < 4)
    return {
        "contrast": float(high - low),
        "light": float(light),
        "clipped": float(max(np.mean(grey >= 253), np.mean(grey <= 2))),
        "flat": float(flat),
    }


def grid_profile(grey: Plane) -> NDArray[np.float64]:
    """Return the mean step between columns, in levels, by position modulo 8; what is smooth is left out of a step."""
    steps = np.abs(3 * (grey[:, 2:-1] - grey[:, 1:-2]) - grey[:, 3:] + grey[:, :-3]) / 2
    columns = np.minimum(steps, 20).mean(0, dtype=np.float64)  # an edge of an object counts little
    return np.array([columns[offset::_GRID].mean() for offset in range(_GRID)])


def _halved(grey: Image) -> Image:
    size = max(1, grey.shape[1] // 2), max(1, grey.shape[0] // 2)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA))


def _grid_step(grey: Plane) -> float:
    if grey.shape[1] < 4 * _GRID:
        return 0.0
    ordered = np.sort(grid_profile(grey))
    return float(ordered[-1] - ordered[-2])


def _power(plane: Plane) -> Plane:
    """Return the mean square of each block, (blocks,)."""
    rows, columns = (max(1, side // _BLOCK) for side in plane.shape)
    whole = plane[: rows * _BLOCK, : columns * _BLOCK]
    return np.asarray(cv2.resize(whole * whole, (columns, rows), interpolation=cv2.INTER_AREA)).ravel()


def _gradient(plane: Plane) -> tuple[Plane, Plane]:
    along_columns = cv2.Sobel(plane, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
    along_rows = cv2.Sobel(plane, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
    return np.asarray(along_columns), np.asarray(along_rows)


def _ridge(strength: Plane, upright: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where the gradient is largest across the edge."""
    here = strength[1:-1, 1:-1]
    across_columns = (here >= strength[1:-1, :-2]) & (here > strength[1:-1, 2:])
    across_rows = (here >= strength[:-2, 1:-1]) & (here > strength[2:, 1:-1])
    return np.pad(np.where(upright[1:-1, 1:-1], across_columns, across_rows), 1)


def _spread(plane: Image, grey: Image) -> NDArray[np.float64]:
    """Return the standard deviation of the diagonal detail of each block that is neither black nor white."""
    detail = diagonal_detail(plane.astype(np.float32))
    rows, columns = (side // _BLOCK for side in detail.shape)
    if rows * columns == 0:
        return np.zeros(1)
    blocks = detail[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK)
    mean = grey[: rows * _BLOCK, : columns * _BLOCK].reshape(blocks.shape).mean((1, 3))
    usable = (mean > 30) & (mean < 225)
    spread = blocks.std((1, 3), dtype=np.float64)
    return np.asarray(spread[usable] if np.count_nonzero(usable) >= 10 else spread.ravel())


def diagonal_detail(plane: Plane) -> Plane:
    """Return the finest diagonal detail (Haar) of a plane: of white noise it has the standard deviation."""
    return np.asarray((plane[:-1, :-1] - plane[1:, :-1] - plane[:-1, 1:] + plane[1:, 1:]) / 2)
