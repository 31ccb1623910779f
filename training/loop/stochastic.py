"""AdamW whose bfloat16 weights are rounded up or down by chance, so that on average nothing of an update is lost."""

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class StochasticAdamW(torch.optim.Optimizer):
    """AdamW (arXiv:1711.05101) with float32 moments and float32 arithmetic.

    The chance of each step is a function of `seed`, the step and the number of the weight, so that a run that goes on
    from a checkpoint rounds as it would have without it.
    """

    def __init__(self, weights: Iterable[nn.Parameter], *, seed: int, **options: Any) -> None:
        super().__init__(weights, options)
        self.seed = seed

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # returns no loss
        """Update every weight that has a gradient."""
        assert closure is None, "a closure is not evaluated"
        number = 0
        for group in self.param_groups:
            for weight in group["params"]:
                number += 1
                if weight.grad is not None:
                    self._update(weight, group, number)

    def _update(self, weight: nn.Parameter, group: dict[str, Any], number: int) -> None:
        state = self.state[weight]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(weight, dtype=torch.float32)
            state["exp_avg_sq"] = torch.zeros_like(weight, dtype=torch.float32)
        state["step"] += 1
        step, (beta1, beta2) = int(state["step"]), group["betas"]
        first, second, gradient = (_local(t) for t in (state["exp_avg"], state["exp_avg_sq"], weight.grad))
        first.lerp_(gradient.float(), 1 - beta1)
        second.mul_(beta2).addcmul_(gradient.float(), gradient.float(), value=1 - beta2)
        scale = second.div(1 - beta2**step).sqrt_().add_(group["eps"])
        own = _local(weight)
        exact = own.float() * (1 - group["lr"] * group["weight_decay"])
        exact.addcdiv_(first, scale, value=-group["lr"] / (1 - beta1**step))
        own.copy_(rounded(exact, self._generator(own.device, step, number)) if own.dtype == torch.bfloat16 else exact)

    def _generator(self, device: torch.device, step: int, number: int) -> torch.Generator:
        digest = hashlib.blake2b(f"{self.seed}/{step}/{number}".encode(), digest_size=8).digest()
        return torch.Generator(device).manual_seed(int.from_bytes(digest, "big") >> 1)


def rounded(exact: Tensor, generator: torch.Generator) -> Tensor:
    """Return float32 `exact` as bfloat16: up with the chance that makes the mean exact, else down.

    A bfloat16 is the upper half of a float32; adding 16 random bits below it carries over with that very chance.
    """
    bits = exact.view(torch.int32)
    noise = torch.randint(0, 1 << 16, bits.shape, generator=generator, device=bits.device, dtype=torch.int32)
    carried = torch.where(exact.isfinite(), bits + noise, bits) & ~0xFFFF
    return carried.view(torch.float32).bfloat16()


def _local(tensor: Any) -> Tensor:
    """Return what this rank holds of a tensor that may be sharded."""
    local: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return local
