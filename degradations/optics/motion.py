"""Motion that differs over the picture: a turning or zooming camera, a moving object."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from degradations.optics.convolve import MIRROR, gaussian
from degradations.optics.straight import motion
from degradations.pairs.contract import Light

Turn = tuple[float, float, float, float]  # yaw, pitch, roll in radians, logarithm of the zoom
Matrix = NDArray[np.float64]

NARROW = 8  # pixels; across less, a path is shorter than half of one and its mean motion cannot be told
CRISP = 8.0  # pixels of a path up to which the blur of linear interpolation would show beside the path's own
FOCAL = 0.8  # focal length in units of max(H, W): a lens between wide and normal


def camera_path(light: Light, turns: tuple[Turn, ...]) -> Light:
    """Return `light`, float32 (H, W, 3), averaged over the camera's path through `turns`, evenly in time.

    Views lie at most one pixel apart everywhere, so no ghosts stand side by side. The path is centred: the light of
    each point, spread over the views, keeps its centroid.
    """
    shape = light.shape[:2]
    reach = _reach([homography(turn, shape) for turn in turns], shape)
    count = max(3, math.ceil(reach))
    if reach < 1e-3 or min(shape) < NARROW:
        return light
    views = _centred([homography(turn, shape) for turn in _between(turns, count)], shape)
    flags = cv2.INTER_CUBIC if reach < CRISP else cv2.INTER_LINEAR
    total = np.zeros_like(light)
    for view in views:
        warped = cv2.warpPerspective(light, view, shape[::-1], flags=flags, borderMode=MIRROR)
        cv2.add(total, warped.reshape(light.shape), dst=total)
    total *= np.float32(1 / len(views))
    return total


def homography(turn: Turn, shape: tuple[int, ...]) -> Matrix:
    """Return the 3 x 3 matrix that moves (column, row, 1) of a still picture to where the turned camera sees it."""
    yaw, pitch, roll, zoom = turn
    focal = FOCAL * max(shape)
    lens = np.array([[focal, 0, (shape[1] - 1) / 2], [0, focal, (shape[0] - 1) / 2], [0, 0, 1.0]])
    rotation = cv2.Rodrigues(np.array([pitch, yaw, roll]))[0]
    magnified = np.diag([math.exp(zoom), math.exp(zoom), 1.0])
    return np.asarray(lens @ magnified @ rotation @ np.linalg.inv(lens))


def path_length(turns: tuple[Turn, ...], shape: tuple[int, ...]) -> float:
    """Return the length, in pixels, of the straight line that spreads points as far as the path does on average."""
    grid = _grid(shape)
    seen = np.stack([_move(homography(turn, shape), grid) for turn in _between(turns, 17)])
    return math.sqrt(12 * float(np.mean(np.sum((seen - seen.mean(axis=0)) ** 2, axis=2))))


def _between(turns: tuple[Turn, ...], count: int) -> NDArray[np.float64]:
    knots = np.asarray(turns)
    times = (np.arange(count) + 0.5) / count * (len(knots) - 1)
    return np.asarray(CubicSpline(np.arange(len(knots)), knots)(times))


def _reach(views: list[Matrix], shape: tuple[int, ...]) -> float:
    """Return the longest way, in pixels, that a point goes through `views`."""
    seen = np.stack([_move(view, _grid(shape)) for view in views])
    return float(np.linalg.norm(np.diff(seen, axis=0), axis=2).sum(axis=0).max())


def _centred(views: list[Matrix], shape: tuple[int, ...]) -> list[Matrix]:
    """Return `views` after the inverse of their mean motion, weighted by the light that each view gives a point."""
    grid = _grid(shape)
    for _ in range(3):
        seen = np.stack([_move(view, grid) for view in views])
        light = np.stack([_area(view, grid) for view in views])[..., None]
        mean = (seen * light).sum(axis=0) / light.sum(axis=0)
        drift = cv2.findHomography(grid.astype(np.float32), mean.astype(np.float32))[0] if min(shape) > 1 else np.eye(3)
        undo = np.linalg.inv(drift)
        views = [undo @ view for view in views]
    return views


def _grid(shape: tuple[int, ...]) -> Matrix:
    rows, columns = np.meshgrid(*(np.linspace(0, side - 1, 7) for side in shape), indexing="ij")
    return np.stack([columns.ravel(), rows.ravel()], axis=1)


def _move(view: Matrix, points: Matrix) -> Matrix:
    moved = np.c_[points, np.ones(len(points))] @ view.T
    return np.asarray(moved[:, :2] / moved[:, 2:])


def _area(view: Matrix, points: Matrix) -> NDArray[np.float64]:
    """Return by how much `view` enlarges areas around `points`: its Jacobian."""
    depth = np.c_[points, np.ones(len(points))] @ view[2]
    return np.asarray(np.linalg.det(view) / depth**3)


def moving_object(light: Light, inside: NDArray[np.bool_], length: float, angle: float) -> Light:
    """Return `light` (H, W, 3) with the object `inside` (H, W) moving straight while the rest stands still.

    The object's light and its silhouette are spread alike; behind a silhouette that has become thin appears the
    background, continued under the object from around it. Beyond the object's reach nothing changes.
    """
    margin = math.ceil(length) + 8
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if rows.size == 0 or length <= 0:
        return light
    box = tuple(slice(max(0, int(side[0]) - margin), int(side[-1]) + margin + 1) for side in (rows, columns))
    out = light.copy()
    out[box] = _spread(light[box], inside[box], length, angle)
    return out


def _spread(light: Light, inside: NDArray[np.bool_], length: float, angle: float) -> Light:
    mask = cv2.blur(inside.astype(np.float32), (3, 3), borderType=MIRROR).reshape(inside.shape)
    behind = _continued(light, mask, length)
    planes = cv2.split(light)
    moved = motion(cv2.merge([*(cv2.multiply(plane, mask) for plane in planes), mask]), length, angle)
    *spread, silhouette = cv2.split(moved)
    seen = 1 - silhouette
    return np.asarray(
        cv2.merge([cv2.add(own, cv2.multiply(seen, far)) for own, far in zip(spread, behind, strict=True)])
    )


def _continued(light: Light, mask: Light, length: float) -> list[Light]:
    """Return the planes of the background: `light` outside `mask`, inside a smooth continuation of what lies around.

    The object's rim holds light of both, so it is not continued. Short motions uncover nothing: they keep the light.
    """
    rest = (cv2.dilate(mask, np.ones((5, 5), np.uint8)) == 0).astype(np.float32)
    planes = cv2.split(light)
    known = cv2.merge([*(cv2.multiply(plane, rest) for plane in planes), rest])
    *around, weight = cv2.split(gaussian(known, 1 + length / 4) + np.float32(1e-3) * gaussian(known, 4 + length))
    share = (mask > 0).astype(np.float32) * np.float32(min(1.0, length / 2))
    fill = cv2.divide(share, cv2.max(weight, 1e-6)).reshape(mask.shape)
    fill[weight < 1e-6] = 0
    kept = np.where(weight < 1e-6, np.float32(1), 1 - share)
    return [
        cv2.add(cv2.multiply(plane, kept), cv2.multiply(far, fill)) for plane, far in zip(planes, around, strict=True)
    ]
