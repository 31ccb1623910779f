"""Light moved and laid over itself, row by row: what a line of twice the length makes of it."""

import numpy as np
from numpy.typing import NDArray

from degradations._compiled import compiled
from degradations._contract import Light
from degradations.kernels._rows import mirrored

_HALF = np.float32(0.5)

Places = NDArray[np.int64]


@compiled("void(f4[:, ::1], i8, i8[::1], i8[::1], f4[::1], i8, f4[:, ::1])")
def double(light: Light, channels: int, whole: Places, corner: Places, parts: Light, top: int, out: Light) -> None:
    """Write to `out`, some rows from `top` on, the mean of `light` (H, W C) moved by `whole` and by `corner` + `parts`.

    whole, corner (2,): rows and columns. parts (2,): of a pixel, between which light lies linearly. The picture goes on
    as its mirror image.
    """
    height, values = light.shape
    pixels = values // channels
    reach = max(abs(whole[1]), abs(corner[1]) + 1) * channels
    still, moved = np.empty(values + 2 * reach, np.float32), np.empty(values + 2 * reach, np.float32)
    down, across = parts[0], parts[1]
    for row in range(len(out)):
        own = light[mirrored(top + row - whole[0], height)]
        near = light[mirrored(top + row - corner[0], height)]
        far = light[mirrored(top + row - corner[0] - 1, height)]
        inner = moved[reach : reach + values]
        kept = still[reach : reach + values]
        for value in range(values):
            kept[value] = own[value] * _HALF
        for value in range(values):
            inner[value] = (near[value] + (far[value] - near[value]) * down) * _HALF
        for pixel in range(reach // channels):
            before, beyond = mirrored(-1 - pixel, pixels) * channels, mirrored(pixels + pixel, pixels) * channels
            for channel in range(channels):
                still[reach - (1 + pixel) * channels + channel] = kept[before + channel]
                still[reach + values + pixel * channels + channel] = kept[beyond + channel]
                moved[reach - (1 + pixel) * channels + channel] = inner[before + channel]
                moved[reach + values + pixel * channels + channel] = inner[beyond + channel]
        stayed = still[reach - whole[1] * channels :]
        left, right = moved[reach - (corner[1] + 1) * channels :], moved[reach - corner[1] * channels :]
        written = out[row]
        for value in range(values):
            written[value] = stayed[value] + (right[value] + (left[value] - right[value]) * across)
