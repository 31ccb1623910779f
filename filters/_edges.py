"""Do the skeletons of the edges of two images lie on each other: how far, across itself, each edge has moved.

The paper names a "skeleton shift" without defining it (arXiv 2603.25502, appendix A.2). For people it is read as the
displacement of keypoints (`filters/skeleton.py`); for everything else, here, as that of the thinned edges: each point
of the clean skeleton is matched with the nearest point of the degraded one that has the same direction, as in iterated
closest points (Besl and McKay, IEEE PAMI 1992). An edge tells only of movement across it, so the shift of a window is
the least-squares vector whose component across each of its edges is what was measured there.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from filters._statistics import length, luma, whitened
from storage.records import Image, Plane

_LARGEST = 2**18  # pixels of the copies
_SMOOTHING = 1.5
_EDGES = 93  # percentile of the gradient that an edge exceeds; half of it goes on
_REACH = 8.0  # pixels of the copies
_ALIKE = 0.9  # cosine between the directions of two edges
_ROUNDS = 3
_CELL = 32  # pixels; a window is 4 x 4 cells
_WINDOW = 4
_LEAST = 60  # points of a window
_DEVIATIONS = 4.0
_AGREEING = 3
_GRAIN = 0.35  # pixels, one sigma of a thinned edge
_LENGTH = 4.0  # pixels along an edge that err together


@dataclass(frozen=True, slots=True, kw_only=True)
class SkeletonShift:
    """In pixels: of the whole skeleton, and beyond it of the third most displaced window, less four deviations."""

    shift_px: float
    local_px: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Skeleton:
    """points: (N, 2) row and column; normals: (N, 2) unit vectors towards the bright side; shape: of the image."""

    points: NDArray[np.intp]
    normals: Plane
    shape: tuple[int, int]


def skeleton_shift(clean: Image, degraded: Image) -> SkeletonShift:
    """Return how far the edges of `degraded`, of the same shape, lie from those of `clean`."""
    factor = max(1.0, float(np.sqrt(clean.shape[0] * clean.shape[1] / _LARGEST)))
    first, second = (_skeleton(image, factor) for image in (clean, degraded))
    if min(len(first.points), len(second.points)) < _LEAST:
        return SkeletonShift(shift_px=0.0, local_px=0.0)
    shift = np.zeros(2)
    nearest = _nearest(second)
    for _ in range(_ROUNDS):
        across, matched = _matched(first, second, nearest, shift)
        if np.count_nonzero(matched) < _LEAST:
            return SkeletonShift(shift_px=0.0, local_px=0.0)
        shift = shift + _vector(*_sums(first.normals[matched], across[matched]))[0]
    across, matched = _matched(first, second, nearest, shift)
    local = _local(first, across, matched)
    return SkeletonShift(shift_px=factor * float(np.hypot(*shift)), local_px=factor * local)


def _skeleton(image: Image, factor: float) -> _Skeleton:
    size = max(1, round(image.shape[1] / factor)), max(1, round(image.shape[0] / factor))
    grey = cv2.resize(luma(image), size, interpolation=cv2.INTER_AREA)
    grey = cv2.GaussianBlur(whitened(grey), (0, 0), _SMOOTHING)
    rows, columns = cv2.Scharr(grey, cv2.CV_32F, 0, 1), cv2.Scharr(grey, cv2.CV_32F, 1, 0)
    strength = length(rows, columns)
    scale = 8000 / max(float(strength.max()), 1e-6)  # Canny wants 16-bit gradients
    high = float(np.percentile(strength[::2, ::2], _EDGES) * scale)
    slopes = [(plane * scale).astype(np.int16) for plane in (columns, rows)]
    edges = np.asarray(cv2.Canny(dx=slopes[0], dy=slopes[1], threshold1=high / 2, threshold2=high, L2gradient=True))
    points = np.argwhere(edges > 0)
    at = points[:, 0], points[:, 1]
    normals = np.stack([rows[at], columns[at]], -1) / np.maximum(strength[at], 1e-6)[:, None]
    return _Skeleton(points=points, normals=np.asarray(normals, np.float32), shape=(grey.shape[0], grey.shape[1]))


def _nearest(skeleton: _Skeleton) -> NDArray[np.intp]:
    """Return for each pixel the index of the nearest point of the skeleton."""
    empty = np.full(skeleton.shape, 255, np.uint8)
    empty[skeleton.points[:, 0], skeleton.points[:, 1]] = 0
    _, labels = cv2.distanceTransformWithLabels(empty, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    index_of = np.zeros(int(labels.max()) + 1, np.intp)
    index_of[labels[skeleton.points[:, 0], skeleton.points[:, 1]]] = np.arange(len(skeleton.points))
    return np.asarray(index_of[labels])


def _matched(
    first: _Skeleton, second: _Skeleton, nearest: NDArray[np.intp], shift: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return how far across itself each point, moved by `shift`, is from its partner, and which have a partner."""
    moved = first.points + shift
    pixel = np.clip(np.rint(moved).astype(np.intp), 0, np.array(first.shape) - 1)
    partner = nearest[pixel[:, 0], pixel[:, 1]]
    away = second.points[partner] - moved
    alike = np.sum(first.normals * second.normals[partner], axis=1) > _ALIKE
    return np.sum(away * first.normals, axis=1), alike & (np.hypot(away[:, 0], away[:, 1]) < _REACH)


