"""Restore an image of any size: tiles with overlap, one noise field, the input's exact size and no pixel moved.

The image is padded by reflection to whole tokens and cropped again; it is never resized. Tiles take their noise from
one field over the whole image, so that neighbours agree where they overlap, and are blended with weights that fall
linearly towards their edges. B batch of tiles, T tokens, C channels of a token.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from training import flow
from training.data.crops import Box, middle
from training.encoders.latents import Latents
from training.encoders.prompts import placed
from training.flow import Guidance
from training.network import packing
from training.network.model import RestorationTransformer

Image = NDArray[np.uint8]
Progress = Callable[[int, int], None]  # (tiles done, tiles in all)
Places = Sequence[tuple[float, float]]  # of the middles of tiles, (row, column), each 0 to 1
Rows = tuple[Tensor, Tensor]  # of prompts, and their mask
Look = Callable[[Sequence[Image], Places], Rows]  # (tiles, their places) -> prompt rows


class Prompts(Protocol):
    """Turns images with their prompts into prompt rows and their mask.

    whole: it is shown the whole image that a tile or crop was cut from, else what was cut. Its rows end with a glance
    then, which is told where in the image that lies.
    """

    whole: bool

    def encode(self, images: Sequence[NDArray[Any]], prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return (B, S, E) and (B, S)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restorer:
    """A restorer with what stands before and behind it."""

    model: RestorationTransformer
    latents: Latents
    prompts: Prompts


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a restoration is sampled. guidance: None runs the model once a step, without a negative prompt.

    tile: pixels a side, rounded down to whole tokens; a smaller image is one tile. batch: tiles sampled at once.
    """

    steps: int = flow.STEPS
    guidance: Guidance | None = field(default_factory=Guidance)
    seed: int = 0
    tile: int = 1024
    overlap: int = 128
    batch: int = 1

    def __post_init__(self) -> None:
        """Raise ValueError when tiles or steps would not advance."""
        if not 0 <= self.overlap < self.tile:
            raise ValueError(f"overlap must be within 0 and tile, got {self.overlap} of {self.tile}")
        if self.steps < 1 or self.batch < 1:
            raise ValueError(f"steps and batch must be at least 1, got {self.steps} and {self.batch}")


