"""Sizes that are trained at, and where they are cut: one box for the clean and the degraded image.

All sizes have about the same area, so that every step costs the same, and one size is fixed for a step, not for a rank.
Both images are cut by the same box before either is scaled; scaled first, each by its own size, they would shift.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.plan import uniform

Image = NDArray[np.uint8]
Size = tuple[int, int]  # (height, width)

RATIOS = (1.0, 4 / 3, 3 / 2, 16 / 9)  # and their transposes
Scale = Literal["native", "cover"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """Where an image is cut."""

    top: int
    left: int
    height: int
    width: int


def middle(place: Box, image: Size) -> tuple[float, float]:
    """Return where the middle of a box lies in an image, (row, column), 0 to 1 unless the box reaches beyond."""
    return (place.top + place.height / 2) / image[0], (place.left + place.width / 2) / image[1]


def bucket_sizes(side: int, multiple: int, *, square: bool = False) -> list[Size]:
    """Return the sizes of about `side` squared pixels, both sides multiples of `multiple`; `square`: only that one."""
    if side < multiple:
        raise ValueError(f"the size must be at least {multiple}, one token, got {side}")
    found: dict[Size, None] = {}
    for ratio in RATIOS[:1] if square else RATIOS:
        height, width = (max(multiple, round(edge / multiple) * multiple) for edge in _edges(side, ratio))
        found |= {(height, width): None, (width, height): None}
    return list(found)


def _edges(side: int, ratio: float) -> tuple[float, float]:
    return side / math.sqrt(ratio), side * math.sqrt(ratio)


def bucket_shares(buckets: list[Size], sizes: Mapping[Size, int]) -> list[float]:
    """Return the share of images, counted by (height, width), nearest in shape to each bucket; else all the first."""
    shares = [0.0] * len(buckets)
    for (height, width), count in sizes.items():
        distances = [abs(math.log(height * w / (width * h))) for h, w in buckets]
        shares[distances.index(min(distances))] += count
    total = sum(shares)
    return [share / total for share in shares] if total else [1.0, *shares[1:]]


def bucket_of(step: int, buckets: list[Size], shares: list[float], key: str) -> Size:
    """Return the size of a step: drawn by the shares, a function of `key` and the step alone."""
    drawn, total = uniform(f"{key}/bucket/{step}"), 0.0
    for size, share in zip(buckets, shares, strict=True):
        total += share
        if drawn < total:
            return size
    return buckets[shares.index(max(shares))]


def box(image: Size, size: Size, scale: Scale, key: str) -> Box:
    """Return the box that is cut for `size` out of an image of size `image`, placed by `key`.

    native: as large as `size` itself. cover: the largest of its shape; so is a native one that does not fit.
    """
    height, width = size
    if scale == "cover" or height > image[0] or width > image[1]:
        factor = min(image[0] / height, image[1] / width)
        height, width = (min(edge, max(1, round(s * factor))) for edge, s in zip(image, size, strict=True))
    top = int(uniform(f"{key}/top") * (image[0] - height + 1))
    left = int(uniform(f"{key}/left") * (image[1] - width + 1))
    return Box(top=top, left=left, height=height, width=width)


def cut(images: tuple[Image, Image], place: Box, size: Size) -> tuple[Image, Image]:
    """Return both images, uint8 (h, w, 3), cut at one place and scaled alike to `size` where the box has another."""
    window = np.s_[place.top : place.top + place.height, place.left : place.left + place.width]
    first, second = (image[window] for image in images)
    if (place.height, place.width) == size:
        return np.ascontiguousarray(first), np.ascontiguousarray(second)
    return _resized(first, size), _resized(second, size)


def _resized(window: Image, size: Size) -> Image:
    """Return the window scaled: both of a pair have one shape, so they are sampled at the same places.

    One by one, because OpenCV 5 shrinks no more than four channels at once.
    """
    kind = cv2.INTER_AREA if size[0] < window.shape[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(np.ascontiguousarray(window), size[::-1], interpolation=kind), dtype=np.uint8)
