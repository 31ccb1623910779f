"""Between storage and light: sRGB uint8 to linear float32 and back, without losing a code.

IEC 61966-2-1. Decoding is exact by table; encoding quantises to 16 bits and looks the code up. The pair returns all 256
codes unchanged.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from degradations.numerics.strips import ByRows, FromCodes, Work, strips
from degradations.pairs.contract import Frame, Light
from storage.records import Image, Scene

LUMA = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)  # Rec. 709 luminance of linear light


def srgb_to_linear(srgb: NDArray[Any]) -> NDArray[Any]:
    """Return linear light of sRGB values in [0, 1] (float of any shape)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(light: NDArray[Any]) -> NDArray[Any]:
    """Return sRGB values of linear light in [0, 1] (float of any shape)."""
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055)


DECODE = srgb_to_linear(np.arange(256) / 255).astype(np.float32)
ENCODE = np.rint(linear_to_srgb(np.arange(65536) / 65535) * 255).astype(np.uint8)
_OVER = np.maximum((DECODE - np.float32(0.97)) / np.float32(0.03), 0) ** 2  # how far a code is into clipping, 0 to 1
_GAINS = _OVER**3
NEARLY_WHITE = int(np.argmax(_OVER > 0))  # the first code that is


def decode(image: Image, *, out: Light | None = None) -> Light:
    """Return the linear light, float32 in [0, 1], of a uint8 sRGB image of any shape.

    out: contiguous, of the shape of `image`; written to and returned if given.
    """
    from degradations.kernels import codes

    out = np.empty(image.shape, np.float32) if out is None else out
    codes.decode(np.ascontiguousarray(image).reshape(-1), DECODE, out.reshape(-1))
    return out


def encode(light: Light, *, out: Image | None = None) -> Image:
    """Return the uint8 sRGB image of linear light of any shape; clips to [0, 1], rounds to nearest.

    out: contiguous, of the shape of `light`; written to and returned if given.
    """
    from degradations.kernels import codes

    out = np.empty(light.shape, np.uint8) if out is None else out
    codes.encode(np.ascontiguousarray(light).reshape(-1), ENCODE, out.reshape(-1))
    return out


def linear(side: NDArray[Any]) -> Light:
    """Return the light of a side of a frame, which is still the uint8 image where nothing has changed it."""
    return decode(side) if side.dtype == np.uint8 else side


def luminance(light: Light) -> Light:
    """Return the luminance, float32 (H, W), of linear light (H, W, 3)."""
    return np.asarray(cv2.transform(light, LUMA[None, :]))


def _expand(frame: Frame, params: Any, scene: Scene) -> Frame | Work:
    """Brighten clipped highlights beyond white, by `params.highlights` (0 leaves them).

    An 8-bit photograph says 1 for everything from white to the sun. Only pixels of which all channels are above 0.97,
    and cannot be told from clipped ones, gain light, the same in each, so that clipping gives the clean image back
    within three codes. Where a channel is not clipped the colour is known: a pale sky would turn violet.
    """
    image, gains = np.ascontiguousarray(scene.image), _gains(params.highlights)
    if not any((image[rows] >= NEARLY_WHITE).any() for _, _, rows in strips(image.shape)):
        return frame
    return FromCodes(lambda light, rows, out: _brighten(light, image[rows], gains, out), gains)


expand_highlights = ByRows(_expand, idle=lambda params: params.highlights == 0)


def brightened(image: Image, highlights: float) -> Light:
    """Return the linear light of `image`, uint8 (H, W, 3), with highlights up to 1 + `highlights`."""
    out = np.empty(image.shape, np.float32)
    decode_bright(np.ascontiguousarray(image), _gains(highlights), out)
    return out


def decode_bright(image: Image, gains: Light, out: Light) -> None:
    """Write the light of `image` and what its clipped parts hold beyond white, `gains` (256,), to `out`, (H, W, 3)."""
    from degradations.kernels import codes

    codes.decode_bright(image.reshape(-1), DECODE, gains, out.reshape(-1))


def _gains(highlights: float) -> Light:
    """Return what lies beyond white in pixels whose least code is 0 to 255, float32 (256,)."""
    return np.asarray(_GAINS * np.float32(highlights))


def _brighten(light: Light, image: Image, gains: Light, out: Light) -> None:
    """Write `light` and what its clipped parts, told by `image`, hold beyond white to `out`, all (H, W, 3)."""
    from degradations.kernels import codes

    codes.brighten(light.reshape(-1), image.reshape(-1), gains, out.reshape(-1))
