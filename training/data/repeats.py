"""The same pairs for several steps, cut elsewhere each time: decoding a photograph costs more than a small step.

A pair of 0.4 megapixels is decoded in 12 ms, a step of the small restorer spends 25 ms on each of its samples.
"""

from collections import OrderedDict
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.examples import Look, Pair, Rows, Source


class Repeated:
    """A source whose pairs come `repeats` steps in a row, decoded once; crops, noise and levels still differ.

    The places of a batch take turns with new pairs, so that a step does not resemble the one before more than it must,
    and decodes no more than any other.
    """

    def __init__(self, source: Source, *, batch: int, repeats: int) -> None:
        self._batch, self._repeats = batch, repeats
        self._pair = lru_cache(maxsize=2 * batch)(source.pair)

    def pair(self, position: int) -> Pair:
        """Return the pair of a position."""
        step, place = divmod(position, self._batch)
        turn = (step + place * self._repeats // self._batch) // self._repeats
        return self._pair(turn * self._batch + place)


def remembering(look: Look, size: int) -> Look:
    """Return `look` with its last `size` answers kept, for images that come again: the same object, not its like."""
    kept: OrderedDict[tuple[int, str], tuple[NDArray[Any], Rows]] = OrderedDict()
    lock = Lock()

    def looked(image: NDArray[np.uint8], prompt: str) -> Rows:
        key = (id(image), prompt)  # unique for as long as the image is kept
        with lock:
            if key in kept:
                return kept[key][1]
        rows = look(image, prompt)
        with lock:
            kept[key] = (image, rows)
            while len(kept) > size:
                kept.popitem(last=False)
        return rows

    return looked
