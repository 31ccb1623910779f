"""Convolution of a batch with a kernel for each sample, through the Fourier domain: what `convolve.convolve` gives."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from degradations.batched.canvas import Sizes, gathered
from degradations.numerics.taps import mirrored

Kernels = Sequence[NDArray[np.float32]]  # odd squares, one for each sample


def convolved(light: Tensor, sizes: Sizes, kernels: Kernels) -> Tensor:
    """Return `light`, float32 (B, C, H, W), its pictures of `sizes` convolved with `kernels`, mirrored beyond borders.

    Within 1e-5 of the largest light. All kernels are padded to the largest, so a batch costs what its widest blur does.
    """
    reach = max(len(kernel) for kernel in kernels) // 2
    height, width = light.shape[2:]
    for axis, length in ((0, height), (1, width)):
        indices = [mirrored(size[axis], reach)[: length + 2 * reach] for size in sizes]
        padded = [np.pad(found, (0, length + 2 * reach - len(found)), mode="edge") for found in indices]
        light = gathered(light, np.stack(padded), axis)
    shape = tuple(_fast_length(length + 2 * reach) for length in (height, width))
    spectrum = torch.fft.rfft2(_stacked(kernels, reach).to(light.device), s=shape)[:, None]
    whole: Tensor = torch.fft.irfft2(torch.fft.rfft2(light, s=shape) * spectrum, s=shape)
    return whole[..., 2 * reach : 2 * reach + height, 2 * reach : 2 * reach + width]


def _stacked(kernels: Kernels, reach: int) -> Tensor:
    padded = [np.pad(kernel, reach - len(kernel) // 2) for kernel in kernels]
    return torch.from_numpy(np.stack(padded).astype(np.float32))


def _fast_length(length: int) -> int:
    """Return the smallest even number not below `length` that has no prime factor above 7."""
    while not _is_smooth(length):
        length += 1
    return length


def _is_smooth(length: int) -> bool:
    if length % 2:
        return False
    for factor in (2, 3, 5, 7):
        while length % factor == 0:
            length //= factor
    return length == 1
