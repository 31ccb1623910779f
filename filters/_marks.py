"""Where a semi-transparent text or logo lies over a photograph: a small convolutional network, without a framework.

The network sees brightness, strokes and colour of a copy with a shorter side of 512 pixels and says of each cell of
16 x 16 pixels how likely a mark lies there; it also sees where the cell is, as marks stand along borders, in the middle
or everywhere. Its weights are fitted on marks planted on photographs (`tests/benchmarks/train_marks.py`).
"""

import base64
import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from storage.records import Image, Plane

CELL = 16
BLOCKS = (0, 2, 3, 4)  # separable blocks behind each halving

_SMALL, _LARGE = 5, 17  # sides of the squares of the top-hats: strokes of small and of large letters
_AROUND = 33
_FILE = Path(__file__).with_name("_marks.json")

Stack = NDArray[np.float32]  # (C, H, W)
Weights = Mapping[str, NDArray[np.float32]]


def planes(image: Image) -> Stack:
    """Return what the network sees of an sRGB copy (H, W, 3): six planes, mostly within -2 and 2."""
    bright, *colour = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb))
    level = bright.astype(np.float32)
    seen = [level / 128 - 1, (level - cv2.blur(level, (_AROUND, _AROUND))) / 48]
    seen += [_strokes(bright, side) for side in (_SMALL, _LARGE)]
    for plane in colour:
        chroma = plane.astype(np.float32)
        seen.append((chroma - cv2.blur(chroma, (_AROUND, _AROUND))) / 12)
    return np.stack(seen)


def places(shape: tuple[int, int], start: tuple[int, int], cells: tuple[int, int]) -> Stack:
    """Return where cells lie in an image of `shape`: five planes in [0, 1].

    Distances to the nearer side, the top and the bottom in shorter sides, and to the middle lines in half images.

    start: row and column of the image at which the first cell begins.
    """
    rows, columns = (begin + CELL * (np.arange(count) + 0.5) for begin, count in zip(start, cells, strict=True))
    short = min(shape)
    side = np.minimum(columns, shape[1] - columns) / short
    across = abs(columns / shape[1] - 0.5) * 2
    down = [rows / short, (shape[0] - rows) / short, abs(rows / shape[0] - 0.5) * 2]
    found = [np.broadcast_to(side, cells), np.broadcast_to(across, cells)]
    found += [np.broadcast_to(one[:, None], cells) for one in down]
    return np.asarray(np.clip(np.stack(found), 0, 1), np.float32)


def evidence(image: Image) -> Plane:
    """Return log odds of a mark for each cell of a copy (H, W, 3), shape (H / 16, W / 16) rounded up."""
    return network(*inputs(image), weights())


def inputs(image: Image) -> tuple[Stack, Stack]:
    """Return planes and places of a whole copy (H, W, 3)."""
    rows, columns = image.shape[:2]
    return planes(image), places((rows, columns), (0, 0), (-(-rows // CELL), -(-columns // CELL)))


@cache
def weights() -> Weights:
    """Return the network's weights."""
    return stored(_FILE)


def stored(file: Path) -> Weights:
    """Return weights kept as JSON: names with shapes, and all values in base64 of little-endian half precision."""
    content = json.loads(file.read_text(encoding="utf-8"))
    values = np.frombuffer(base64.b64decode(content["values"]), "<f2").astype(np.float32)
    sizes = [math.prod(shape) for shape in content["shapes"].values()]
    parts = np.split(values, np.cumsum(sizes)[:-1])
    return {name: part.reshape(shape) for (name, shape), part in zip(content["shapes"].items(), parts, strict=True)}


def network(seen: Stack, where: Stack, fitted: Weights) -> Plane:
    """Return the answer (h, w) of the network to planes (C, H, W) and the places (5, h, w) of the cells."""
    for stage, blocks in enumerate(BLOCKS):
        seen = np.maximum(_halved(seen, fitted[f"{stage}.down"], fitted[f"{stage}.down.bias"]), 0)
        if stage == len(BLOCKS) - 1:
            seen = _mixed(np.concatenate([seen, where]), fitted, "place")
        for block in range(blocks):
            seen = seen + _mixed(_spread(seen, fitted[f"{stage}.{block}.spread"]), fitted, f"{stage}.{block}.mix")
    answer = np.tensordot(fitted["answer"], seen, 1) + fitted["answer.bias"]
    return np.asarray(answer, np.float32)


def _strokes(bright: NDArray[np.uint8], side: int) -> Plane:
    kernel = np.ones((side, side), np.uint8)
    light, dark = (cv2.morphologyEx(bright, kind, kernel) for kind in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT))
    return np.asarray(np.arcsinh((light.astype(np.float32) - dark) / 6))


def _halved(seen: Stack, kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> Stack:
    """Convolve (C, H, W) with a kernel (D, C, 3, 3) at every second pixel, beginning with the first."""
    rows, columns = (-(-size // 2) for size in seen.shape[1:])
    padded = np.zeros((len(seen), 2 * rows + 2, 2 * columns + 2), np.float32)
    padded[:, 1 : seen.shape[1] + 1, 1 : seen.shape[2] + 1] = seen
    phases = {(i, j): np.ascontiguousarray(padded[:, i::2, j::2]) for i in range(2) for j in range(2)}
    patches = np.empty((len(seen), 9, rows, columns), np.float32)
    for tap in range(9):
        row, column = divmod(tap, 3)
        phase = phases[row % 2, column % 2]
        patches[:, tap] = phase[:, row // 2 : row // 2 + rows, column // 2 : column // 2 + columns]
    found = kernel.reshape(len(kernel), -1) @ patches.reshape(-1, rows * columns)
    return (found + bias[:, None]).reshape(-1, rows, columns)


def _spread(seen: Stack, kernels: NDArray[np.float32]) -> Stack:
    """Correlate each plane with its own kernel (C, 5, 5)."""
    pairs = zip(seen, kernels, strict=True)
    return np.stack([cv2.filter2D(plane, -1, kernel, borderType=cv2.BORDER_CONSTANT) for plane, kernel in pairs])


def _mixed(seen: Stack, fitted: Weights, name: str) -> Stack:
    mixed = fitted[name] @ seen.reshape(len(seen), -1) + fitted[f"{name}.bias"][:, None]
    return np.asarray(np.maximum(mixed, 0).reshape(-1, *seen.shape[1:]))


def strongest(found: Plane) -> float:
    """Return the largest log odds of the cells: means over neighbours tell marks no better (`EXPERIMENTS.md`)."""
    return float(found.max())
