"""How far the local statistics of a photograph are from those of good ones: a Gaussian-of-MSCN distance, as in NIQE.

Luma minus its local mean over its local deviation (MSCN) is nearly Gaussian in a good photograph; blur, noise and
compression change its shape and how neighbours depend on each other. Following Mittal, Soundararajan and Bovik (IEEE
Signal Processing Letters 2013, doi:10.1109/LSP.2012.2227726), 18 parameters of generalised Gaussians are fitted to
patches of 96 pixels at each of two scales, and a multivariate Gaussian over the patches is compared with that of good
photographs. The code and the statistics in `_naturalness.json` are ours (`tests/benchmarks/fit_naturalness.py`): the
numbers are not NIQE's.
"""

import json
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from scipy.special import gammaln

from filters._statistics import luma, strips
from storage.records import Image, Plane

PATCH = 96
_MEGAPIXEL = 2**20
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  # rows down, columns right

Features = NDArray[np.float64]

_SHAPES = np.geomspace(0.2, 10, 600)  # of generalised Gaussians
_RATIOS = np.exp(2 * gammaln(2 / _SHAPES) - gammaln(1 / _SHAPES) - gammaln(3 / _SHAPES))


class Good(BaseModel, frozen=True, extra="forbid"):
    """The Gaussian over the patches of good photographs: mean of the features and their covariance."""

    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]


def distance(image: Image, good: Good | None = None) -> float:
    """Return the distance of an image, uint8 (H, W, 3), from good photographs: 2 to 5 for those, more for worse ones.

    NaN where it is smaller than two patches: nothing can be said of it.
    """
    good = good or _shipped()
    found, _ = patches(image)
    if len(found) < 2:
        return float("nan")
    away = found.mean(0) - np.array(good.mean)
    pooled = (np.cov(found.T) + np.array(good.covariance)) / 2
    return float(np.sqrt(away @ np.linalg.pinv(pooled) @ away))


def patches(image: Image) -> tuple[Features, NDArray[np.float64]]:
    """Return the 36 features of each patch (N, 36), and its contrast: the mean of the local deviation, in levels."""
    grey = luma(strips(image, _MEGAPIXEL, height=PATCH))
    rows, columns = (side // PATCH * PATCH for side in grey.shape)
    grey = grey[:rows, :columns]
    if not grey.size:
        return np.empty((0, 36)), np.empty(0)
    half = cv2.resize(grey, (columns // 2, rows // 2), interpolation=cv2.INTER_AREA)
    (fine, deviation), (coarse, _) = _normalised(grey), _normalised(half)
    features = np.concatenate([_shapes(fine, PATCH), _shapes(coarse, PATCH // 2)], axis=1)
    return features, _over(deviation, PATCH)


def _normalised(grey: Plane) -> tuple[Plane, Plane]:
    """Return the MSCN coefficients and the local deviation, over 7 x 7 pixels."""
    mean = cv2.GaussianBlur(grey, (7, 7), 7 / 6)
    spread = np.sqrt(np.maximum(cv2.GaussianBlur(grey * grey, (7, 7), 7 / 6) - mean * mean, 0))
    return (grey - mean) / (spread + 1), spread


def _shapes(coefficients: Plane, patch: int) -> Features:
    """Return 18 parameters a patch: shape and variance, then shape, mean and widths of products with neighbours."""
    shape = _shape_of(_over(np.abs(coefficients), patch) ** 2 / _over(coefficients**2, patch))
    found = [shape, _over(coefficients**2, patch)]
    for down, right in _NEIGHBOURS:
        product = coefficients * np.roll(coefficients, (down, right), (0, 1))
        found += _asymmetric(product, patch)
    return np.stack(found, axis=1)


def _asymmetric(product: Plane, patch: int) -> list[NDArray[np.float64]]:
    left, right = (_width(product, product < 0, patch), _width(product, product > 0, patch))
    ratio = left / right
    moments = _over(np.abs(product), patch) ** 2 / _over(product**2, patch)
    shape = _shape_of(moments * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2)
    scale = np.exp(0.5 * (gammaln(1 / shape) - gammaln(3 / shape)))
    mean = (right - left) * scale * np.exp(gammaln(2 / shape) - gammaln(1 / shape))
    return [shape, mean, left**2, right**2]


def _width(product: Plane, side: NDArray[np.bool_], patch: int) -> NDArray[np.float64]:
    squares = _over(np.where(side, product**2, 0), patch) / np.maximum(_over(side, patch), 1e-6)
    return np.asarray(np.sqrt(squares) + 1e-4)


def _over(values: NDArray[np.generic], patch: int) -> NDArray[np.float64]:
    """Return the mean over each patch, plus a trace so that flat ones divide by something."""
    rows, columns = values.shape[0] // patch, values.shape[1] // patch
    blocks = values[: rows * patch, : columns * patch].reshape(rows, patch, columns, patch)
    return np.asarray(blocks.mean((1, 3), dtype=np.float64).ravel() + 1e-8)


def _shape_of(ratio: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.interp(ratio, _RATIOS, _SHAPES))


@cache
def _shipped() -> Good:
    return Good.model_validate(json.loads(Path(__file__).with_name("_naturalness.json").read_text()))
