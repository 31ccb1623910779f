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
from degradations._tables import look_up
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
_OVER = np.maximum((_DECODE - np.float32(0.97)) / np.float32(0.03), 0) ** 2  # how far a code is into clipping, 0 to 1
_NEARLY_WHITE = int(np.argmax(_OVER > 0))  # the first code that is
_CHUNK = 98304  # values worked on at a time, so that they stay in the cache
_WHOLE = 2.0**23  # float32 from here on are whole numbers
_FEW = 1 / 32  # of the pixels: as many highlights are worked on one by one


def decode(image: Image) -> Light:
    """Return the linear light, float32 in [0, 1], of a uint8 sRGB image of any shape."""
    return np.asarray(cv2.LUT(image, _DECODE), dtype=np.float32).reshape(image.shape)


def encode(light: Light) -> Image:
    """Return the uint8 sRGB image of linear light of any shape; clips to [0, 1], rounds to nearest."""
    flat = np.ascontiguousarray(light).reshape(1, -1)
    out = np.empty(flat.shape, np.uint8)
    for start in range(0, flat.size, _CHUNK):
        part, target = flat[:, start : start + _CHUNK], out[:, start : start + _CHUNK]
        look_up(quantised(part), _ENCODE, out=target)
    return out.reshape(light.shape)


def quantised(light: Light) -> NDArray[np.uint16]:
    """Return `light` (N, M) in [0, 1] as codes of 16 bits; clips, and rounds to the nearest, to even at a tie."""
    whole = cv2.addWeighted(light, 65535.0, light, 0.0, _WHOLE)  # fused: rounds once, so no tie goes astray
    return np.asarray(cv2.addWeighted(whole, 1.0, whole, 0.0, -_WHOLE, dtype=cv2.CV_16U))


def luminance(light: Light) -> Light:
    """Return the luminance, float32 (H, W), of linear light (H, W, 3)."""
    return np.asarray(cv2.transform(light, LUMA[None, :]))


def expand_highlights(frame: Frame, params: Any, scene: Scene) -> Frame:
    """Return `frame` with clipped highlights brighter than white, by `params.highlights` (0 leaves them).

    An 8-bit photograph says 1 for everything from white to the sun. Only pixels of which all channels are above 0.97,
    and cannot be told from clipped ones, gain light, the same in each, so that clipping gives the clean image back
    within three codes. Where a channel is not clipped the colour is known: a pale sky would turn violet.
    """
    if params.highlights == 0 or scene.image.max() < _NEARLY_WHITE:
        return frame
    return replace(frame, degraded=brightened(scene.image, params.highlights))


def brightened(image: Image, highlights: float) -> Light:
    """Return the linear light of `image`, uint8 (H, W, 3), with highlights up to 1 + `highlights`."""
    light = decode(image)
    white = np.flatnonzero(cv2.inRange(image, (_NEARLY_WHITE,) * 3, (255,) * 3))
    if white.size < _FEW * image.size / 3:
        over = _OVER[image.reshape(-1, 3)[white].min(axis=1)]
        light.reshape(-1, 3)[white] += (over**3 * np.float32(highlights))[:, None]
        return light
    rows = max(1, _CHUNK // (3 * image.shape[1]))
    for top in range(0, len(image), rows):
        strip = image[top : top + rows]
        if strip.max() >= _NEARLY_WHITE:
            red, green, blue = cv2.split(cv2.LUT(strip, _OVER))
            gain = cv2.pow(cv2.min(cv2.min(red, green), blue), 3) * np.float32(highlights)
            light[top : top + rows] += gain.reshape(*strip.shape[:2], 1)
    return light
