"""Blur of a batch in linear light, by kernels of each sample's own: what the blur degradation does by them.

Wide kernels act on a reduced copy, as in `convolve` and `defocus`: reduced by [1 4 6 4 1] / 16, blurred, enlarged by
the same. `spreads.spread_of` says the kernels and the number of halvings of drawn params.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from degradations.batched.canvas import gathered
from degradations.batched.convolve import convolved
from degradations.batched.light import brightened, encode
from degradations.numerics.taps import mirrored

_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How light spreads: by odd square `kernels`, float32, in turn, at `halvings` halvings of the picture.

    highlights: how much brighter than white clipped light is, 0 to 8.
    """

    kernels: tuple[NDArray[np.float32], ...]
    halvings: int = 0
    highlights: float = 0.0


def spread(images: Tensor, spreads: Sequence[Spread]) -> Tensor:
    """Return `images`, float32 (B, 3, H, W) sRGB in [0, 1] on any device, each blurred by its own of `spreads`.

    Values are taken at the nearest code of 255 and come back on that grid.
    """
    codes = (images * 255).round_().clamp_(0, 255)
    light = brightened(codes, [each.highlights for each in spreads])
    for halvings in sorted({each.halvings for each in spreads}):
        chosen = [index for index, each in enumerate(spreads) if each.halvings == halvings]
        places = torch.tensor(chosen, device=images.device)
        light[places] = _spread(light[places], [spreads[index].kernels for index in chosen], halvings)
    return encode(light).to(torch.float32).mul_(1 / 255)


def _spread(light: Tensor, chains: Sequence[tuple[NDArray[np.float32], ...]], halvings: int) -> Tensor:
    if halvings:
        return enlarged(_spread(reduced(light), chains, halvings - 1), (light.shape[2], light.shape[3]))
    none = np.ones((1, 1), np.float32)
    for turn in range(max(len(kernels) for kernels in chains)):
        own = [kernels[turn] if turn < len(kernels) else none for kernels in chains]
        if max(len(kernel) for kernel in own) > 1:
            light = convolved(light, [(light.shape[2], light.shape[3])] * len(light), own)
    return light


def reduced(light: Tensor) -> Tensor:
    """Return `light` (B, C, H, W) at half the size, rounded up: OpenCV's pyrDown."""
    for axis in (0, 1):
        length = light.shape[axis + 2]
        wide = _gathered(light, mirrored(length, 2), axis)
        count = (length + 1) // 2
        parts = [_every_other(wide, axis, tap, count) * weight for tap, weight in enumerate(_BINOMIAL)]
        light = torch.stack(parts).sum(dim=0)
    return light


def enlarged(light: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return `light` at `shape`, which is twice its own or one less: OpenCV's pyrUp."""
    for axis in (0, 1):
        places = np.arange(light.shape[axis + 2])
        before = np.where(places == 0, min(1, len(places) - 1), places - 1)
        after = np.minimum(places + 1, len(places) - 1)
        left, right = (_gathered(light, index, axis) for index in (before, after))
        even, odd = (left + 6 * light + right) / 8, (light + right) / 2
        light = torch.stack([even, odd], dim=axis + 3).flatten(axis + 2, axis + 3).narrow(axis + 2, 0, shape[axis])
    return light


def _gathered(light: Tensor, indices: NDArray[np.int64], axis: int) -> Tensor:
    return gathered(light, np.broadcast_to(indices, (len(light), len(indices))).copy(), axis)


def _every_other(light: Tensor, axis: int, start: int, count: int) -> Tensor:
    step = light[:, :, start::2] if axis == 0 else light[:, :, :, start::2]
    return step.narrow(axis + 2, 0, count)
