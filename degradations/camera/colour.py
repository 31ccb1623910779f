"""The colour side of a camera: its filter mosaic, its white balance and its colour matrix.

Unprocessing follows Brooks et al., "Unprocessing Images for Learned Raw Denoising" (arXiv 1811.11127): light is taken
back to what the sensor's filters let through, noise is added there, and the way forward is the exact inverse.
"""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from degradations.numerics.light import LUMA
from degradations.pairs.contract import Light

BAYER = cv2.COLOR_BayerBG2RGB  # OpenCV names a mosaic by the second row: this one begins red, green
STEPS = 32767  # of the signed 16-bit range that `demosaic` works in


def mosaic(light: Light, filters: NDArray[np.float32]) -> Light:
    """Return what an RGGB mosaic passes of `light` (H, W, 3): float32 (H, W), red at the even rows and columns.

    filters: the 3x3 matrix from light to what each of the three lets through.
    """
    raw = np.empty(light.shape[:2], np.float32)
    seen = light if np.array_equal(filters, np.eye(3)) else cv2.transform(light, filters)
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        raw[row::2, column::2] = seen[row::2, column::2, row + column]
    return raw


def demosaic(raw: Light, matrix: NDArray[np.float32]) -> Light:
    """Return (H, W, 3) of an RGGB mosaic in [-1, 1]: bilinear interpolation in steps of 2^-15, then the 3x3 `matrix`.

    An image of fewer than four rows or columns is taken as grey.
    """
    if min(raw.shape) < 4:
        return np.asarray(np.repeat(raw[..., None], 3, axis=2) @ matrix.T)
    codes = cv2.addWeighted(raw, float(STEPS), raw, 0.0, STEPS + 1.0, dtype=cv2.CV_16U)
    colours = cv2.demosaicing(codes, BAYER)
    offset = -(STEPS + 1) * matrix.sum(axis=1, keepdims=True)
    back = np.hstack([matrix, offset]) / np.float32(STEPS)
    return np.asarray(cv2.transform(colours.astype(np.float32), back), dtype=np.float32)


@lru_cache(maxsize=64)
def from_sensor(red: float, blue: float, crosstalk: float) -> NDArray[np.float32]:
    """Return the 3x3 matrix from the sensor's colours to linear sRGB: white-balance gains, then the colour matrix.

    red, blue: gains over green, 1.5 to 2.4 in daylight. crosstalk: what each colour loses to the other two, 0 to 1; the
    rows add up to one, so that grey stays grey.
    """
    colour = (1 + crosstalk) * np.eye(3) - crosstalk / 2 * (1 - np.eye(3))
    return np.asarray(colour @ np.diag((red, 1.0, blue)), dtype=np.float32)


@lru_cache(maxsize=64)
def to_sensor(red: float, blue: float, crosstalk: float) -> NDArray[np.float32]:
    """Return the inverse of `from_sensor`; none of its entries is negative, so light stays light."""
    return np.linalg.inv(from_sensor(red, blue, crosstalk).astype(np.float64)).astype(np.float32)


@lru_cache(maxsize=64)
def keeping(luma: float, chroma: float) -> NDArray[np.float32]:
    """Return the 3x3 matrix that keeps `luma` of the luminance and `chroma` of what differs from it."""
    grey = np.tile(LUMA, (3, 1))
    return np.asarray(chroma * np.eye(3) + (luma - chroma) * grey, dtype=np.float32)


def planckian(kelvin: float) -> NDArray[np.float64]:
    """Return the linear sRGB colour of a black body of 1667 to 4000 K, green 1 (fit of Kang et al., 2002)."""
    inverse = 1000 / kelvin
    x = -0.2661239 * inverse**3 - 0.2343589 * inverse**2 + 0.8776956 * inverse + 0.179910
    y = -0.9549476 * x**3 - 1.37418593 * x**2 + 2.09137015 * x - 0.16748867
    xyz = np.array((x / y, 1.0, (1 - x - y) / y))
    matrix = np.array(((3.2406, -1.5372, -0.4986), (-0.9689, 1.8758, 0.0415), (0.0557, -0.2040, 1.0570)))
    colour = np.maximum(matrix @ xyz, 0.05)
    return np.asarray(colour / colour[1])
