"""Defocus by a disk: what a round, open aperture makes of a point out of focus."""

import cv2
import numpy as np

from degradations.pairs.contract import Light


def disk(radius: float) -> Light:
    """Return the kernel of a disk of `radius` pixels, float32, odd size, sum 1; its rim is antialiased."""
    reach = int(np.ceil(radius + 0.5))
    offsets = np.arange(-reach, reach + 1, dtype=np.float32)
    distance = np.hypot(offsets[:, None], offsets[None, :])
    kernel = np.clip(np.float32(radius + 0.5) - distance, 0, 1)
    return np.asarray(kernel / kernel.sum(), dtype=np.float32)


def defocus(light: Light, radius: float) -> Light:
    """Return `light`, float32 (H, W, C), blurred by a disk of `radius` pixels; below 0.25 px it is left sharp."""
    if radius < 0.25:
        return light
    blurred = cv2.filter2D(light, -1, disk(radius), borderType=cv2.BORDER_REFLECT_101)
    # Large kernels go through a DFT, which rounds below zero.
    return np.asarray(np.maximum(blurred.reshape(light.shape), 0), dtype=np.float32)
