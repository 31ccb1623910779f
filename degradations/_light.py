"""Between storage and light: sRGB uint8 to linear float32 and back, without losing a code.

IEC 61966-2-1. Decoding is exact by table; encoding quantises to 16 bits and looks the code up. The pair returns all 256
codes unchanged.
"""

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from degradations._contract import Frame, Light
from storage.records import Image, Scene

LUMA = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)  # Rec. 709 luminance of linear light


def srgb_to_linear(srgb: NDArray[Any]) -> NDArray[Any]:
    """Return linear light of sRGB values in [0, 1] (float of any shape)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(light: NDArray[Any]) -> NDArray[Any]:
    """Return sRGB values of linear light in [0, 1] (float of any shape)."""
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055)


_DECODE = srgb_to_linear(np.arange(256) / 255).astype(np.float32)
_ENCODE = np.rint(linear_to_srgb(np.arange(65536) / 65535) * 255).astype(np.uint8)


def decode(image: Image) -> Light:
    """Return the linear light, float32 in [0, 1], of a uint8 sRGB image of any shape."""
    return np.asarray(cv2.LUT(image, _DECODE), dtype=np.float32).reshape(image.shape)


def encode(light: Light) -> Image:
    """Return the uint8 sRGB image of linear light; clips to [0, 1], rounds to nearest."""
    codes = np.multiply(light, np.float32(65535))
    np.add(codes, np.float32(0.5), out=codes)
    np.clip(codes, 0, 65535, out=codes)
    return np.asarray(_ENCODE[codes.astype(np.uint16)])


def luminance(light: Light) -> Light:
    """Return the luminance, float32 (H, W), of linear light (H, W, 3)."""
    return np.asarray(cv2.transform(light, LUMA[None, :]))


def expand_highlights(frame: Frame, params: Any, scene: Scene) -> Frame:
    """Return `frame` with clipped highlights brighter than white, by `params.highlights` (0 leaves them).

    An 8-bit photograph says 1 for everything from white to the sun. Only channels above 0.97, which cannot be told
    from clipped ones, gain light, so that clipping gives the clean image back within one code.
    """
    if params.highlights == 0:
        return frame
    over = np.maximum(frame.clean - np.float32(0.97), 0) * np.float32(1 / 0.03)
    return replace(frame, degraded=frame.clean + np.float32(params.highlights) * over * over)
