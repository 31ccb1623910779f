"""Video frames averaged over an exposure: real motion, real parallax, real occlusion.

The paper's main way to blur (RealRestorer, arXiv 2603.25502, section 3.1). Light is averaged linearly; between frames
the motion is interpolated by optical flow, so that fast things smear and do not repeat.
"""

import math
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from degradations.numerics.light import brightened
from degradations.pairs.contract import Light
from storage.records import Image

SMALL = 256  # short side at which a clip is judged
STEPS = 12  # most views interpolated between two frames


def speed(frames: Image) -> float:
    """Return how many pixels, at min(H, W) = 1024, the faster tenth of the clip moves per frame; -1 across a cut.

    frames: uint8 (K, H, W, 3), K at least 2. A cut is a frame that its neighbour, moved along the
    flow, does not explain.
    """
    small = [_grey(frame) for frame in frames]
    speeds = []
    for before, after in pairwise(small):
        flow = _flow(before, after)
        error = float(np.mean(np.abs(_along(after, flow, 1.0).astype(np.float32) - before)))
        if error > 24:
            return -1.0
        speeds.append(float(np.percentile(np.linalg.norm(flow, axis=2), 90)))
    return float(np.median(speeds) * 1024 / min(small[0].shape))


def exposed(frames: Image, span: float, highlights: float) -> Light:
    """Return the linear light of an exposure of `span` frames around the centre frame of `frames`, (K, H, W, 3)."""
    middle = len(frames) // 2
    half = min(span / 2, float(middle))
    total, weight = brightened(frames[middle], highlights) * np.float32(1e-6), 1e-6
    for index in range(middle - math.ceil(half), middle + math.ceil(half)):
        low, high = max(middle - half, index) - index, min(middle + half, index + 1) - index
        between, share = _between(frames[index], frames[index + 1], low, high, highlights)
        total, weight = total + between * np.float32(share), weight + share
    return np.asarray(total / np.float32(weight), dtype=np.float32)


def _between(first: Image, second: Image, low: float, high: float, highlights: float) -> tuple[Light, float]:
    """Return the mean light from time `low` to `high`, of 0 to 1 between two frames, and its duration."""
    forth, back = _flow(_plain_grey(first), _plain_grey(second)), _flow(_plain_grey(second), _plain_grey(first))
    moved = float(np.percentile(np.linalg.norm(forth, axis=2), 98)) * (high - low)
    count = int(np.clip(math.ceil(moved), 1, STEPS))
    start, end = brightened(first, highlights), brightened(second, highlights)
    total = np.zeros_like(start)
    for time in low + (np.arange(count) + 0.5) / count * (high - low):
        total += np.float32(1 - time) * _along(start, back, float(time))
        total += np.float32(time) * _along(end, forth, float(1 - time))
    return total / np.float32(count), high - low


def _plain_grey(frame: Image) -> Image:
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def _grey(frame: Image) -> Image:
    scale = min(1.0, SMALL / min(frame.shape[:2]), 4 * SMALL / max(frame.shape[:2]))
    size = (max(16, round(frame.shape[1] * scale)), max(16, round(frame.shape[0] * scale)))
    return np.asarray(cv2.resize(_plain_grey(frame), size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _flow(before: Image, after: Image) -> Light:
    """Return where each pixel of `before` is in `after`, as a displacement (column, row)."""
    height, width = before.shape
    below, right = (max(32, max(before.shape) // 4) - side for side in before.shape)  # the finder fails on thin strips
    first, second = (
        cv2.copyMakeBorder(image, 0, max(0, below), 0, max(0, right), cv2.BORDER_REPLICATE) for image in (before, after)
    )
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    return np.asarray(finder.calc(first, second, None)[:height, :width], dtype=np.float32)


def _along(image: NDArray[Any], flow: Light, time: float) -> NDArray[Any]:
    """Return `image` read `time` of the way along `flow`."""
    rows, columns = np.indices(flow.shape[:2], dtype=np.float32)
    from_columns = columns + flow[..., 0] * np.float32(time)
    from_rows = rows + flow[..., 1] * np.float32(time)
    return np.asarray(cv2.remap(image, from_columns, from_rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
