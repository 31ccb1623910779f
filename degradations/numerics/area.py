"""How much of a picture a local degradation touches: the light that moves a channel by 2 % of its range."""

from collections.abc import Sequence

import cv2
import numpy as np

from degradations.numerics.light import srgb_to_linear
from degradations.pairs.contract import Light
from storage.records import Image

VISIBLE = 0.02  # of the range of sRGB; a pixel is affected when one channel moves further
PROXY = 96  # short side of the small copy on which sample() solves for the affected area


def coarse(shape: Sequence[int], short: int) -> tuple[int, int]:
    """Return the (H, W) of `shape` reduced to a short side of at most `short` pixels."""
    scale = min(1.0, short / min(shape[0], shape[1]))
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def proxy(image: Image) -> Image:
    """Return `image`, uint8 (H, W, 3), reduced to a short side of PROXY pixels."""
    return reduced(image, coarse(image.shape, PROXY))


def reduced(image: Image, shape: tuple[int, int]) -> Image:
    """Return `image`, uint8 (H, W, 3), averaged down (or interpolated up) to `shape` (H, W)."""
    if image.shape[:2] == shape:
        return image
    shrinks = shape[0] <= image.shape[0] and shape[1] <= image.shape[1]
    return np.asarray(cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR))


def brightening(image: Image) -> Light:
    """Return the light that makes channels of `image`, uint8 (H, W, 3), visibly brighter; infinite where it would clip.

    Linear, float32 of the shape of `image`.
    """
    srgb = image / 255
    brighter = srgb + VISIBLE
    light = srgb_to_linear(np.minimum(brighter, 1)) - srgb_to_linear(srgb)
    return np.where(brighter < 1, light, np.inf).astype(np.float32)


def dimming(image: Image) -> Light:
    """Return the light whose loss makes channels of `image` visibly darker; otherwise as `brightening`."""
    srgb = image / 255
    darker = srgb - VISIBLE
    light = srgb_to_linear(srgb) - srgb_to_linear(np.maximum(darker, 0))
    return np.where(darker > 0, light, np.inf).astype(np.float32)
