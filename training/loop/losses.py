"""How much each sample's error counts.

B batch, T target tokens, C channels, K planes of an image, P numbers of each plane in a token.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor

from training import flow

Weighting = Literal["none", "relative", "logarithmic"]

SPARED = 0.1  # of the pair's error: where less is left, a sample no longer counts more
LEAST = 1e-4  # mean squared error within -1 and 1, 46 dB; what is nearer to clean counts less, or it would steer all
HARM = 0.5  # of the logarithm by which the tone of a crop is worse than it was, counted besides
UNSEEN = 1e-5  # mean squared error, 56 dB, that is no harm


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """By what a batch was missed, float32. velocity_BTC: error of the velocity. distance_B: of the whole pairs.

    planes: of an image, each of which a token holds the same pixels of; a token's channels are ordered (plane, pixel).
    """

    velocity_BTC: Tensor
    clean_BTC: Tensor
    reference_BTC: Tensor
    distance_B: Tensor
    sigma_B: Tensor
    planes: int

    @property
    def errors(self) -> Tensor:
        """Return the mean squared errors (B,) of the velocity."""
        return self.velocity_BTC.square().mean(dim=(1, 2))


def relative(missed: Missed) -> Tensor:
    """Return the error of the clean image relative to that of the reference."""
    return missed.errors * flow.relative_weights(missed.clean_BTC, missed.reference_BTC, missed.sigma_B)


def logarithmic(missed: Missed) -> Tensor:
    """Return the logarithm of the error of the clean image: what PSNR counts, so that every decibel counts alike.

    With relative errors haze, of which a thirtieth is left soon, would hardly count beside reflections, of which most
    remains; and a moire of 43 dB would hardly count at all. The measure is the distance of the whole pair, as PSNR is
    of a whole image: by that of what was cut, a sky without a trace of rain would count more than the rain. Harm to the
    tone of what was cut counts besides, or faint degradations, to which little is owed, would pay for strong ones.
    Harm to its detail does not: counted too, it shuts the sharpening of blur before that is learnt.
    """
    error_B = missed.sigma_B.square() * missed.errors
    after_B = missed.sigma_B.square() * _of_tone(missed.velocity_BTC, missed.planes)
    before_B = _of_tone(missed.reference_BTC - missed.clean_BTC, missed.planes)
    harm_B = torch.log((after_B + UNSEEN) / (before_B + UNSEEN)).clamp_min(0)
    return torch.log(error_B + SPARED * missed.distance_B + LEAST) + HARM * harm_B


def _of_tone(difference_BTC: Tensor, planes: int) -> Tensor:
    """Return the mean squares (B,) of the tokens' means in each plane."""
    return rearrange(difference_BTC, "B T (K P) -> B T K P", K=planes).mean(dim=3).square().mean(dim=(1, 2))


COUNTED: dict[Weighting, Callable[[Missed], Tensor]] = {
    "none": lambda missed: missed.errors,
    "relative": relative,
    "logarithmic": logarithmic,
}
