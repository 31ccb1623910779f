"""Work on a picture a few rows at a time: intermediate planes stay in the cache, and no page is touched twice.

At one megapixel a chain of ten float32 planes spends more time in page faults than in arithmetic.
"""

from collections.abc import Iterator

import cv2
import numpy as np

from degradations._contract import Light

PIXELS = 2**15  # in a strip: its light takes 384 KB


def strips(shape: tuple[int, ...], *, halo: int = 0, step: int = 8) -> Iterator[tuple[slice, slice, slice]]:
    """Yield, from top to bottom, the rows to read, the rows of those to keep, and where these go.

    halo: rows read above and below what is kept. Strips begin at multiples of `step`, and so do their halos.
    """
    height, width = shape[:2]
    size = max(step, PIXELS // max(width, 1) // step * step)
    margin = -(-halo // step) * step
    for top in range(0, height, size):
        bottom = min(height, top + size)
        first = max(0, top - margin)
        yield slice(first, min(height, bottom + margin)), slice(top - first, bottom - first), slice(top, bottom)


def enlarged(small: Light, rows: slice, shape: tuple[int, ...]) -> Light:
    """Return some rows of `small` enlarged to `shape` (H, W), linearly: the same as all at once, but in the cache."""
    place = (np.arange(rows.start, rows.stop) + 0.5) * (len(small) / shape[0]) - 0.5
    place = np.clip(place, 0, len(small) - 1)
    first = place.astype(np.int64)
    second = np.minimum(first + 1, len(small) - 1)
    share = (place - first).astype(np.float32).reshape(-1, *[1] * (small.ndim - 1))
    block = small[first] + (small[second] - small[first]) * share
    return np.asarray(cv2.resize(block, (shape[1], len(block)), interpolation=cv2.INTER_LINEAR))
