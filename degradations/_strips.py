"""Work on a picture a few rows at a time: intermediate planes stay in the cache, and no page is touched twice.

At one megapixel a chain of ten float32 planes spends more time in page faults than in arithmetic.
"""

from collections.abc import Iterator

PIXELS = 2**17  # in a strip


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
