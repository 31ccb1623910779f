"""Codecs: uint8 sRGB in, uint8 sRGB out, through the bytes of WebP or AVIF, or the arithmetic of JPEG or of a video.

WebP and AVIF are Pillow's: what they return depends on the library underneath, which `version` names. A JPEG loses what
libjpeg-turbo's does, to the last bit (`jpeg`), whatever is installed.
"""

import io
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import features

from degradations.coding.jpeg import coded
from degradations.coding.quantisation import STANDARD, percent
from degradations.numerics.random import gaussian_field
from storage.records import Image

Codec = Literal["jpeg", "webp", "avif", "video"]
Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]
HALVING: dict[Subsampling, tuple[int, int]] = {"4:4:4": (1, 1), "4:2:2": (1, 2), "4:2:0": (2, 2)}  # rows, columns
_SLOPE = (np.add.outer(np.arange(8), np.arange(8)) + 1) / 4.0  # of frequency, 1 where tables have their middle


def version(codec: Codec) -> str:
    """Return what makes the bytes of `codec`, and its version; raises ValueError if this Pillow lacks it."""
    if codec == "video":
        return "video 3"
    if codec == "jpeg":
        return "jpeg 1 (libjpeg-turbo's arithmetic)"
    found = features.version_module(codec)
    if found is None:
        raise ValueError(f"this Pillow has no {codec}; leave it out of the options of compression")
    return f"{codec} {found}"


def jpeg(
    image: Image,
    *,
    quality: int,
    subsampling: Subsampling,
    tilt: float = 0.0,
    table_seed: int = 0,
    before: tuple[int, int] = (0, 0),
) -> Image:
    """Return `image`, uint8 (H, W, 3), after a baseline JPEG of `quality` 1 to 100.

    tilt, table_seed: as `tables`; 0 and 0 are the standard tables. before: as `coded`.
    """
    steps = tables(quality, tilt=tilt, table_seed=table_seed).reshape(2, 64)
    return coded(image, steps, halving=HALVING[subsampling], before=before)


def webp(image: Image, *, quality: int) -> Image:
    """Return `image`, uint8 (H, W, 3), after a lossy WebP of `quality` 0 to 100, by the fastest method."""
    return _through(image, "WEBP", quality=quality, method=0)


def avif(image: Image, *, quality: int, subsampling: Subsampling) -> Image:
    """Return `image`, uint8 (H, W, 3), after an AVIF of `quality` 0 to 100, by the fastest method and one thread."""
    return _through(image, "AVIF", quality=quality, speed=10, subsampling=subsampling, max_threads=1)


def tables(quality: int, *, tilt: float, table_seed: int) -> NDArray[np.int32]:
    """Return the quantisation steps of luma and of chroma, (2, 8, 8), of `quality` 1 to 100.

    tilt: exponent by which steps grow with frequency beyond the standard, below 0 as in cameras' flatter tables.
    table_seed: of a factor exp(N(0, 0.15)) on each step, 0 none.
    """
    steps = STANDARD * (percent(quality) / 100)
    if tilt:
        steps = steps * _SLOPE**tilt
    if table_seed:
        steps = steps * np.exp(0.15 * np.stack([gaussian_field((8, 8), table_seed, stream=index) for index in (0, 1)]))
    return np.clip(np.floor(steps + 0.5), 1, 255).astype(np.int32)


def _through(image: Image, form: str, **settings: object) -> Image:
    with Pillow.open(_saved(image, form, **settings)) as decoded:
        return np.array(decoded.convert("RGB"), dtype=np.uint8)


def _saved(image: Image, form: str, **settings: object) -> io.BytesIO:
    stream = io.BytesIO()
    Pillow.fromarray(np.ascontiguousarray(image)).save(stream, form, **settings)
    return stream
