"""Rectified flow (arXiv:2209.03003): the noisy path, its velocity, the loss, the schedule, guidance, and the sampler.

Noise level sigma runs from 1, noise, to 0, the clean image: x = (1 - sigma) clean + sigma noise, and the velocity
dx/dsigma is noise - clean everywhere on the path. Everything here is float32, whatever the model computes in.

B batch, T target tokens, C channels of a token, N steps.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

# The shift of the noise levels grows with the number of target tokens, linearly in mu (Flux; 4096 are 1024 squared).
TOKENS_LOW, MU_LOW = 256, 0.5
TOKENS_HIGH, MU_HIGH = 4096, 1.15

STEPS = 28  # RealRestorer, section 3.2 and released pipeline, as are the next three
GUIDANCE = 3.0
LIMIT_ABOVE = 0.93  # above this noise level guidance is limited by its norm
LIMIT_POWER = 0.4

Velocity = Callable[[Tensor, Tensor], Tensor]  # (x_BTC, sigma_B) -> velocity_BTC


@dataclass(frozen=True, slots=True, kw_only=True)
class Guidance:
    """Classifier-free guidance (arXiv:2207.12598). `limit_above` 1 never limits."""

    scale: float = GUIDANCE
    limit_above: float = LIMIT_ABOVE
    limit_power: float = LIMIT_POWER


def mu(tokens: int) -> float:
    """Return the log of the shift for so many target tokens."""
    return MU_LOW + (tokens - TOKENS_LOW) * (MU_HIGH - MU_LOW) / (TOKENS_HIGH - TOKENS_LOW)


def shifted(sigma: Tensor, mu: float) -> Tensor:
    """Return noise levels moved towards 1: e^mu / (e^mu + 1 / sigma - 1), and 0 for 0 (arXiv:2403.03206, eq. 23)."""
    return math.exp(mu) * sigma / (math.exp(mu) * sigma + 1 - sigma)


def schedule(steps: int, tokens: int) -> Tensor:
    """Return the noise levels (N + 1,) from 1 to 0 at which a sampler of `steps` steps stops."""
    if steps < 1:
        raise ValueError(f"a schedule has at least one step, got {steps}")
    return shifted(torch.linspace(1, 0, steps + 1, dtype=torch.float64), mu(tokens)).float()


def noisy(clean_BTC: Tensor, noise_BTC: Tensor, sigma_B: Tensor) -> Tensor:
    """Return the point at `sigma_B` on the straight path from clean image to noise."""
    sigma_B11 = sigma_B[:, None, None]
    return (1 - sigma_B11) * clean_BTC + sigma_B11 * noise_BTC


def missed(velocity_BTC: Tensor, clean_BTC: Tensor, noise_BTC: Tensor) -> Tensor:
    """Return by what (B, T, C) the true velocity is missed, in float32."""
    true_BTC = noise_BTC.float() - clean_BTC.float()
    return velocity_BTC.float() - true_BTC


def errors(velocity_BTC: Tensor, clean_BTC: Tensor, noise_BTC: Tensor) -> Tensor:
    """Return each sample's mean squared error (B,) against the true velocity, in float32."""
    return missed(velocity_BTC, clean_BTC, noise_BTC).square().mean(dim=(1, 2))


def loss(velocity_BTC: Tensor, clean_BTC: Tensor, noise_BTC: Tensor, weight_B: Tensor | None = None) -> Tensor:
    """Return the mean of the samples' errors, each times its weight when there are weights."""
    errors_B = errors(velocity_BTC, clean_BTC, noise_BTC)
    return errors_B.mean() if weight_B is None else (errors_B * weight_B).mean()


def relative_weights(clean_BTC: Tensor, reference_BTC: Tensor, sigma_B: Tensor) -> Tensor:
    """Return weights (B,) that make the loss the error of the clean image relative to that of the reference.

    The error of the clean image is sigma squared times that of the velocity. Without this haze, whose references are
    furthest from the clean image, would drown the other tasks. The 0.001 keeps nearly clean samples from ruling.
    """
    distance_B = (reference_BTC.float() - clean_BTC.float()).square().mean(dim=(1, 2))
    return sigma_B.square() / (distance_B + 1e-3)


def shifted_logit_normal(count: int, tokens: int, *, uniform: float, generator: torch.Generator) -> Tensor:
    """Return `count` noise levels for training: sigmoid of a normal, shifted; a share of `uniform` is uniform instead.

    The public Step1X-Edit recipe is `uniform=0`: then only 1.2 % of the samples at 1024 squared lie below 0.25, where
    two to three of 28 inference steps are.
    """
    normal, flat, choice = (
        torch.randn(count, generator=generator),
        torch.rand(count, generator=generator),
        torch.rand(count, generator=generator),
    )
    return torch.where(choice < uniform, flat, shifted(normal.sigmoid(), mu(tokens)))


def guided(conditional: Tensor, unconditional: Tensor, sigma: float, guidance: Guidance) -> Tensor:
    """Return unconditional + scale * difference; at high noise each token's difference shrinks by its norm ** power."""
    difference_BTC = conditional - unconditional
    if sigma > guidance.limit_above:
        norm_BT1 = difference_BTC.norm(dim=-1, keepdim=True)
        difference_BTC = difference_BTC / norm_BT1.pow(guidance.limit_power).clamp_min(1)
    return unconditional + guidance.scale * difference_BTC


def classifier_free(both: Velocity, guidance: Guidance) -> Velocity:
    """Return the guided velocity of `both`, which takes a doubled batch: first with the prompt, then without."""

    def velocity(x_BTC: Tensor, sigma_B: Tensor) -> Tensor:
        out = both(torch.cat([x_BTC, x_BTC]), torch.cat([sigma_B, sigma_B])).float()
        conditional, unconditional = out.chunk(2)
        return guided(conditional, unconditional, float(sigma_B[0]), guidance)

    return velocity


def sample(velocity: Velocity, noise_BTC: Tensor, sigmas: Tensor) -> Tensor:
    """Return the clean tokens that Euler steps reach from `noise_BTC` along the noise levels `sigmas`."""
    x_BTC = noise_BTC.float()
    levels = sigmas.tolist()
    for sigma, following in pairwise(levels):
        sigma_B = torch.full((len(x_BTC),), sigma, device=x_BTC.device)
        x_BTC = x_BTC + (following - sigma) * velocity(x_BTC, sigma_B).float()
    return x_BTC
