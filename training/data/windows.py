"""A window of each pair in place of the whole: a few photographs, looked at as a whole, are learnt by heart.

What the small restorer does to light follows from a glance at the whole image. Of some fifty photographs it knows each
glance soon; another part of a photograph is another photograph to it.
"""

from dataclasses import dataclass, replace

from training.data.crops import Box, cut
from training.data.examples import Pair, Source
from training.data.plan import uniform


@dataclass(frozen=True, slots=True, kw_only=True)
class Windowed:
    """A source whose pairs are windows of those of `source`, placed by `key` and the position.

    least: share of a side that is kept at least, (0, 1]. side: pixels that are kept at least, where there are so many.
    """

    source: Source
    least: float
    side: int
    key: str

    def pair(self, position: int) -> Pair:
        """Return the window of the pair of a position."""
        pair = self.source.pair(position)
        key = f"{self.key}/{position}/window"
        height, top = self._extent(pair.clean.shape[0], f"{key}/rows")
        width, left = self._extent(pair.clean.shape[1], f"{key}/columns")
        place = Box(top=top, left=left, height=height, width=width)
        clean, degraded = cut((pair.clean, pair.degraded), place, (height, width))
        return replace(pair, clean=clean, degraded=degraded)

    def _extent(self, whole: int, key: str) -> tuple[int, int]:
        """Return how long a window is along one side, and where it starts."""
        share = self.least + (1 - self.least) * uniform(f"{key}/extent")
        length = min(whole, max(self.side, round(share * whole)))
        return length, int(uniform(f"{key}/start") * (whole - length + 1))
