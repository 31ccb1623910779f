"""How much each sample's error counts."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from training import flow

Weighting = Literal["none", "relative"]
Weights = Callable[[Tensor, Tensor, Tensor], Tensor]  # (clean_BTC, reference_BTC, sigma_B) -> weight_B

WEIGHTINGS: dict[Weighting, Weights | None] = {"none": None, "relative": flow.relative_weights}
