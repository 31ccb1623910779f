"""AdamW for weights in float32, or in bfloat16 with stochastic rounding, or Muon, and how fast it goes.

Plain bfloat16 weights do not learn at these learning rates: an update of 1e-5 is below half the distance of
neighbouring bfloat16 numbers around a typical weight of 0.02 (1.2e-4), so rounding to nearest throws most of it away
(14 % of the float32 update was left after 200 steps). Stochastic rounding keeps all of it on average.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from storage.errors import SettingsError
from training.loop.muon import Muon
from training.loop.stochastic import StochasticAdamW

PLAIN_BF16_FROM = 1e-4  # learning rates below are refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimization:
    """How weights are updated. Defaults are RealRestorer's, appendix B; the first of them is `transfer`'s.

    kind: "muon" moves matrices by Muon and the rest by AdamW, on one rank; the small restorer learns faster by it.
    schedule: after `warmup` steps the rate stays or falls to 0 along a cosine. clip: largest norm of all gradients.
    weights and states: what the weights and AdamW's two moments are kept in. average: decay of a moving average of the
    weights that is kept beside them and exported; 0 keeps none.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    learning_rate: float
    kind: Literal["adamw", "muon"] = "adamw"
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: int = 100
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    epsilon: float = 1e-8
    clip: float = 1.0
    weights: Literal["fp32", "bf16", "bf16-stochastic"] = "fp32"
    states: Literal["fp32", "8bit"] = "fp32"
    average: float = 0.0

    def __post_init__(self) -> None:
        """Raise ValueError when nothing, or nonsense, would be learnt."""
        if self.learning_rate <= 0 or self.warmup < 0 or self.clip <= 0 or self.weight_decay < 0:
            raise ValueError("learning_rate and clip must be positive, warmup and weight_decay not negative")
        if not 0 <= self.average < 1:
            raise ValueError(f"average must be within 0 and 1, and below 1, got {self.average}")
        if self.kind == "muon" and (self.weights, self.states) != ("fp32", "fp32"):
            raise ValueError("muon keeps weights and states in fp32; set both to that, or choose adamw")
        if self.weights == "bf16" and self.learning_rate < PLAIN_BF16_FROM:
            raise ValueError(
                f"plain bf16 weights do not learn at a learning rate below {PLAIN_BF16_FROM:g}, because rounding "
                "swallows most of each step; choose bf16-stochastic or fp32"
            )

    @property
    def dtype(self) -> torch.dtype:
        """Return the type that the weights are kept in."""
        return torch.float32 if self.weights == "fp32" else torch.bfloat16


def rate(optimization: Optimization, step: int, steps: int) -> float:
    """Return the learning rate of `step`, counted from 0, of `steps`."""
    full, warmup = optimization.learning_rate, optimization.warmup
    if step < warmup:
        return full * (step + 1) / warmup
    if optimization.schedule == "constant":
        return full
    progress = (step - warmup) / max(1, steps - warmup)
    return full * 0.5 * (1 + math.cos(math.pi * progress))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Let `optimizer` go at `rate` from now on; the 8-bit one keeps its rate in a tensor."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def make_optimizer(weights: Iterable[nn.Parameter], optimization: Optimization, *, seed: int) -> torch.optim.Optimizer:
    """Return the optimizer of weights that are already on their device and sharded.

    seed: of the stochastic rounding. Raises SettingsError where the 8-bit states need a library that is missing.
    """
    trained = [weight for weight in weights if weight.requires_grad]
    options: dict[str, Any] = {
        "lr": optimization.learning_rate,
        "betas": optimization.betas,
        "eps": optimization.epsilon,
        "weight_decay": optimization.weight_decay,
    }
    stochastic = optimization.weights == "bf16-stochastic"
    for weight in trained:
        if weight.dtype != torch.float32 and not hasattr(weight, "to_local"):
            weight.grad_dtype = torch.float32  # micro-batches add up in float32; those of a sharded model, see there
    if optimization.kind == "muon":
        return Muon(trained, **options)
    if optimization.states == "8bit":
        return _eight_bit(trained, options, stochastic)
    if stochastic:
        return StochasticAdamW(trained, seed=seed, **options)
    return torch.optim.AdamW(trained, fused=True, **options)


def _eight_bit(trained: list[nn.Parameter], options: Mapping[str, Any], stochastic: bool) -> torch.optim.Optimizer:
    try:
        from torchao.optim import AdamW8bit
    except ImportError as error:
        raise SettingsError('optimizer.states = "8bit" needs torchao: install it, or set states to "fp32"') from error
    made: torch.optim.Optimizer = AdamW8bit(trained, bf16_stochastic_round=stochastic, **options)
    return made


def clip(weights: Iterable[nn.Parameter], largest: float) -> Tensor:
    """Scale all gradients so that their norm is at most `largest`; return the norm before, a tensor on the device."""
    norm = nn.utils.clip_grad_norm_([weight for weight in weights if weight.grad is not None], largest)
    whole: Tensor = norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # of a sharded model
    return whole
