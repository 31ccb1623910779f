"""Muon for matrices, AdamW for all other weights, as one optimizer."""

from collections.abc import Callable, Iterable

import torch
from torch import nn


class Muon(torch.optim.Optimizer):
    """Muon as it is scaled for large models (arXiv:2502.16982): momentum, made orthogonal by Newton and Schulz.

    Every direction of a matrix then moves alike, also that of a task that comes seldom. The size of its steps is
    AdamW's, so that both share one rate and one decay. `betas` and `epsilon` are AdamW's.
    """

    def __init__(
        self,
        weights: Iterable[nn.Parameter],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
    ) -> None:
        weights = list(weights)
        matrices = [weight for weight in weights if weight.dim() == 2]
        others = [weight for weight in weights if weight.dim() != 2]
        self._parts: list[torch.optim.Optimizer] = []
        if matrices:
            muon = torch.optim.Muon(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
            self._parts.append(muon)
        if others:
            adamw = torch.optim.AdamW(others, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True)
            self._parts.append(adamw)
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        for part in self._parts:
            part.state = self.state

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # returns no loss
        """Update every weight that has a gradient."""
        assert closure is None, "a closure is not evaluated"
        for part in self._parts:
            part.step()
