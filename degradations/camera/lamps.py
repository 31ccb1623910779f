"""The lamps of a photograph: clipped spots that in the dark are brighter than white.

Glints on fur and leaves are clipped too, by daylight; in the dark they would shine like a string of lights. So a lamp
is clipped over LAMP_SIDE and more and stands before something darker, as no clipped sky does. Where a white backdrop is
clipped there is none: its parts seen between an arm and a body would shine, too. But in a photograph that is dark
already every clipped spot is one.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from degradations.numerics.light import NEARLY_WHITE, decode, luminance
from degradations.pairs.contract import Light
from degradations.pairs.severity import pixels
from storage.records import Image

LAMP_SIDE = 16.0  # pixels at 1024
NIGHT = 70  # median code of green below which even the smallest clipped spot is a lamp
CLIPPED = 253  # code from which a channel counts as clipped
CELLS = 4  # to LAMP_SIDE, of the copy on which lamps are told from skies
LARGEST = 0.06  # of the picture: what is clipped over more is a backdrop
LIT = 230  # code from which what is beside clipped pixels of a lamp is lit: compression has rung there
RUNG = 9  # pixels, how far around
DARKER = 0.45  # light around a lamp: a sky that is clipped in places is about as bright in others


@dataclass(frozen=True, slots=True, kw_only=True)
class Lamps:
    """places: of their pixels in the flattened picture, rising, (N,). light: of each, linear, float32 (N, 3)."""

    places: NDArray[np.intp]
    light: Light

    def shine(self, light: Light, rows: slice, out: Light) -> None:
        """Write `light` (H, W, 3), some rows of the picture, with its lamps to `out`."""
        if out is not light:
            np.copyto(out, light)
        start = rows.start * light.shape[1]
        first, last = np.searchsorted(self.places, (start, start + light.shape[0] * light.shape[1]))
        out.reshape(-1, 3)[self.places[first:last] - start] = self.light[first:last]


def lamps_of(image: Image, highlights: float) -> Lamps:
    """Return the lamps of `image`, uint8 (H, W, 3), up to `highlights` over white; none if that is 0.

    A pixel at the rim that a lamp covers in part is brighter by as much as the lamp itself.
    """
    lit = _lit(image) if highlights else None
    if lit is None:
        return Lamps(places=np.empty(0, np.intp), light=np.empty((0, 3), np.float32))
    covered = cv2.blur(lit, (3, 3)).reshape(-1)
    places = np.flatnonzero(covered)
    gain = 1 + covered[places, None] * np.float32(highlights / 255)
    return Lamps(places=places, light=decode(image.reshape(-1, 3)[places]) * gain)


def _lit(image: Image) -> NDArray[np.uint8] | None:
    """Return 255 where `image` shows a lamp, uint8 (H, W), or None if it shows none."""
    cell = max(1, round(pixels(LAMP_SIDE, image.shape) / CELLS))
    size = (max(1, image.shape[1] // cell), max(1, image.shape[0] // cell))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8).reshape(*size[::-1], 3)
    lamp = None if np.median(small[..., 1]) < NIGHT else _before_dark(small)
    if lamp is not None and not lamp.any():
        return None
    white = cv2.inRange(image, (NEARLY_WHITE,) * 3, (255,) * 3)
    if lamp is not None:
        core = cv2.resize(lamp, image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        white &= cv2.dilate(core, np.ones((2 * cell + 1, 2 * cell + 1), np.uint8))  # with the lamp's soft edge
    lit = cv2.dilate(white, np.ones((RUNG, RUNG), np.uint8)) & cv2.inRange(image, (LIT,) * 3, (255,) * 3)
    return np.asarray(lit, dtype=np.uint8)


def _before_dark(small: Image) -> Image:
    """Return 255 where `small`, of CELLS to LAMP_SIDE, is clipped over that and more, before something darker.

    Nowhere if a backdrop is clipped.
    """
    clipped = cv2.inRange(small, (CLIPPED,) * 3, (255,) * 3)
    core = cv2.morphologyEx(clipped, cv2.MORPH_OPEN, np.ones((CELLS - 1, CELLS - 1), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(core)
    light, most = luminance(decode(small)), LARGEST * core.size
    sizes = stats[:, cv2.CC_STAT_AREA]
    if (sizes[1:] > most).any():
        return np.zeros_like(core)
    kept = [label for label in range(1, count) if _around(labels == label, light) < DARKER]
    return np.asarray(255 * np.isin(labels, kept), dtype=np.uint8)


def _around(inside: NDArray[np.bool_], light: Light) -> float:
    """Return the median of `light` around what is `inside`; infinite where there is nothing around."""
    near, soft = (cv2.dilate(inside.astype(np.uint8), np.ones((side, side), np.uint8)) for side in (9, 3))
    ring = light[(near > 0) & (soft == 0)]
    return float(np.median(ring)) if ring.size else float("inf")
