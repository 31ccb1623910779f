"""The connector: refines the hidden states of Qwen2.5-VL into text tokens and a pooled prompt.

Attribute names are the key names of the published checkpoints. B batch, S text tokens, E width of the hidden states,
M width of the connector, H heads.
"""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from training.network.maths import attention, masked_mean, sinusoids
from training.network.params import ConnectorParams

FREQUENCIES = 256
SCALE_AT_START = 0.09 - 1  # Step1X-Edit v1.0 starts with a twelfth of the mean


class MLP(nn.Module):
    """Two linear layers with SiLU between, four times as wide inside."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(hidden, 4 * hidden)
        self.fc2 = nn.Linear(4 * hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Return the same shape."""
        out: Tensor = self.fc2(functional.silu(self.fc1(x)))
        return out


class RefinerBlock(nn.Module):
    """Self-attention among the valid text tokens and an MLP, both gated by noise level and prompt."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(hidden, eps=1e-6)
        self.self_attn_qkv = nn.Linear(hidden, 3 * hidden)
        self.self_attn_proj = nn.Linear(hidden, hidden)
        self.norm2 = nn.LayerNorm(hidden, eps=1e-6)
        self.mlp = MLP(hidden)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden, 2 * hidden))

    def forward(self, x_BSM: Tensor, condition_BM: Tensor, mask_B1SS: Tensor) -> Tensor:
        """Return the tokens, refined."""
        attention_gate, mlp_gate = self.adaLN_modulation(condition_BM)[:, None].chunk(2, dim=-1)
        qkv = self.self_attn_qkv(self.norm1(x_BSM))
        q, k, v = rearrange(qkv, "B S (K H D) -> K B H S D", K=3, H=self.heads)
        x_BSM = x_BSM + attention_gate * self.self_attn_proj(attention(q, k, v, mask_B1SS))
        refined: Tensor = x_BSM + mlp_gate * self.mlp(self.norm2(x_BSM))
        return refined


class TimeEmbedder(nn.Module):
    """Embeds the noise level."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(FREQUENCIES, hidden), nn.SiLU(), nn.Linear(hidden, hidden))

    def forward(self, sigma_B: Tensor) -> Tensor:
        """Return (B, M)."""
        first = self.mlp[0].weight
        assert isinstance(first, Tensor)
        embedded: Tensor = self.mlp(sinusoids(sigma_B, FREQUENCIES).type_as(first))
        return embedded


class ContextEmbedder(nn.Module):
    """Embeds the mean of the hidden states."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(width, hidden)
        self.linear_2 = nn.Linear(hidden, hidden)

    def forward(self, mean_BE: Tensor) -> Tensor:
        """Return (B, M)."""
        embedded: Tensor = self.linear_2(functional.silu(self.linear_1(mean_BE)))
        return embedded


class TokenRefiner(nn.Module):
    """Hidden states to text tokens."""

    def __init__(self, params: ConnectorParams) -> None:
        super().__init__()
        self.input_embedder = nn.Linear(params.width, params.hidden)
        self.t_embedder = TimeEmbedder(params.hidden)
        self.c_embedder = ContextEmbedder(params.width, params.hidden)
        blocks = nn.ModuleList(RefinerBlock(params.hidden, params.heads) for _ in range(params.blocks))
        self.individual_token_refiner = nn.ModuleDict({"blocks": blocks})

    def forward(self, hidden_BSE: Tensor, mean_BE: Tensor, sigma_B: Tensor, mask_BS: Tensor) -> Tensor:
        """Return the text tokens, (B, S, M)."""
        condition_BM = self.t_embedder(sigma_B) + self.c_embedder(mean_BE)
        mask_B1SS = attention_mask(mask_BS)
        tokens_BSM: Tensor = self.input_embedder(hidden_BSE)
        blocks = self.individual_token_refiner["blocks"]
        assert isinstance(blocks, nn.ModuleList)
        for block in blocks:
            tokens_BSM = block(tokens_BSM, condition_BM, mask_B1SS)
        return tokens_BSM


class Connector(nn.Module):
    """Hidden states of prompt and degraded image to text tokens and pooled prompt."""

    def __init__(self, params: ConnectorParams, pooled: int) -> None:
        super().__init__()
        self.S = TokenRefiner(params)
        self.global_proj_out = nn.Linear(params.width, pooled)
        self.scale_factor = nn.Parameter(torch.full((1,), SCALE_AT_START)) if params.scaled else None

    def forward(self, hidden_BSE: Tensor, sigma_B: Tensor, mask_BS: Tensor) -> tuple[Tensor, Tensor]:
        """Return text tokens (B, S, M) and pooled prompt (B, pooled); mask_BS is false at padded rows."""
        mean_BE = masked_mean(hidden_BSE, mask_BS)
        tokens_BSM = self.S(hidden_BSE, mean_BE, sigma_B, mask_BS)
        if self.scale_factor is not None:
            mean_BE = mean_BE * (1 + self.scale_factor.type_as(mean_BE))
        return tokens_BSM, self.global_proj_out(mean_BE)


def attention_mask(mask_BS: Tensor) -> Tensor:
    """Return (B, 1, S, S): valid tokens look at valid ones, and all at the first, so that no row is empty."""
    mask_BS = mask_BS.bool()
    mask_B1SS = mask_BS[:, None, :, None] & mask_BS[:, None, None, :]
    first_S = torch.arange(mask_BS.shape[1], device=mask_BS.device) == 0
    return mask_B1SS | first_S
