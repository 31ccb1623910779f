"""A value for each region of a picture, with soft borders: by its segments, or by tone where there are none."""

from collections.abc import Sequence
from typing import TypeVar

import cv2
import numpy as np

from degradations.numerics.area import coarse, reduced
from degradations.numerics.fields import lattice
from degradations.numerics.light import decode, luminance
from degradations.numerics.random import uniform_field
from degradations.pairs.contract import Light
from storage.records import Image, Scene

P = TypeVar("P", Image, Light)

TONES = 6  # regions of a picture that comes without segments
HALVING = 2
CUT = 420.0  # pixels at 1024: width of the parts into which a region is cut
FADE = 0.4  # of the field's deviation, over which the cut is soft
PROXY = 128  # shorter side, in pixels, of the copy on which tones are told apart


def regions(scene: Scene) -> Image:
    """Return labels, uint8: the scene's segments (H, W), or, on a small copy, bands of its luminance, equal in area."""
    if scene.segments is not None:
        return np.asarray(scene.segments, dtype=np.uint8)
    shape = coarse(scene.image.shape, PROXY)
    small = luminance(decode(reduced(scene.image, shape)))
    small = cv2.GaussianBlur(small, (0, 0), 2).reshape(shape)
    borders = np.quantile(small, np.arange(1, TONES) / TONES)
    return np.asarray(np.digitize(small, borders), dtype=np.uint8)


def areas(labels: Image) -> list[float]:
    """Return the share of the picture, in [0, 1], that each of `labels` (H, W) from 0 to the largest covers."""
    counts = np.bincount(labels.ravel())
    return [float(count) / labels.size for count in counts]


def halved(plane: P) -> P:
    """Return every other row and column of `plane` (H, W), but all of a very small one."""
    step = HALVING if min(plane.shape) > 2 * HALVING else 1
    return np.ascontiguousarray(plane[::step, ::step])


def some_regions(labels: Image, share: float, seed: int) -> Light:
    """Return 1 in `share` of the picture, float32 of the shape of `labels`: in whole regions in the order of `seed`.

    The last of them fades along a smooth field. A larger share holds a smaller one.
    """
    counts = cv2.calcHist([labels], [0], None, [256], [0, 256]).ravel()
    order = np.argsort(uniform_field((256,), seed, stream=6), kind="stable")
    order = order[counts[order] > 0]
    filled = np.cumsum(counts[order]) / labels.size
    last = min(int(np.searchsorted(filled, share)), len(order) - 1)
    beyond = (filled[last] - share) * labels.size / counts[order[last]]  # share of the last region that is left out
    is_whole = np.isin(np.arange(256), order[:last]).astype(np.float32)
    part = _upper(labels, order[last], min(max(float(beyond), 0.0), 1.0), seed)
    return np.where(labels == order[last], part, cv2.LUT(labels, is_whole))


def region_map(
    labels: Image, values: Sequence[float], feather: float, shape: tuple[int, ...], *, factor: Light | None = None
) -> Light:
    """Return float32 of `shape` with `values[label]` at each pixel, smoothed by `feather` pixels (sigma).

    labels: of that shape, or of a smaller copy, which is enlarged smoothly. Labels without a value get 1. factor: of
    the shape of `labels`, of the values.
    """
    table = np.ones(256, np.float32)
    table[: len(values)] = values
    plane = cv2.LUT(halved(labels), table)  # the borders are soft: half the size will do
    if factor is not None:
        plane *= halved(factor)
    sigma = feather * plane.shape[0] / shape[0]
    if sigma > 0.3:
        plane = cv2.GaussianBlur(plane, (0, 0), sigma)
    return np.asarray(cv2.resize(plane, shape[1::-1], interpolation=cv2.INTER_LINEAR), dtype=np.float32).reshape(shape)


def _upper(labels: Image, label: int, beyond: float, seed: int) -> Light:
    """Return 1 where a smooth field exceeds what it has in the lower share `beyond` of the region `label`, else 0."""
    grid = coarse(labels.shape, PROXY)
    field = lattice(grid, seed, cell=CUT, stream=7)
    inside = field[cv2.resize(labels, grid[::-1], interpolation=cv2.INTER_NEAREST).reshape(grid) == label]
    border = float(np.quantile(inside if inside.size else field, beyond)) + FADE / 2 * (2 * beyond - 1) ** 7
    ramp = np.clip((field - np.float32(border)) * np.float32(1 / FADE) + np.float32(0.5), 0, 1)
    return np.asarray(cv2.resize(ramp, labels.shape[::-1], interpolation=cv2.INTER_LINEAR)).reshape(labels.shape)