def _sums(normals: Plane, across: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the normal equations, limited to what most points say: those beyond three median deviations are left."""
    middle = np.median(across)
    usual = np.abs(across - middle) <= 3 * max(0.5, float(np.median(np.abs(across - middle))))
    (rows, columns), across = normals[usual].astype(np.float64).T, across[usual]
    # Not by a matrix product, whose last digits change with the threads and the addresses it is given.
    rr, rc, cc = (float(np.sum(term)) for term in (rows * rows, rows * columns, columns * columns))
    right = [float(np.sum(term)) for term in (rows * across, columns * across)]
    return np.array([[rr, rc], [rc, cc]]), np.array(right)


def _vector(products: NDArray[np.float64], right: NDArray[np.float64]) -> tuple[NDArray[np.float64], Plane]:
    """Return the shifts (..., 2) that solve normal equations, and the inverses of these."""
    inverse = np.linalg.inv(products + np.eye(2))
    return np.einsum("...ij,...j->...i", inverse, right), np.asarray(inverse)


def _local(first: _Skeleton, across: NDArray[np.float64], matched: NDArray[np.bool_]) -> float:
    cells = first.points[matched] // _CELL
    shape = -(-first.shape[0] // _CELL), -(-first.shape[1] // _CELL)
    index = cells[:, 0] * shape[1] + cells[:, 1]
    rows, columns = first.normals[matched].T
    across = across[matched]
    terms = (rows * rows, rows * columns, columns * columns, rows * across, columns * across, across**2, across * 0 + 1)
    grids = [np.bincount(index, term, shape[0] * shape[1]).astype(np.float64).reshape(shape) for term in terms]
    rr, rc, cc, rd, cd, dd, count = (_pooled(grid) for grid in grids)
    shifts, inverse = _vector(np.stack([np.stack([rr, rc], -1), np.stack([rc, cc], -1)], -2), np.stack([rd, cd], -1))
    rest = np.maximum(dd - shifts[..., 0] * rd - shifts[..., 1] * cd, 0) / np.maximum(count, 1) + _GRAIN**2
    deviation = np.sqrt(_LENGTH * rest * np.einsum("...ii->...", inverse))
    away = np.hypot(shifts[..., 0], shifts[..., 1]) - _DEVIATIONS * deviation
    away = np.sort(np.maximum(away[count >= _LEAST], 0))
    return float(away[-_AGREEING]) if away.size >= _AGREEING else 0.0


def _pooled(grid: NDArray[np.float64]) -> NDArray[np.float64]:
    for axis in (0, 1):
        size = min(_WINDOW, grid.shape[axis])
        grid = np.lib.stride_tricks.sliding_window_view(grid, size, axis=axis).sum(-1)
    return grid
