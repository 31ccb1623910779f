"""Blur and resize codes: with sums that are exact (`taps`), so that what comes out is the same everywhere, or fast."""

import cv2
import numpy as np
from scipy.sparse import csr_matrix

from degradations.numerics.taps import SNAP, gaussian_taps, overlaps, resampling_taps
from degradations.pairs.contract import Light
from storage.records import Image


def blurred(image: Image, sigma: float) -> Light:
    """Return uint8 `image` (H, W, 3) blurred by a Gaussian of `sigma` pixels: float32 codes in sixteenths."""
    taps = gaussian_taps(sigma)
    out = cv2.sepFilter2D(image, cv2.CV_32F, taps, taps, borderType=cv2.BORDER_REFLECT_101)
    return snapped(np.asarray(out).reshape(image.shape))


def resampled(codes: Light, shape: tuple[int, int], interpolation: str) -> Light:
    """Return `codes`, float32 (H, W, 3) in sixteenths, at `shape` (H, W); `interpolation` as `resampling_taps`."""
    tall = _along_rows(codes, shape[0], interpolation)
    wide = _along_rows(_turned(tall), shape[1], interpolation)
    return _turned(wide)


def reduced(image: Image, shape: tuple[int, ...]) -> Image:
    """Return uint8 `image` (H, W, 3) at `shape` (H, W), smaller: each pixel the mean of the area that it covers.

    Within one code of OpenCV's INTER_AREA, in half the time where a factor is not whole, and the same everywhere.
    """
    if image.shape[0] % shape[0] == 0 and image.shape[1] % shape[1] == 0:
        return np.asarray(cv2.resize(image, (shape[1], shape[0]), interpolation=cv2.INTER_AREA), np.uint8)
    from degradations.kernels.area import reduce

    (rows, downs), (columns, acrosses) = (overlaps(old, new) for old, new in zip(image.shape[:2], shape, strict=False))
    rows, columns = np.minimum(rows, len(image) - 1), 3 * np.minimum(columns, image.shape[1] - 1)
    out = np.empty((shape[0], shape[1], 3), np.uint8)
    reduce(np.ascontiguousarray(image), rows, downs.astype(np.float32), columns, acrosses.astype(np.float32), out)
    return out


def snapped(codes: Light) -> Light:
    """Return `codes`, float32 of any shape, which it overwrites, rounded to sixteenths."""
    codes *= np.float32(SNAP)
    np.rint(codes, out=codes)
    codes *= np.float32(1 / SNAP)
    return codes


def _along_rows(codes: Light, height: int, interpolation: str) -> Light:
    if len(codes) == height:
        return codes
    indices, weights = resampling_taps(len(codes), height, interpolation)
    starts = np.arange(0, indices.size + 1, indices.shape[1])
    matrix = csr_matrix((weights.ravel(), indices.ravel(), starts), shape=(height, len(codes)))
    return snapped(np.asarray(matrix @ codes.reshape(len(codes), -1)).reshape(height, *codes.shape[1:]))


def _turned(codes: Light) -> Light:
    return np.asarray(cv2.transpose(codes)).reshape(codes.shape[1], codes.shape[0], codes.shape[2])
