"""Work on a picture a few rows at a time: intermediate planes stay in the cache, and no page is touched twice.

At one megapixel a chain of ten float32 planes spends more time in page faults and on the way to memory than in
arithmetic. Parts that work row by row say so (`ByRows`), and `render` then takes a strip through all of them at once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import cv2
import numpy as np

from degradations.pairs.contract import Frame, Light
from storage.records import Image, Scene

PIXELS = 2**15  # in a strip: its light takes 384 KB

Work = Callable[[Light, slice, Light], None]
"""work(light, rows, out) writes to `out` what becomes of `light`, some `rows` of the picture; they share no memory."""


@dataclass(frozen=True, slots=True)
class FromCodes:
    """Work that can also begin with codes, while nothing has changed the photograph.

    go_on: the work on light. gains: float32 (256,), what it adds to a pixel whose least code is 0 to 255.
    """

    go_on: Work
    gains: Light

    def __call__(self, light: Light, rows: slice, out: Light, /) -> None:
        """Write to `out` what becomes of `light`."""
        self.go_on(light, rows, out)


@dataclass(frozen=True, slots=True)
class IntoCodes:
    """Work that can also end with codes, where nothing comes after it.

    go_on: the work on light. end(rows, out): writes to `out`, uint8, what encoding makes of these rows.
    """

    go_on: Work
    end: Callable[[slice, Image], None]

    def __call__(self, light: Light, rows: slice, out: Light, /) -> None:
        """Write to `out` what becomes of `light`."""
        self.go_on(light, rows, out)


@dataclass(frozen=True, slots=True)
class Stream:
    """The light of a picture of `shape`, which comes once, strip by strip, from top to bottom.

    strips: the rows and their light, which is gone with the next. known: all of it, if it is there already. codes:
    uint8 (H, W, 3), if nothing has changed the photograph but `gains` (see `FromCodes`).
    """

    shape: tuple[int, ...]
    strips: Iterator[tuple[slice, Light]]
    known: Light | None = None
    codes: Image | None = None
    gains: Light = field(default_factory=lambda: np.zeros(256, np.float32))

    def light(self) -> Light:
        """Return all of the light, float32 of `shape`."""
        if self.known is not None:
            return self.known
        out = np.empty(self.shape, np.float32)
        for rows, light in self.strips:
            out[rows] = light
        return out


def streamed(light: Light) -> Stream:
    """Return `light`, (H, W) or (H, W, C), strip by strip."""
    return Stream(light.shape, ((rows, light[rows]) for _, _, rows in strips(light.shape)), known=light)


def unread(shape: tuple[int, ...]) -> Light:
    """Return light of `shape`, without memory of its own, in the place of light that work does not look at."""
    return np.broadcast_to(np.float32(0), shape)


@dataclass(frozen=True, slots=True)
class Gathering:
    """A part whose rows depend on each other's light: it takes in all of it, and then works by rows.

    gather(stream, params, scene) returns the work, which does not look at the light that it is given. idle(params):
    whether there is none.
    """

    gather: Callable[[Stream, Any, Scene], Work]
    idle: Callable[[Any], bool]

    def __call__(self, frame: Frame, params: Any, scene: Scene, /) -> Frame:
        """Return `frame` with the work done to all of its rows."""
        if self.idle(params):
            return frame
        shape = frame.degraded.shape
        return replace(frame, degraded=whole(self.gather(streamed(frame.degraded), params, scene), unread(shape)))


@dataclass(frozen=True, slots=True)
class ByRows:
    """A part whose rows do not depend on each other's light once `prepare` has made ready what they share.

    prepare(frame, params, scene) returns the work, or a frame when it cannot be done by rows. idle(params): whether
    there is none. looks: what of the frame `prepare` reads; where that is nothing, the parts before need not be done
    with. As long as no part has changed anything, both sides are the scene's uint8 image (see `linear`).
    """

    prepare: Callable[[Frame, Any, Scene], Frame | Work]
    idle: Callable[[Any], bool]
    looks: Literal["nothing", "degraded", "both"] = "nothing"

    def __call__(self, frame: Frame, params: Any, scene: Scene, /) -> Frame:
        """Return `frame` with the work done to all of its rows."""
        work = frame if self.idle(params) else self.prepare(frame, params, scene)
        if isinstance(work, Frame):
            return work
        return replace(frame, degraded=whole(work, frame.degraded))


def whole(work: Work, light: Light) -> Light:
    """Return what becomes of all of `light`, (H, W) or (H, W, C), by `work`."""
    out = np.empty(light.shape, np.float32)
    for _, _, rows in strips(light.shape, pixels=3 * PIXELS // (light.shape[2] if light.ndim > 2 else 1)):
        work(light[rows], rows, out[rows])
    return out


def strips(
    shape: tuple[int, ...], *, halo: int = 0, step: int = 8, pixels: int = PIXELS
) -> Iterator[tuple[slice, slice, slice]]:
    """Yield, from top to bottom, the rows to read, the rows of those to keep, and where these go.

    halo: rows read above and below what is kept. Strips begin at multiples of `step`, and so do their halos. pixels: in
    a strip, about.
    """
    height, width = shape[:2]
    size = max(step, pixels // max(width, 1) // step * step)
    margin = -(-halo // step) * step
    for top in range(0, height, size):
        bottom = min(height, top + size)
        first = max(0, top - margin)
        yield slice(first, min(height, bottom + margin)), slice(top - first, bottom - first), slice(top, bottom)


def widened(small: Light, width: int) -> Light:
    """Return `small` (h, w) or (h, w, C) enlarged to `width` columns, linearly; kernels do the rows (`between`)."""
    wide = cv2.resize(small, (width, len(small)), interpolation=cv2.INTER_LINEAR)
    return np.asarray(wide).reshape(len(small), width, *small.shape[2:])


def enlarged(small: Light, rows: slice, shape: tuple[int, ...]) -> Light:
    """Return some rows of `small` enlarged to `shape` (H, W), linearly: the same as all at once, but in the cache.

    rows: begin at a multiple of 8, and end at one or with the picture.
    """
    if small.shape[:2] == shape[:2]:
        return small[rows]
    factor = shape[0] // len(small)
    if factor in (2, 4, 8) and len(small) * factor == shape[0]:
        first, last = max(0, rows.start // factor - 1), -(-rows.stop // factor) + 1
        block = small[first:last]
        grown = cv2.resize(block, (shape[1], len(block) * factor), interpolation=cv2.INTER_LINEAR)
        return np.asarray(grown[rows.start - first * factor :][: rows.stop - rows.start])
    place = (np.arange(rows.start, rows.stop) + 0.5) * (len(small) / shape[0]) - 0.5
    place = np.clip(place, 0, len(small) - 1)
    first = place.astype(np.int64)
    second = np.minimum(first + 1, len(small) - 1)
    share = (place - first).astype(np.float32).reshape(-1, *[1] * (small.ndim - 1))
    block = small[first] + (small[second] - small[first]) * share
    return np.asarray(cv2.resize(block, (shape[1], len(block)), interpolation=cv2.INTER_LINEAR))
