"""Between codes and linear light on any device: the tables of `light`, and its expansion of highlights."""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

_CLIPPING = 0.97  # linear light from which a code cannot be told from a clipped one, as in `light`


def decode(codes: Tensor) -> Tensor:
    """Return the linear light, float32 in [0, 1], of whole sRGB `codes` in [0, 255], of any shape and number type."""
    return _decoding(codes.device)[codes.long()]


def encode(light: Tensor) -> Tensor:
    """Return int32 sRGB codes of linear `light` of any shape; clips to [0, 1], rounds to nearest, ties to even."""
    levels = (light * 65535).round_().clamp_(0, 65535).long()
    return _encoding(light.device)[levels]


def brightened(codes: Tensor, highlights: Sequence[float]) -> Tensor:
    """Return the linear light of `codes` (B, 3, H, W), clipped places up to 1 + `highlights` of each sample."""
    light = decode(codes)
    over = ((light - _CLIPPING) / (1 - _CLIPPING)).clamp_(min=0).square_()
    lamp = over.amin(dim=1, keepdim=True)
    gains = torch.tensor(highlights, dtype=torch.float32, device=codes.device)[:, None, None, None]
    return light.add_(lamp**3 * gains)


@cache
def _decoding(device: torch.device) -> Tensor:
    srgb = torch.arange(256, dtype=torch.float64) / 255
    light = torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return light.to(device, torch.float32)


@cache
def _encoding(device: torch.device) -> Tensor:
    light = torch.arange(65536, dtype=torch.float64) / 65535
    srgb = torch.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return (srgb * 255).round().to(device, torch.int32)
