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
HARM = 0.4  # of the logarithm by which a crop is worse than it was, counted besides
UNSEEN = 1e-5  # mean squared error, 56 dB, that is no harm


def relative(errors_B: Tensor, distance_B: Tensor, clean_BTC: Tensor, reference_BTC: Tensor, sigma_B: Tensor) -> Tensor:
    """Return the error of the clean image relative to that of the reference."""
    return errors_B * flow.relative_weights(clean_BTC, reference_BTC, sigma_B)


def logarithmic(
    errors_B: Tensor, distance_B: Tensor, clean_BTC: Tensor, reference_BTC: Tensor, sigma_B: Tensor
) -> Tensor:
    """Return the logarithm of the error of the clean image: what PSNR counts, so that every decibel counts alike.

    With relative errors haze, of which a thirtieth is left soon, would hardly count beside reflections, of which most
    remains; and a moire of 43 dB would hardly count at all. The measure is the distance of the whole pair, as PSNR is
    of a whole image: by that of what was cut, a sky without a trace of rain would count more than the rain. Harm to
    what was cut counts besides, or faint degradations, to which little is owed, would pay for strong ones.
    """
    error_B = sigma_B.square() * errors_B
    before_B = (reference_BTC.float() - clean_BTC.float()).square().mean(dim=(1, 2))
    harm_B = torch.log((error_B + UNSEEN) / (before_B + UNSEEN)).clamp_min(0)
    return torch.log(error_B + SPARED * distance_B + LEAST) + HARM * harm_B


COUNTED: dict[Weighting, Count] = {
    "none": lambda errors_B, distance_B, clean_BTC, reference_BTC, sigma_B: errors_B,
    "relative": relative,
    "logarithmic": logarithmic,
}
