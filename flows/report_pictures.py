"""Small pictures for the report: lossy, at most 480 wide, together below a budget of bytes.

What is seen must be what changed. A degradation that survives the reduction, such as haze, is shown on the whole image;
noise or blocks would vanish, so of these a detail is shown pixel for pixel, where they changed most.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import PIL.Image

from storage.records import Image

SIDE = 480  # of a picture, at most
DETAIL = (216, 324)  # rows and columns of a detail: the page shows pictures about 250 to 360 wide
VISIBLE = (
    0.85  # of the change, in rms, must survive that: haze, rain, flare keep 0.89 to 1, noise and blocks 0.3 to 0.8
)
BUDGET = 4_200_000  # bytes of all pictures before base64, which adds a third: a report stays below 6 MB
TRIES = ((1.0, 80), (1.0, 65), (0.8, 60), (0.6, 55), (0.4, 50), (0.25, 40), (0.1, 20))  # scale and quality


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What an <img> needs. detail: it shows a part of the image at full size."""

    uri: str
    width: int
    height: int
    detail: bool = False


class Pictures:
    """Makes `count` pictures that together keep the budget; a picture that needs less leaves more to the others."""

    def __init__(self, count: int, budget: int = BUDGET) -> None:
        self.left, self._count = budget, count

    def pair(self, clean: Image, degraded: Image) -> tuple[Picture, Picture]:
        """Return the pictures of both sides of a pair, cut, scaled and coded alike."""
        first, second, detail = view(clean, degraded)
        one, other = self._pictures((first, second), detail=detail)
        return one, other

    def whole(self, one: Image, other: Image, side: int) -> tuple[Picture, Picture]:
        """Return the pictures of two images, never a detail, with no side longer than `side`."""
        first, second = self._pictures((reduced(one, side), reduced(other, side)), detail=False)
        return first, second

    def one(self, image: Image) -> Picture:
        """Return the picture of an image."""
        return self._pictures((reduced(image),), detail=False)[0]

    def _pictures(self, images: Sequence[Image], *, detail: bool) -> list[Picture]:
        share = len(images) * self.left // max(1, self._count)
        coded = ([_webp(image, *way) for image in images] for way in TRIES)
        data = next((found for found in coded if sum(map(len, found)) <= share), [b""] * len(images))
        self.left, self._count = self.left - sum(map(len, data)), self._count - len(images)
        return [_picture(image, found, detail=detail) for image, found in zip(images, data, strict=True)]


def view(clean: Image, degraded: Image) -> tuple[Image, Image, bool]:
    """Return both images reduced, or the same detail of both; and whether it is a detail."""
    seen = (reduced(image, max(DETAIL)) for image in (clean, degraded))
    if _rms(*seen) >= VISIBLE * _rms(clean, degraded):
        return reduced(clean), reduced(degraded), False
    rows, columns = (min(size, side) for size, side in zip(DETAIL, clean.shape[:2], strict=True))
    top, left = _most_changed(clean, degraded, rows, columns)
    window = slice(top, top + rows), slice(left, left + columns)
    return clean[window], degraded[window], True


def reduced(image: Image, side: int = SIDE) -> Image:
    """Return `image` with no side longer than `side`, aspect kept; never enlarged."""
    scale = min(1.0, side / max(image.shape))
    return image if scale == 1 else _scaled(image, scale)


def _scaled(image: Image, scale: float) -> Image:
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _rms(one: Image, other: Image) -> float:
    return float(cv2.norm(one, other, cv2.NORM_L2)) / float(np.sqrt(one.size))


def _most_changed(clean: Image, degraded: Image, rows: int, columns: int) -> tuple[int, int]:
    change = cv2.absdiff(clean, degraded).max(axis=2)
    summed = cv2.integral(change)
    windows = summed[rows:, columns:] - summed[:-rows, columns:] - summed[rows:, :-columns] + summed[:-rows, :-columns]
    top, left = np.unravel_index(int(windows.argmax()), windows.shape)
    return int(top), int(left)


def _picture(image: Image, data: bytes, *, detail: bool) -> Picture:
    uri = f"data:image/webp;base64,{base64.b64encode(data).decode()}" if data else "data:,"
    return Picture(uri=uri, width=image.shape[1], height=image.shape[0], detail=detail)


def _webp(image: Image, scale: float, quality: int) -> bytes:
    stream = io.BytesIO()
    pixels = image if scale == 1 else _scaled(image, scale)
    PIL.Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "WEBP", quality=quality, method=4)
    return stream.getvalue()
