"""The numbers of `random.bits` and `random.gaussian_field`, made on any device: equal, not alike."""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from degradations.numerics.counter import GOLDEN, LAST_SHIFT, MULTIPLIERS, SHIFTS, key


def bits(count: int, seeds: Sequence[int], *, stream: int, device: torch.device) -> Tensor:
    """Return int64 (B, count) in [0, 65535]: for each seed, what `random.bits` returns for `count` numbers."""
    words = torch.arange(1, (count + 3) // 4 + 1, device=device) * _signed(GOLDEN)
    starts = [_signed(key(seed, stream)) for seed in seeds]
    mixed = _mix(torch.tensor(starts, device=device)[:, None] + words)
    quarters = torch.stack([(mixed >> shift) & 0xFFFF for shift in (0, 16, 32, 48)], dim=-1)
    return quarters.flatten(1)[:, :count]


def gaussian_fields(count: int, seeds: Sequence[int], *, stream: int, device: torch.device) -> Tensor:
    """Return float32 (B, count): for each seed, what `random.gaussian_field` returns for `count` numbers."""
    numbers: Tensor = _table(device)[bits(count, seeds, stream=stream, device=device)]
    return numbers


@cache
def _table(device: torch.device) -> Tensor:
    table: Tensor = torch.special.ndtri((torch.arange(65536, dtype=torch.float64) + 0.5) / 65536)
    narrow: Tensor = (table / table.std(correction=0)).float()
    return narrow.to(device)


def _mix(words: Tensor) -> Tensor:
    """Return what SplitMix64 makes of `words`, int64 read as unsigned; products wrap."""
    for shift, multiplier in zip(SHIFTS, MULTIPLIERS, strict=True):
        words = (words ^ _shifted(words, shift)) * _signed(multiplier)
    return words ^ _shifted(words, LAST_SHIFT)


def _shifted(words: Tensor, shift: int) -> Tensor:
    """Return `words` shifted to the right, zeros following: torch shifts the sign in."""
    return torch.bitwise_and(words >> shift, 2 ** (64 - shift) - 1)


def _signed(word: int) -> int:
    return word - 2**64 if word >= 2**63 else word
