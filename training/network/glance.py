"""What a glance at a whole image tells, without weights: its light, its detail by octave, its block grid.

The language model of the large restorer sees the degraded image beside the prompt. The small one restores tiles of 64
pixels, which cannot tell darkness from a dark subject, haze from a grey wall or noise from sand: it is given one row of
numbers about the whole image instead. All of them are quantiles, so that content moves them little. Where the tile lies
is added to them, because what is high up in a photograph is far away more often than not.
"""

import numpy as np
from numpy.typing import NDArray

NUMBERS = 64
PLACE = slice(58, 60)  # of these numbers: row and column of what is restored, 0 in the middle, 2 at the far edge
LIGHT = 7  # quantiles of a channel, from the darkest to the brightest
_LIGHT = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_SAMPLES = 64  # rows and columns that light is looked at in
_DETAIL = (0.1, 0.5, 0.9, 0.99)
_OCTAVES = 4
_WINDOW, _WINDOWS = 80, 3  # detail is looked at in 3 x 3 windows of 80 pixels, which are 10 at the last octave
_BLOCK = 8  # of JPEG
_FLOOR = 1e-3  # of detail, a quarter of a grey level
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def glance(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return 64 numbers of the order of 1 about `image`, uint8 (H, W, 3) sRGB; the last six, with `PLACE`, are 0.

    In this order: seven quantiles of each channel and of the least channel; at each of four octaves of luma, logarithms
    of four quantiles of detail and of its median across and down; two quantiles of the detail of red and blue against
    luma; the contrast of the grid of 8-pixel blocks across and down.
    """
    windows_NHWC = _windows(image).astype(np.float32) / np.float32(255)
    luma_NHW = (windows_NHWC @ _LUMA).astype(np.float32)
    found = [*_light(image), *_octaves(luma_NHW)]
    for channel in (0, 2):
        across, down = _details(windows_NHWC[..., channel] - luma_NHW)
        found += _logs(np.quantile(np.hypot(across, down), (0.1, 0.5)))
    found += [_grid(luma_NHW), _grid(luma_NHW.swapaxes(1, 2))]
    numbers = np.zeros(NUMBERS, np.float32)
    numbers[: len(found)] = found
    return numbers


def _light(image: NDArray[np.uint8]) -> list[float]:
    rows, columns = (np.linspace(0, side - 1, min(side, _SAMPLES)).astype(int) for side in image.shape[:2])
    sampled = image[np.ix_(rows, columns)].reshape(-1, 3).astype(np.float32) / 255
    light = np.column_stack([sampled, sampled.min(axis=1)])
    return [float(value) for value in np.quantile(light, _LIGHT, axis=0).T.ravel() * 4 - 2]


def _windows(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return windows (9, H, W, 3), evenly placed on the grid of blocks; of a small image they are it, mirrored."""
    lacking = [(0, max(0, _WINDOW - side)) for side in image.shape[:2]]
    image = np.pad(image, (*lacking, (0, 0)), mode="symmetric")
    tops, lefts = (np.linspace(0, side - _WINDOW, _WINDOWS).astype(int) // _BLOCK * _BLOCK for side in image.shape[:2])
    return np.stack([image[top : top + _WINDOW, left : left + _WINDOW] for top in tops for left in lefts])


def _octaves(luma_NHW: NDArray[np.float32]) -> list[float]:
    found: list[float] = []
    for _ in range(_OCTAVES):
        across, down = _details(luma_NHW)
        found += _logs(np.quantile(np.hypot(across, down), _DETAIL))
        found += _logs(np.array([np.median(across), np.median(down)]))
        luma_NHW = _halved(luma_NHW)
    return found


def _details(plane_NHW: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean size of the second difference in each block, across and down."""
    middle = plane_NHW[:, 1:-1, 1:-1]
    across = np.abs(plane_NHW[:, 1:-1, 2:] - 2 * middle + plane_NHW[:, 1:-1, :-2])
    down = np.abs(plane_NHW[:, 2:, 1:-1] - 2 * middle + plane_NHW[:, :-2, 1:-1])
    return _blocks(across), _blocks(down)


def _blocks(plane_NHW: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the means of 8 x 8 blocks."""
    return _halved(_halved(_halved(plane_NHW)))


def _halved(plane_NHW: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width = (side // 2 * 2 for side in plane_NHW.shape[1:])
    rows = plane_NHW[:, 0:height:2] + plane_NHW[:, 1:height:2]
    halved: NDArray[np.float32] = (rows[..., 0:width:2] + rows[..., 1:width:2]) * np.float32(0.25)
    return halved


def _logs(values: NDArray[np.floating]) -> list[float]:
    """Return logarithms to base 4, about 1/64: detail from a quarter of a grey level to 1 becomes -2 to 3."""
    return [float(value) for value in np.log2(values + _FLOOR) / 2 + 3]


def _grid(luma_NHW: NDArray[np.float32]) -> float:
    """Return by how much steps at the borders of 8-pixel columns exceed all, twice the logarithm to base 2."""
    steps = np.abs(np.diff(luma_NHW, axis=2)).mean(axis=(0, 1))
    ratio = (steps[_BLOCK - 1 :: _BLOCK].mean() + _FLOOR) / (steps.mean() + _FLOOR)
    return float(np.clip(2 * np.log2(ratio), -3, 3))
