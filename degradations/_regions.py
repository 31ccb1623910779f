"""A value for each region of a picture, with soft borders: by its segments, or by tone where there are none."""

from collections.abc import Sequence

import cv2
import numpy as np

from degradations._contract import Light
from degradations._light import decode, luminance
from storage.records import Image, Scene

TONES = 6  # regions of a picture that comes without segments
PROXY = 128  # shorter side, in pixels, of the copy on which tones are told apart


def regions(scene: Scene) -> Image:
    """Return labels, uint8 (H, W): the scene's segments, or bands of its smoothed luminance, equal in area."""
    if scene.segments is not None:
        return np.asarray(scene.segments, dtype=np.uint8)
    height, width = scene.image.shape[:2]
    scale = min(1.0, PROXY / min(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = luminance(decode(cv2.resize(scene.image, size, interpolation=cv2.INTER_AREA)))
    small = cv2.GaussianBlur(small, (0, 0), 4)
    borders = np.quantile(small, np.arange(1, TONES) / TONES)
    labels = np.digitize(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), borders)
    return np.asarray(labels, dtype=np.uint8)


def areas(labels: Image) -> list[float]:
    """Return the share of the picture that each label from 0 to the largest covers."""
    counts = np.bincount(labels.ravel())
    return [float(count) / labels.size for count in counts]


def region_map(labels: Image, values: Sequence[float], feather: float) -> Light:
    """Return float32 (H, W) with `values[label]` at each pixel, smoothed by `feather` pixels (sigma) at the borders.

    Labels without a value get 1.
    """
    table = np.ones(256, np.float32)
    table[: len(values)] = values
    plane = cv2.LUT(labels, table)
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), feather) if feather > 0 else plane, dtype=np.float32)
