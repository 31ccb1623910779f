"""A value for each region of a picture, with soft borders: by its segments, or by tone where there are none."""

from collections.abc import Sequence

import cv2
import numpy as np

from degradations._contract import Light
from degradations._light import decode, luminance
from storage.records import Image, Scene

TONES = 6  # regions of a picture that comes without segments
HALVING = 2
PROXY = 128  # shorter side, in pixels, of the copy on which tones are told apart


def regions(scene: Scene) -> Image:
    """Return labels, uint8: the scene's segments (H, W), or, on a small copy, bands of its luminance, equal in area."""
    if scene.segments is not None:
        return np.asarray(scene.segments, dtype=np.uint8)
    height, width = scene.image.shape[:2]
    scale = min(1.0, PROXY / min(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = luminance(decode(cv2.resize(scene.image, size, interpolation=cv2.INTER_AREA).reshape(*size[::-1], 3)))
    small = cv2.GaussianBlur(small, (0, 0), 2).reshape(size[::-1])
    borders = np.quantile(small, np.arange(1, TONES) / TONES)
    return np.asarray(np.digitize(small, borders), dtype=np.uint8)


def areas(labels: Image) -> list[float]:
    """Return the share of the picture that each label from 0 to the largest covers."""
    counts = np.bincount(labels.ravel())
    return [float(count) / labels.size for count in counts]


def region_map(labels: Image, values: Sequence[float], feather: float, shape: tuple[int, ...]) -> Light:
    """Return float32 of `shape` with `values[label]` at each pixel, smoothed by `feather` pixels (sigma).

    labels: of that shape, or of a smaller copy, which is enlarged smoothly. Labels without a value get 1.
    """
    table = np.ones(256, np.float32)
    table[: len(values)] = values
    halved = min(labels.shape) > 2 * HALVING  # the borders are soft: half the size will do
    plane = cv2.LUT(np.ascontiguousarray(labels[::HALVING, ::HALVING]) if halved else labels, table)
    sigma = feather * plane.shape[0] / shape[0]
    if sigma > 0.3:
        plane = cv2.GaussianBlur(plane, (0, 0), sigma)
    return np.asarray(cv2.resize(plane, shape[1::-1], interpolation=cv2.INTER_LINEAR), dtype=np.float32).reshape(shape)
