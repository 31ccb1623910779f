"""The web's wear (`web.wear`) of a batch: the same codes as the NumPy path, pass by pass.

Every sample has passes of its own, and sizes of its own in between. Up to the codec all sums are exact (`taps`), the
numbers of the noise are those of `random`, and the JPEG is exact, so codes are equal; the last enlargement may differ
from OpenCV's by one code. The exception is a pass with a ringing kernel: it goes through a Fourier transform, whose
last bits may turn a code, and with it a quantised coefficient, here and there.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from degradations.batched import canvas
from degradations.batched.canvas import Sizes
from degradations.batched.convolve import convolved
from degradations.batched.fields import gaussian_fields
from degradations.batched.jpeg import jpeg, standard_steps
from degradations.coding.passes import Interpolation, Pass, scaled
from degradations.numerics.taps import gaussian_taps

Kernel = Callable[[float], NDArray[np.float32]]


def wear(
    images: Tensor,
    passes: Sequence[tuple[Pass, ...]],
    enlargements: Sequence[Interpolation],
    *,
    ringing: Kernel | None = None,
) -> Tensor:
    """Return `images`, float32 (B, 3, H, W) sRGB in [0, 1] on any device, each after its own `passes`.

    Values are taken at the nearest code of 255 and come back on that grid. ringing: `psf.ringing`, which needs SciPy;
    only passes with a cutoff ask for it. Raises ValueError if it is not given then.
    """
    if any(step.cutoff for turns in passes for step in turns) and ringing is None:
        raise ValueError("passes with a cutoff need the kernel: give ringing=degradations.optics.psf.ringing")
    codes = (images * 255).round_().clamp_(0, 255)
    worn = codes.clone()
    for count in sorted({len(turns) for turns in passes} - {0}):
        chosen = [index for index, turns in enumerate(passes) if len(turns) == count]
        places = torch.tensor(chosen, device=images.device)
        turns = [[passes[index][turn] for index in chosen] for turn in range(count)]
        worn[places] = _worn(codes[places], turns, [enlargements[index] for index in chosen], ringing)
    return worn.mul_(1 / 255)


def _worn(
    codes: Tensor, turns: Sequence[Sequence[Pass]], enlargements: Sequence[Interpolation], ringing: Kernel | None
) -> Tensor:
    """Return float32 `codes` (B, 3, H, W) after `turns`, of which each holds one pass a sample."""
    shape = (codes.shape[2], codes.shape[3])
    sizes = [shape] * len(codes)
    for steps in turns:
        targets = [scaled(shape, step.scale) for step in steps]
        codes = _worn_once(codes, sizes, targets, steps, ringing)
        sizes = targets
    back = canvas.resampled(codes, sizes, [shape] * len(codes), enlargements)
    return back[:, :, : shape[0], : shape[1]].round().clamp_(0, 255)


def _worn_once(codes: Tensor, sizes: Sizes, targets: Sizes, steps: Sequence[Pass], ringing: Kernel | None) -> Tensor:
    none = np.ones(1, np.float32)
    light = canvas.blurred(codes, sizes, [gaussian_taps(step.sigma) if step.sigma else none for step in steps])
    if ringing is not None and any(step.cutoff for step in steps):
        kernels = [ringing(step.cutoff) if step.cutoff else none[:, None] for step in steps]
        light = canvas.snapped(convolved(light, sizes, kernels))
    light = canvas.resampled(light, sizes, targets, [step.interpolation for step in steps])
    worn = _noisy(light, targets, steps).round_().clamp_(0, 255)
    if not any(step.quality for step in steps):
        return worn
    saved = jpeg(worn.int(), targets, standard_steps([step.quality or 100 for step in steps], codes.device), "4:2:0")
    kept = torch.tensor([step.quality == 0 for step in steps], device=codes.device)
    return torch.where(kept[:, None, None, None], worn, saved.float())


def _noisy(light: Tensor, sizes: Sizes, steps: Sequence[Pass]) -> Tensor:
    if not any(step.noise or step.photons for step in steps):
        return light
    field = _fields(light, sizes, steps)
    white = _column([step.noise for step in steps], light)
    scale = _column([255 / step.photons if step.photons and not step.noise else 0.0 for step in steps], light)
    sigma = torch.where(scale > 0, (light.clamp(0, 255) * scale).sqrt_(), white)
    return light + sigma * field


def _fields(light: Tensor, sizes: Sizes, steps: Sequence[Pass]) -> Tensor:
    """Return the noise of each sample where its picture lies: what `gaussian_field` gives for (H, W, 3 or 1)."""
    count = max(height * width * (1 if step.grey else 3) for (height, width), step in zip(sizes, steps, strict=True))
    numbers = gaussian_fields(count, [step.seed for step in steps], stream=0, device=light.device)
    rows = torch.arange(light.shape[2], device=light.device)[:, None]
    columns = torch.arange(light.shape[3], device=light.device)
    widths, depths = (
        _whole([width for _, width in sizes], light),
        _whole([1 if step.grey else 3 for step in steps], light),
    )
    channel = torch.arange(3, device=light.device)[:, None, None] % depths
    places = ((rows * widths + columns) * depths + channel).clamp_(max=count - 1)
    return numbers.gather(1, places.flatten(1)).view(places.shape)


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None, None, None]


def _whole(values: Sequence[int], like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device)[:, None, None, None]
