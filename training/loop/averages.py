"""A moving average of the weights: what is exported, and sampled from, when a run keeps one."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Float32 averages of named weights; `decay` warms up, so that the first steps do not weigh for ever."""

    def __init__(self, weights: Iterable[tuple[str, nn.Parameter]], decay: float) -> None:
        self.decay = decay
        self.tensors = {name: weight.detach().float().clone() for name, weight in weights}

    @torch.no_grad()
    def update(self, weights: Mapping[str, nn.Parameter], step: int) -> None:
        """Take over the weights after `step`, counted from 0: decay is at most (1 + step) / (10 + step)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, mean in self.tensors.items():
            mean.lerp_(weights[name].detach().float(), 1 - decay)

    @contextmanager
    def swapped(self, weights: Mapping[str, nn.Parameter]) -> Iterator[None]:
        """Let the model have the averaged weights for as long as the block."""
        before = {name: weights[name].detach().clone() for name in self.tensors}
        try:
            self._put(self.tensors, weights)
            yield
        finally:
            self._put(before, weights)

    @torch.no_grad()
    def _put(self, tensors: Mapping[str, Tensor], weights: Mapping[str, nn.Parameter]) -> None:
        for name, tensor in tensors.items():
            weights[name].copy_(tensor)
