"""The layers of the transformer: modulation, the double and the single stream block, the last layer.

Attribute names are the key names of the published checkpoints. B batch, S text tokens, I image tokens, L = S + I,
M width, H heads, D = M / H.
"""

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from training.network.maths import apply_rope, attention, rms_norm


class Embedder(nn.Module):
    """Two linear layers with SiLU between: embeds a noise level or the pooled prompt."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.in_layer = nn.Linear(width, hidden)
        self.out_layer = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Return the embedding of `x`, (B, hidden)."""
        embedded: Tensor = self.out_layer(functional.silu(self.in_layer(x)))
        return embedded


class RMSNorm(nn.Module):
    """Root mean square norm of one head; the weight is called `scale` in the published files."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised `x`."""
        return rms_norm(x, self.scale)


class QKNorm(nn.Module):
    """The norms of queries and keys."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query_norm = RMSNorm(width)
        self.key_norm = RMSNorm(width)


class Modulation(NamedTuple):
    """How the noise level and the prompt steer one sublayer; each (B, 1, M)."""

    shift: Tensor
    scale: Tensor
    gate: Tensor


class Modulator(nn.Module):
    """The linear layer that makes the modulations of one or two sublayers."""

    def __init__(self, hidden: int, sublayers: int) -> None:
        super().__init__()
        self.sublayers = sublayers
        self.lin = nn.Linear(hidden, 3 * sublayers * hidden)

    def forward(self, vec_BM: Tensor) -> list[Modulation]:
        """Return one modulation for each sublayer."""
        parts = self.lin(functional.silu(vec_BM))[:, None].chunk(3 * self.sublayers, dim=-1)
        return [Modulation(*parts[3 * n : 3 * n + 3]) for n in range(self.sublayers)]


class Attention(nn.Module):
    """The projections of one stream; the attention itself joins both streams."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.norm = QKNorm(hidden // heads)
        self.proj = nn.Linear(hidden, hidden)

    def heads_of(self, x_BLM: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, (B, H, L, D) each."""
        return split_heads(self.qkv(x_BLM), self.heads, self.norm)


class DoubleBlock(nn.Module):
    """Image and text keep their own weights and meet in one attention (MM-DiT, arXiv:2403.03206)."""

    def __init__(self, hidden: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.img_mod = Modulator(hidden, 2)
        self.img_attn = Attention(hidden, heads)
        self.img_mlp = _mlp(hidden, mlp_ratio)
        self.txt_mod = Modulator(hidden, 2)
        self.txt_attn = Attention(hidden, heads)
        self.txt_mlp = _mlp(hidden, mlp_ratio)

    def forward(self, img_BIM: Tensor, txt_BSM: Tensor, vec_BM: Tensor, rope_2LP: Tensor) -> tuple[Tensor, Tensor]:
        """Return both streams, updated."""
        img_mod1, img_mod2 = self.img_mod(vec_BM)
        txt_mod1, txt_mod2 = self.txt_mod(vec_BM)

        img_heads = self.img_attn.heads_of(modulate(img_BIM, img_mod1.shift, img_mod1.scale))
        txt_heads = self.txt_attn.heads_of(modulate(txt_BSM, txt_mod1.shift, txt_mod1.scale))
        q, k, v = (torch.cat(pair, dim=2) for pair in zip(txt_heads, img_heads, strict=True))
        joint_BLM = attention(apply_rope(q, rope_2LP), apply_rope(k, rope_2LP), v)
        txt_joint, img_joint = joint_BLM[:, : txt_BSM.shape[1]], joint_BLM[:, txt_BSM.shape[1] :]

        img_BIM = img_BIM + img_mod1.gate * self.img_attn.proj(img_joint)
        img_BIM = img_BIM + img_mod2.gate * self.img_mlp(modulate(img_BIM, img_mod2.shift, img_mod2.scale))
        txt_BSM = txt_BSM + txt_mod1.gate * self.txt_attn.proj(txt_joint)
        txt_BSM = txt_BSM + txt_mod2.gate * self.txt_mlp(modulate(txt_BSM, txt_mod2.shift, txt_mod2.scale))
        return img_BIM, txt_BSM


class SingleBlock(nn.Module):
    """One stream; attention and MLP side by side (ViT-22B, arXiv:2302.05442), fused into two linear layers."""

    def __init__(self, hidden: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.sizes = [3 * hidden, mlp_ratio * hidden]
        self.modulation = Modulator(hidden, 1)
        self.linear1 = nn.Linear(hidden, sum(self.sizes))
        self.norm = QKNorm(hidden // heads)
        self.linear2 = nn.Linear(hidden + mlp_ratio * hidden, hidden)

    def forward(self, x_BLM: Tensor, vec_BM: Tensor, rope_2LP: Tensor) -> Tensor:
        """Return the stream, updated."""
        [mod] = self.modulation(vec_BM)
        qkv, mlp = self.linear1(modulate(x_BLM, mod.shift, mod.scale)).split(self.sizes, dim=-1)
        q, k, v = split_heads(qkv, self.heads, self.norm)
        joint_BLM = attention(apply_rope(q, rope_2LP), apply_rope(k, rope_2LP), v)
        both = torch.cat([joint_BLM, functional.gelu(mlp, approximate="tanh")], dim=-1)
        updated: Tensor = x_BLM + mod.gate * self.linear2(both)
        return updated


class LastLayer(nn.Module):
    """Norm, modulation without a gate, and the projection to image channels."""

    def __init__(self, hidden: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden, channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden, 2 * hidden))

    def forward(self, x_BLM: Tensor, vec_BM: Tensor) -> Tensor:
        """Return the tokens' channels, (B, L, C)."""
        shift, scale = self.adaLN_modulation(vec_BM)[:, None].chunk(2, dim=-1)
        out: Tensor = self.linear(modulate(x_BLM, shift, scale))
        return out


def modulate(x_BLM: Tensor, shift_B1M: Tensor, scale_B1M: Tensor) -> Tensor:
    """Return the layer norm of `x_BLM`, scaled and shifted."""
    return (1 + scale_B1M) * functional.layer_norm(x_BLM, x_BLM.shape[-1:], eps=1e-6) + shift_B1M


def split_heads(qkv: Tensor, heads: int, norm: QKNorm) -> tuple[Tensor, Tensor, Tensor]:
    """Return normalised queries, normalised keys, and values, (B, H, L, D) each."""
    q, k, v = rearrange(qkv, "B L (K H D) -> K B H L D", K=3, H=heads)
    return norm.query_norm(q), norm.key_norm(k), v


def _mlp(hidden: int, ratio: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(hidden, ratio * hidden), nn.GELU(approximate="tanh"), nn.Linear(ratio * hidden, hidden)
    )
