"""Small statistics of images that several filters share. Planes are float32 (H, W) in levels, 0 to 255."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from storage.records import Image, Plane


def luma(image: Image) -> Plane:
    """Return the Rec. 601 luma of an image (H, W, 3), in whole levels."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.float32)


def length(rows: Plane, columns: Plane) -> Plane:
    """Return the lengths of vectors.

    `cv2.magnitude` (OpenCV 5.0) ends in other bits when its output lies elsewhere in memory: the same pair would not
    get the same scores twice.
    """
    return np.asarray(np.sqrt(rows * rows + columns * columns))


def difference(clean: Image, degraded: Image) -> Image:
    """Return the largest absolute difference over the channels, uint8 (H, W)."""
    red, green, blue = cv2.split(cv2.absdiff(clean, degraded))
    return np.asarray(cv2.max(cv2.max(red, green), blue))


def strips(image: NDArray[Any], pixels: int, *, height: int = 64) -> NDArray[Any]:
    """Return about `pixels` of an image (H, W, ...): strips of full width at full resolution, evenly spaced.

    A smaller copy would average noise away and sharpen blur, a crop would miss what is local.
    """
    rows, columns = image.shape[:2]
    if rows * columns <= pixels:
        return image
    count = max(1, pixels // (columns * height))
    tops = np.linspace(0, rows - height, count).astype(int) if rows > height else np.zeros(1, int)
    return np.concatenate([image[top : top + height] for top in tops])


def box(plane: Plane, size: int) -> Plane:
    """Return the mean over `size` x `size` pixels around each pixel."""
    return np.asarray(cv2.blur(plane, (size, size)))


def whitened(plane: Plane) -> Plane:
    """Return `plane` with local mean 0 and local contrast 1, but noise-like where there is no contrast.

    Over 15 x 15 pixels: haze, darkness and tone curves then hardly matter.
    """
    detail = plane - box(plane, 15)
    variance = box(detail * detail, 15)
    return np.asarray(detail / np.sqrt(variance + np.float32(max(1.0, 0.05 * float(variance.mean())))))
