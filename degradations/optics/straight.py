"""Straight, even motion of light: three or more copies of a short line, side by side, row by row in the cache."""

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from degradations.numerics.light import DECODE, ENCODE
from degradations.numerics.strips import IntoCodes, Stream, Work, streamed, whole
from degradations.optics.psf import line, point_spread, splat, stroke
from degradations.pairs.contract import Light
from storage.records import Image

SHORT = 12.0  # pixels of a motion that is one kernel


class _Taps(NamedTuple):
    """A symmetric kernel and the window of rows on which it works, as `kernels.motion` has them."""

    places: NDArray[np.int64]
    weights: Light
    window: Light


def motion(light: Light, length: float, angle: float) -> Light:
    """Return `light` blurred by a straight, even motion of `length` pixels at `angle` (as `line`)."""
    return whole(moving(streamed(light), length, angle), light)


def moving(stream: Stream, length: float, angle: float) -> Work:
    """Return the work that writes the rows of the light of `stream` blurred by a straight, even motion (see `motion`).

    Rows are to be asked for once, from top to bottom.
    """
    from degradations.kernels.motion import move, move_codes

    first, last = (_taps(kernel, stream.shape) for kernel in strokes(length, angle))
    light = cache(stream.light)

    def go_on(_: Light, rows: slice, out: Light) -> None:
        seen, channels = light().reshape(stream.shape[0], -1), math.prod(stream.shape[2:])
        move(seen, channels, *first, *last, rows.start, out.reshape(len(out), -1))

    if stream.codes is None:
        return go_on
    codes = stream.codes.reshape(stream.shape[0], -1)

    def end(rows: slice, out: Image) -> None:
        move_codes(codes, DECODE, stream.gains, *first, *last, ENCODE, rows.start, out.reshape(len(out), -1))

    return IntoCodes(go_on, end)


def strokes(length: float, angle: float) -> tuple[Light, Light]:
    """Return the two kernels that, one after the other, are a straight, even motion; each is its own mirror image.

    A long line is a short one repeated: copies of it lie side by side, between pixels linearly. Both together have the
    fewest taps if there are about as many copies as the square root of half the length.
    """
    if length <= SHORT:
        return point_spread(line(length, angle)), np.ones((1, 1), np.float32)
    count = 1 + 2 * round((math.sqrt(length / 2) - 1) / 2)
    step = length / count
    places = np.outer(np.arange(count) - count // 2, (step * math.cos(angle), step * math.sin(angle)))
    return stroke(step, angle), splat(places)


def _taps(kernel: Light, shape: tuple[int, ...]) -> _Taps:
    """Return one of each two opposite taps of `kernel`, for a picture of `shape`, and the middle one.

    As loops take four pairs, and then two at a time, some that weigh nothing may come with them.
    """
    taps, side, channels = kernel.reshape(-1), len(kernel), math.prod(shape[2:])
    found = np.flatnonzero(taps[: taps.size // 2] > 1e-9)  # below are rounding errors of shares
    count = max(4, len(found) + len(found) % 2) if len(found) else 0
    places, weights = np.zeros((count, 2), np.int64), np.zeros(count + 1, np.float32)
    places[: len(found), 0] = found // side - side // 2
    places[: len(found), 1] = (found % side - side // 2) * channels
    weights[: len(found)], weights[-1] = taps[found], taps[taps.size // 2]
    down, across = np.abs(places).max(axis=0, initial=0).tolist()
    return _Taps(places, weights, np.empty((2 * down + 1, shape[1] * channels + 2 * across), np.float32))
