"""The noise levels that are trained at."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from training import flow


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """How the noise level of a sample is drawn.

    shifted-logit-normal: the public recipe of Step1X-Edit, a share of `uniform` of the samples uniform instead.
    power: u ** power, u uniform; `power` below 1 favours noise. uniform: all alike.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    kind: Literal["shifted-logit-normal", "power", "uniform"] = "shifted-logit-normal"
    uniform: float = 0.1
    power: float = 0.35

    def __post_init__(self) -> None:
        """Raise ValueError for a share or a power that is none."""
        if not 0 <= self.uniform <= 1 or self.power <= 0:
            raise ValueError(f"uniform must be within 0 and 1 and power positive, got {self.uniform}, {self.power}")

    def draw(self, tokens: int, generator: torch.Generator) -> float:
        """Return one noise level within 0 and 1, for an image of so many target tokens.

        It is never 0: there a residual prediction has no velocity.
        """
        if self.kind == "shifted-logit-normal":
            level = flow.shifted_logit_normal(1, tokens, uniform=self.uniform, generator=generator)
        else:
            level = torch.rand(1, generator=generator) ** (self.power if self.kind == "power" else 1.0)
        return max(float(level), 1e-3)
