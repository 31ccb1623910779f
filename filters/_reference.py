"""How close a restored image is to the ground truth, at full size and over the whole image.

PSNR over all pixels and channels; SSIM (Wang et al. 2004, doi:10.1109/TIP.2003.819861) of luma (Rec. 601, full range,
not rounded) in Gaussian 11 x 11 windows of sigma 1.5 that lie inside, as FoundIR's test set is measured. The `strength`
filter has a faster SSIM, in uniform windows and over strips, that is not comparable with published figures.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from filters.strength import psnr
from storage.records import Image

_WINDOW, _SIGMA = 11, 1.5

__all__ = ["psnr", "ssim"]


def ssim(clean: Image, restored: Image) -> float:
    """Return the mean structural similarity of two images (H, W, 3) of one size, both sides at least 11 pixels.

    Raises ValueError for others.
    """
    if clean.shape != restored.shape or min(clean.shape[:2]) < _WINDOW:
        raise ValueError(f"SSIM takes two images of one size from {_WINDOW}: {clean.shape}, {restored.shape}")
    one, other = _luma(clean), _luma(restored)
    mean, mean_other = _windowed(one), _windowed(other)
    variance = _windowed(one * one) - mean * mean
    variance_other = _windowed(other * other) - mean_other * mean_other
    covariance = _windowed(one * other) - mean * mean_other
    luminance_floor, contrast_floor = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    numerator = (2 * mean * mean_other + luminance_floor) * (2 * covariance + contrast_floor)
    denominator = (mean**2 + mean_other**2 + luminance_floor) * (variance + variance_other + contrast_floor)
    return float((numerator / denominator).mean())


def _luma(image: Image) -> NDArray[np.float64]:
    return np.asarray(image @ np.array([0.299, 0.587, 0.114]))


def _windowed(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    margin = _WINDOW // 2
    blurred = cv2.GaussianBlur(plane, (_WINDOW, _WINDOW), _SIGMA)
    return np.asarray(blurred[margin:-margin, margin:-margin])
