"""Images to tokens and back, and where each token stands.

B batch, C channels, h and w tokens per side, p patch, T = h w image tokens, S text tokens, L all tokens.
"""

import torch
from einops import rearrange
from torch import Tensor

from training.network.params import Params, ReferenceIds

# (first axis, shift of row and column) of the reference, by convention; see `training.network.params`.
_REFERENCE: dict[ReferenceIds, tuple[int, int]] = {"v1.0": (0, 0), "v1.1": (1, 1), "realrestorer": (1, 0)}


def patchify(image_BCHW: Tensor, patch: int) -> Tensor:
    """Return tokens (B, h w, C p p), row by row, the channels of a token ordered (C, row, column).

    Raises ValueError when a side is no multiple of `patch`.
    """
    height, width = image_BCHW.shape[-2:]
    if height % patch or width % patch:
        raise ValueError(f"both sides must be multiples of {patch}, got {height} by {width}")
    return rearrange(image_BCHW, "B C (h p1) (w p2) -> B (h w) (C p1 p2)", p1=patch, p2=patch)


def unpatchify(tokens_BTC: Tensor, patch: int, *, rows: int) -> Tensor:
    """Return the image (B, C, H, W) whose tokens stand in `rows` rows; the inverse of `patchify`."""
    return rearrange(tokens_BTC, "B (h w) (C p1 p2) -> B C (h p1) (w p2)", h=rows, p1=patch, p2=patch)


def positions(params: Params, *, text: int, rows: int, columns: int, device: str | torch.device = "cpu") -> Tensor:
    """Return the positions (L, 3), float32, of text, target and, when it has tokens of its own, reference.

    Float32 holds every position; bfloat16 would only up to 256 tokens a side.
    """
    parts = [torch.zeros(text, 3, device=device), _grid(rows, columns, 0, 0, device)]
    if params.reference == "tokens":
        first, shift = _REFERENCE[params.reference_ids]
        parts.append(_grid(rows, columns, first, shift, device))
    return torch.cat(parts)


def _grid(rows: int, columns: int, first: int, shift: int, device: str | torch.device) -> Tensor:
    y = torch.arange(rows, dtype=torch.float32, device=device) + shift
    x = torch.arange(columns, dtype=torch.float32, device=device) + shift
    grid_yx2 = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1)
    return torch.cat([torch.full_like(grid_yx2[..., :1], first), grid_yx2], dim=-1).flatten(0, 1)