def restore(
    restorer: Restorer, image: Image, prompt: str, sampling: Sampling, progress: Progress = lambda done, of: None
) -> Image:
    """Return `image`, uint8 (H, W, 3) sRGB, restored as `prompt` asks, in the same size; the seed fixes the result."""
    multiple = restorer.latents.multiple
    padded = _padded(image, multiple)
    noise_CYX = _noise(restorer, padded.shape[0] // multiple, padded.shape[1] // multiple, sampling.seed)
    size = [_tile_side(side, sampling.tile, multiple) for side in padded.shape[:2]]
    corners = [
        (top, left)
        for top in _starts(padded.shape[0], size[0], sampling.overlap, multiple)
        for left in _starts(padded.shape[1], size[1], sampling.overlap, multiple)
    ]
    total, weights = np.zeros(padded.shape, np.float32), np.zeros((*padded.shape[:2], 1), np.float32)
    ramp = _ramp(size[0], sampling.overlap)[:, None, None] * _ramp(size[1], sampling.overlap)[:, None]
    look = _look(restorer, image, prompt, sampling)
    for done, group in _groups(corners, sampling.batch):
        windows = [np.s_[top : top + size[0], left : left + size[1]] for top, left in group]
        noise_BTC = torch.stack([_window(noise_CYX, window, multiple) for window in windows])
        tiles = [padded[window] for window in windows]
        places = [Box(top=top, left=left, height=size[0], width=size[1]) for top, left in group]
        rows = look(tiles, [middle(place, image.shape[:2]) for place in places])
        for window, tile in zip(windows, _tiles(restorer, tiles, rows, noise_BTC, sampling), strict=True):
            total[window] += tile * ramp
            weights[window] += ramp
        progress(done, len(corners))
    restored = np.clip(np.rint(total / weights), 0, 255).astype(np.uint8)
    return restored[: image.shape[0], : image.shape[1]]


@torch.no_grad()
def _tiles(
    restorer: Restorer, tiles: Sequence[Image], rows: Rows, noise_BTC: Tensor, sampling: Sampling
) -> NDArray[np.float32]:
    """Return the restored tiles, float32 (B, H, W, 3) within 0 and 255, not rounded."""
    height, width = tiles[0].shape[:2]
    multiple, model = restorer.latents.multiple, restorer.model
    weight = model.img_in.weight
    image_BCHW = rearrange(torch.from_numpy(np.stack(tiles)).to(weight.device), "B H W C -> B C H W")
    reference_BTC = restorer.latents.encode(image_BCHW.float() / 127.5 - 1)
    prompt_BSE, mask_BS = (part.to(weight.device) for part in rows)
    grid = {"rows": height // multiple, "columns": width // multiple}
    ids_L3 = packing.positions(model.params, text=prompt_BSE.shape[1], **grid, device=weight.device)
    repeated_BTC = reference_BTC if sampling.guidance is None else torch.cat([reference_BTC, reference_BTC])

    def velocity(x_BTC: Tensor, sigma_B: Tensor) -> Tensor:
        x, reference, rows = (tensor.to(weight.dtype) for tensor in (x_BTC, repeated_BTC, prompt_BSE))
        out: Tensor = model(x, reference, sigma_B, rows, mask_BS, ids_L3)
        return out

    steered = velocity if sampling.guidance is None else flow.classifier_free(velocity, sampling.guidance)
    sigmas = flow.schedule(sampling.steps, reference_BTC.shape[1])
    found_BTC = flow.sample(steered, noise_BTC.to(weight.device), sigmas)
    found_BCHW = restorer.latents.decode(found_BTC, height=height).float().clamp(-1, 1)
    pixels: NDArray[np.float32] = rearrange((found_BCHW + 1) * 127.5, "B C H W -> B H W C").cpu().numpy()
    return pixels


def _look(restorer: Restorer, image: Image, prompt: str, sampling: Sampling) -> Look:
    """Return what gives tiles of `image` their prompt rows; an encoder that looks at the whole image looks once."""

    def rows_of(images: Sequence[Image]) -> Rows:
        """With guidance the rows without a prompt follow those with it: the same images, an empty text."""
        prompts = [prompt] * len(images)
        if sampling.guidance is None:
            return restorer.prompts.encode(images, prompts)
        return restorer.prompts.encode([*images, *images], [*prompts, *[""] * len(images)])

    if not restorer.prompts.whole:
        return lambda tiles, places: rows_of(tiles)
    prompt_BSE, mask_BS = rows_of([image])
    return lambda tiles, places: (
        placed(prompt_BSE.repeat_interleave(len(tiles), dim=0), [*places] * len(prompt_BSE)),
        mask_BS.repeat_interleave(len(tiles), dim=0),
    )


def _noise(restorer: Restorer, rows: int, columns: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)  # on the CPU: the same field on every device
    return torch.randn(restorer.model.params.channels, rows, columns, generator=generator)


def _window(noise_CYX: Tensor, window: tuple[slice, slice], multiple: int) -> Tensor:
    rows, columns = (slice(side.start // multiple, side.stop // multiple) for side in window)
    return rearrange(noise_CYX[:, rows, columns], "C y x -> (y x) C")


def _padded(image: Image, multiple: int) -> Image:
    """Reflect the image at its lower and right edge until both sides are multiples; a thin one is reflected again."""
    by = [(0, -side % multiple) for side in image.shape[:2]]
    return np.pad(image, (*by, (0, 0)), mode="symmetric")


def _tile_side(side: int, tile: int, multiple: int) -> int:
    return min(side, max(multiple, tile // multiple * multiple))


def _starts(side: int, tile: int, overlap: int, multiple: int) -> list[int]:
    """Return where tiles start: whole tokens apart, overlapping at least by `overlap`, the last one at the edge."""
    stride = max(multiple, (tile - overlap) // multiple * multiple)
    return [*range(0, side - tile, stride), side - tile]


def _ramp(side: int, overlap: int) -> NDArray[np.float32]:
    """Return weights that rise from either edge over `overlap` pixels; never zero, so that every pixel has one."""
    distance = np.minimum(np.arange(side), np.arange(side)[::-1]).astype(np.float32) + 1
    return np.minimum(distance / (overlap + 1), 1)


def _groups(corners: Sequence[tuple[int, int]], size: int) -> Iterator[tuple[int, Sequence[tuple[int, int]]]]:
    for start in range(0, len(corners), size):
        group = corners[start : start + size]
        yield start + len(group), group
