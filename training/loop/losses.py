"""How much each sample's error counts.

B batch, T target tokens, C channels.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from training import flow

Weighting = Literal["none", "relative", "logarithmic"]
# (errors_B, distance_B, clean_BTC, reference_BTC, sigma_B) -> counted_B; distance_B: of the whole pairs
Count = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]

SPARED = 0.1  # of the pair's error: where less is left, a sample no longer counts more
LEAST = 1e-4  # mean squared error within -1 and 1, 46 dB; what is nearer to clean counts less, or it would steer all


def relative(errors_B: Tensor, distance_B: Tensor, clean_BTC: Tensor, reference_BTC: Tensor, sigma_B: Tensor) -> Tensor:
    """Return the error of the clean image relative to that of the reference."""
    return errors_B * flow.relative_weights(clean_BTC, reference_BTC, sigma_B)


def logarithmic(
    errors_B: Tensor, distance_B: Tensor, clean_BTC: Tensor, reference_BTC: Tensor, sigma_B: Tensor
) -> Tensor:
    """Return the logarithm of the error of the clean image: what PSNR counts, so that every decibel counts alike.

    With relative errors haze, of which a thirtieth is left soon, would hardly count beside reflections, of which most
    remains; and a moire of 43 dB would hardly count at all. The measure is the distance of the whole pair, as PSNR is
    of a whole image: by that of what was cut, a sky without a trace of rain would count more than the rain.
    """
    return torch.log(sigma_B.square() * errors_B + SPARED * distance_B + LEAST)


COUNTED: dict[Weighting, Count] = {
    "none": lambda errors_B, distance_B, clean_BTC, reference_BTC, sigma_B: errors_B,
    "relative": relative,
    "logarithmic": logarithmic,
}
