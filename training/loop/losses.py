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
TONE_HARM = 0.5  # of the logarithm by which the tone of a crop is worse than it was, counted besides
DETAIL_HARM = 0.1  # and its detail: more than that, and blur is hardly sharpened
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
    of a whole image: by that of what was cut, a sky without a trace of rain would count more than the rain. Harm to
    what was cut counts besides, or faint degradations, to which little is owed, would pay for strong ones: that to its
    tone, the means of tokens, and less that to its detail.
    """
    share_B = missed.sigma_B.square()  # of the error of a velocity, that of the clean image
    after = _tone_and_detail(missed.velocity_BTC, missed.planes)
    before = _tone_and_detail(missed.reference_BTC - missed.clean_BTC, missed.planes)
    of_tone_B, of_detail_B = (_harm(share_B * one_B, other_B) for one_B, other_B in zip(after, before, strict=True))
    harm_B = TONE_HARM * of_tone_B + DETAIL_HARM * of_detail_B
    return torch.log(share_B * missed.errors + SPARED * missed.distance_B + LEAST) + harm_B


def _harm(after_B: Tensor, before_B: Tensor) -> Tensor:
    """Return the logarithm by which errors grew, 0 where they did not."""
    return torch.log((after_B + UNSEEN) / (before_B + UNSEEN)).clamp_min(0)


def _tone_and_detail(difference_BTC: Tensor, planes: int) -> tuple[Tensor, Tensor]:
    """Return the mean squares (B,) of the tokens' means in each plane, and of what differs from those."""
    pixels = rearrange(difference_BTC, "B T (K P) -> B T K P", K=planes)
    return pixels.mean(dim=3).square().mean(dim=(1, 2)), pixels.var(dim=3, correction=0).mean(dim=(1, 2))


COUNTED: dict[Weighting, Callable[[Missed], Tensor]] = {
    "none": lambda missed: missed.errors,
    "relative": relative,
    "logarithmic": logarithmic,
}
