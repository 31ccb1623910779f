"""Prompts without a language model: each text has frozen random vectors, which the small restorer learns to read."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.network.glance import NUMBERS, PLACE, glance

TOKENS = 4


class GlancingPrompts:
    """The prompt encoder of the small restorer: the frozen vectors of the text, and a glance at the whole image."""

    whole = True

    def encode(self, images: Sequence[NDArray[Any]], prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return the rows (B, S, 64) of each image, uint8 (H, W, 3) sRGB, with its prompt, and their mask (B, S)."""
        text_BSE, _ = frozen(prompts, width=NUMBERS)
        seen_B1E = torch.from_numpy(np.stack([glance(image) for image in images]))[:, None]
        rows_BSE = torch.cat([text_BSE, seen_B1E], dim=1)
        return rows_BSE, torch.ones(rows_BSE.shape[:2], dtype=torch.bool)


def placed(rows_BSE: Tensor, places_B2: Sequence[tuple[float, float]]) -> Tensor:
    """Return the rows of whole images for parts of them, whose middles lie at (row, column), 0 to 1 of each side."""
    rows_BSE = rows_BSE.clone()
    rows_BSE[:, -1, PLACE] = 4 * torch.tensor(places_B2).to(rows_BSE) - 2
    return rows_BSE


class FrozenPrompts:
    """A prompt encoder that does not look at the image."""

    whole = False

    def __init__(self, width: int) -> None:
        self.width = width

    def encode(self, images: Sequence[NDArray[Any]], prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return the vectors (B, S, E) of the prompts and their mask (B, S)."""
        return frozen(prompts, width=self.width)


def frozen(prompts: Sequence[str], *, width: int, tokens: int = TOKENS) -> tuple[Tensor, Tensor]:
    """Return standard normal vectors (B, S, E), a function of each text alone, and their mask (B, S), all true.

    They are made from the text's SHAKE-256, because a checkpoint needs the same vectors for ever and no library's
    normal generator promises its stream.
    """
    vectors = np.stack([_normals(prompt, tokens * width).reshape(tokens, width) for prompt in prompts])
    return torch.from_numpy(vectors), torch.ones(len(prompts), tokens, dtype=torch.bool)


def _normals(text: str, count: int) -> NDArray[np.float32]:
    """Return `count` standard normals by Box and Muller (1958), from 53-bit uniforms within (0, 1)."""
    words = np.frombuffer(hashlib.shake_256(text.encode()).digest(16 * count), dtype="<u8")
    radius, angle = ((words >> np.uint64(11)).astype(np.float64) + 0.5).reshape(2, count) / 2**53
    normals: NDArray[np.float64] = np.sqrt(-2 * np.log(radius)) * np.cos(2 * np.pi * angle)
    return normals.astype(np.float32)
