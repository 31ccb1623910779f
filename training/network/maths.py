"""Attention, rotary positions and sinusoidal embeddings: pure functions of tensors.

B batch, L tokens, H heads, D width of a head, A position axes, P = D / 2 rotated pairs, F frequencies.
"""

import math

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

MAX_PERIOD = 10_000.0
PLAIN_UP_TO = 512  # tokens
TIME_FACTOR = 1000.0  # noise levels within 0 and 1 are embedded as 0 to 1000


def attention(q_BHLD: Tensor, k_BHLD: Tensor, v_BHLD: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return scaled dot-product attention with its heads joined, (B, L, H D).

    mask: boolean, (B, 1, L, L), true where a query (row) may look at a key (column).
    """
    if mask is None and _is_small_training(q_BHLD):
        scores_BHLL = (q_BHLD * q_BHLD.shape[-1] ** -0.5) @ k_BHLD.transpose(-1, -2)
        x_BHLD = scores_BHLL.softmax(dim=-1, dtype=scores_BHLL.dtype) @ v_BHLD
    else:
        x_BHLD = functional.scaled_dot_product_attention(q_BHLD, k_BHLD, v_BHLD, attn_mask=mask)
    joined_BLM: Tensor = rearrange(x_BHLD, "B H L D -> B L (H D)")
    return joined_BLM


def _is_small_training(q_BHLD: Tensor) -> bool:
    """Return whether plain products are faster: the fused backward pass in bfloat16 on a CPU takes twice as long."""
    few = q_BHLD.shape[2] <= PLAIN_UP_TO
    return few and q_BHLD.requires_grad and q_BHLD.dtype == torch.bfloat16 and q_BHLD.device.type == "cpu"


def rope(ids_LA: Tensor, axes: tuple[int, ...], theta: float) -> Tensor:
    """Return the cosines and sines, float32 (2, L, P), that turn the token at `ids_LA` (RoFormer, arXiv:2104.09864).

    axes: how many of the D channels each position axis turns. Angles are float64: at position 256 the fastest pair has
    turned forty times, and float32 would keep four digits of the rest.
    """
    angles = [_angles(ids_LA[:, axis], width, theta) for axis, width in enumerate(axes)]
    angles_LP = torch.cat(angles, dim=-1)
    return torch.stack([angles_LP.cos(), angles_LP.sin()]).float()


def _angles(ids_L: Tensor, width: int, theta: float) -> Tensor:
    exponents_F = torch.arange(0, width, 2, dtype=torch.float64, device=ids_L.device) / width
    return ids_L.double()[:, None] * theta**-exponents_F


def apply_rope(x_BHLD: Tensor, rope_2LP: Tensor) -> Tensor:
    """Return `x_BHLD` with each pair of neighbouring channels turned by its angle, in float32, in x's own type."""
    cos_LP, sin_LP = rope_2LP
    if not torch.compiler.is_compiling():  # as complex numbers they are turned in one pass; the compiler has none
        pairs_BHLP = torch.view_as_complex(rearrange(x_BHLD.float(), "B H L (P two) -> B H L P two", two=2))
        turned = torch.view_as_real(pairs_BHLP * torch.complex(cos_LP, sin_LP))
        return rearrange(turned, "B H L P two -> B H L (P two)").type_as(x_BHLD)
    even, odd = rearrange(x_BHLD.float(), "B H L (P two) -> two B H L P", two=2)
    turned = torch.stack([even * cos_LP - odd * sin_LP, even * sin_LP + odd * cos_LP], dim=-1)
    return rearrange(turned, "B H L P two -> B H L (P two)").type_as(x_BHLD)


def sinusoids(level_B: Tensor, width: int) -> Tensor:
    """Return float32 (B, width): the cosines, then the sines, of 1000 `level_B` at falling frequencies."""
    half = width // 2
    frequencies_F = torch.exp(-math.log(MAX_PERIOD) / half * torch.arange(half, device=level_B.device))
    angles_BF = (level_B.float() * TIME_FACTOR)[:, None] * frequencies_F
    return torch.cat([angles_BF.cos(), angles_BF.sin()], dim=-1)


def rms_norm(x: Tensor, scale: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Return `x` over its root mean square along the last axis, taken in float32, times `scale`."""
    x32 = x.float()
    inverse = torch.rsqrt(x32.square().mean(dim=-1, keepdim=True) + epsilon)
    return (x32 * inverse).type_as(x) * scale.type_as(x)


def masked_sum(x_BSE: Tensor, mask_BS: Tensor) -> Tensor:
    """Return the sum (B, E) of the rows at which the mask is true."""
    return (x_BSE * mask_BS[..., None].type_as(x_BSE)).sum(dim=1)


def masked_mean(x_BSE: Tensor, mask_BS: Tensor) -> Tensor:
    """Return the mean (B, E) of the rows at which the mask is true."""
    return masked_sum(x_BSE, mask_BS) / mask_BS.sum(dim=1, keepdim=True).type_as(x_BSE)
