"""Pictures of different sizes in one tensor: each at the top left of its plane, its border repeated to the end.

Everything that moves light along an axis is one gather per tap, with indices of each sample's own; on a GPU that costs
what the memory traffic costs, and no library may choose an algorithm that rounds otherwise.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from degradations.numerics.taps import SNAP, mirrored, resampling_taps

T = TypeVar("T", np.int64, np.float32)

Sizes = Sequence[tuple[int, int]]  # (H, W) of each sample
MULTIPLE = 16  # of the sides of a canvas: whole blocks of a codec


def sides(sizes: Sizes) -> tuple[int, int]:
    """Return (H, W) of the smallest canvas, in whole blocks, that holds pictures of `sizes`."""
    return max(-(-height // MULTIPLE) for height, _ in sizes) * MULTIPLE, max(
        -(-width // MULTIPLE) for _, width in sizes
    ) * MULTIPLE


def extended(canvas: Tensor, sizes: Sizes, shape: tuple[int, int]) -> Tensor:
    """Return `canvas` (B, C, H, W) at `shape`, the last row and column of each picture repeated to the end."""
    for axis in (0, 1):
        indices = np.stack([np.minimum(np.arange(shape[axis]), size[axis] - 1) for size in sizes])
        canvas = gathered(canvas, indices, axis)
    return canvas


def gathered(canvas: Tensor, indices: NDArray[np.int64], axis: int) -> Tensor:
    """Return what stands at `indices` (B, N) of rows (`axis` 0) or columns (1)."""
    places = torch.from_numpy(indices).to(canvas.device)
    shape = list(canvas.shape)
    shape[axis + 2] = indices.shape[1]
    places = places[:, None, :, None] if axis == 0 else places[:, None, None, :]
    return canvas.gather(axis + 2, places.expand(shape))


def blurred(canvas: Tensor, sizes: Sizes, taps: Sequence[NDArray[np.float32]]) -> Tensor:
    """Return float32 `canvas` blurred along both axes by odd symmetric `taps`, one set a sample, in sixteenths."""
    reach = max(len(weights) for weights in taps) // 2
    if reach == 0:
        return canvas
    padded = np.stack([np.pad(weights, reach - len(weights) // 2) for weights in taps])
    weights = torch.from_numpy(padded).to(canvas.device)[:, None, None, None]
    for axis in (0, 1):
        length = canvas.shape[axis + 2]
        indices = np.stack([_padded(mirrored(size[axis], reach), length + 2 * reach) for size in sizes])
        wide = gathered(canvas, indices, axis)
        canvas = wide.narrow(axis + 2, 0, length) * weights[..., 0]
        for tap in range(1, 2 * reach + 1):
            canvas.addcmul_(wide.narrow(axis + 2, tap, length), weights[..., tap])
    return snapped(canvas)


def resampled(canvas: Tensor, sizes: Sizes, targets: Sizes, interpolations: Sequence[str]) -> Tensor:
    """Return `canvas` with its pictures of `sizes` brought to `targets`, in sixteenths; see `resampling_taps`."""
    for axis in (0, 1):
        length = sides(targets)[axis]
        sets = [
            resampling_taps(size[axis], target[axis], interpolation)
            if size[axis] != target[axis]
            else (np.arange(size[axis])[:, None], np.ones((size[axis], 1), np.float32))
            for size, target, interpolation in zip(sizes, targets, interpolations, strict=True)
        ]
        most = max(weights.shape[1] for _, weights in sets)
        indices = np.stack([_filled(found, length, most) for found, _ in sets])
        weights = np.stack([_filled(found, length, most) for _, found in sets])
        canvas = snapped(weighed(canvas, indices, weights, axis))
    return canvas


def weighed(canvas: Tensor, indices: NDArray[np.int64], weights: NDArray[np.float32], axis: int) -> Tensor:
    """Return sums of what stands at `indices` (B, N, K) of rows (`axis` 0) or columns (1), times `weights`, alike."""
    shares = torch.from_numpy(weights).to(canvas.device)[:, None]
    shares = shares[:, :, :, None] if axis == 0 else shares[:, :, None]
    total = gathered(canvas, np.ascontiguousarray(indices[..., 0]), axis) * shares[..., 0]
    for tap in range(1, indices.shape[2]):
        total.addcmul_(gathered(canvas, np.ascontiguousarray(indices[..., tap]), axis), shares[..., tap])
    return total


def snapped(canvas: Tensor) -> Tensor:
    """Return `canvas`, of any shape, rounded to sixteenths of a code."""
    return (canvas * SNAP).round_().mul_(1 / SNAP)


def _padded(indices: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    return np.pad(indices[:length], (0, max(0, length - len(indices))), mode="edge")


def _filled(taps: NDArray[T], length: int, most: int) -> NDArray[T]:
    """Return `taps` (N, K) as (`length`, `most`): zeros for the taps it lacks, its last row for the rows it lacks."""
    wide = np.pad(taps, ((0, 0), (0, most - taps.shape[1])))
    return np.pad(wide, ((0, length - len(taps)), (0, 0)), mode="edge")
