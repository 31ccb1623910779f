"""The restorer: a diffusion transformer over text | target | reference on one token axis.

The network of Step1X-Edit (arXiv:2504.17761), a Flux transformer behind a connector. Attribute names are the key names
of the published checkpoints, so that reading one is the identity. `tiny` differs in two ways that let it learn within
minutes. Its target tokens see what is measured of the reference, each with its eight neighbours, because copying
through attention takes far longer to learn. And its last layer says not pixels but how the reference is filtered
(`filtering`); how strongly, prompt and glance say for the whole image, so that what a prompt does not ask for stays.

Text rows that are padding take part in every attention, as they did when the weights were trained: never trim them.

B batch, T target tokens, S text tokens, L all tokens, C channels of an image token, E width of a prompt row, M width.
"""

from collections.abc import Iterator

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from training.network import filtering
from training.network.connector import Connector
from training.network.layers import DoubleBlock, Embedder, LastLayer, Modulator, SingleBlock
from training.network.maths import masked_sum, rope, sinusoids
from training.network.packing import patchify, unpatchify
from training.network.params import Params

FREQUENCIES = 256
MODEL_GUIDANCE = 3.5  # what a model with an embedded guidance is told (the released pipeline)
NEIGHBOURS = 9  # of a token of a filtered reference, itself among them
SLOWLY = 0.3  # how fast strengths move, of other weights: what loses its strength early learns no more


class RestorationTransformer(nn.Module):
    """Velocity of the noisy target, given the degraded reference, the prompt and the noise level."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        hidden, heads, ratio = params.hidden, params.heads, params.mlp_ratio
        self.params = params
        self.img_in = nn.Linear(params.channels, hidden)
        self.time_in = Embedder(FREQUENCIES, hidden)
        self.vector_in = Embedder(params.pooled, hidden)
        self.guidance_in = Embedder(FREQUENCIES, hidden) if params.guidance else None
        self.txt_in = nn.Linear(params.context, hidden)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, hidden)) if params.mask_token else None
        self.double_blocks = nn.ModuleList(DoubleBlock(hidden, heads, ratio) for _ in range(params.double_blocks))
        self.single_blocks = nn.ModuleList(SingleBlock(hidden, heads, ratio) for _ in range(params.single_blocks))
        is_filtered = params.reference == "filtered"
        self.final_layer = LastLayer(hidden, filtering.GATES if is_filtered else params.channels)
        self.connector = Connector(params.connector, params.pooled) if params.connector else None
        if is_filtered:
            self.reference_in = nn.Linear(NEIGHBOURS * filtering.SEEN, hidden)
            self.strength = nn.Linear(hidden, 2)

    def forward(
        self,
        target_BTC: Tensor,
        reference_BTC: Tensor,
        sigma_B: Tensor,
        prompt_BSE: Tensor,
        mask_BS: Tensor,
        ids_L3: Tensor,
    ) -> Tensor:
        """Return the velocity of the target tokens, (B, T, C).

        target_BTC: the noisy target at noise level `sigma_B` within 0 and 1. mask_BS: false at padded prompt rows.
        ids_L3: positions of all tokens, from `training.network.packing.positions`.
        """
        txt_BSM, vec_BM = self.embed(prompt_BSE, mask_BS, sigma_B)
        measured = None
        if self.params.reference == "filtered":
            measured = filtering.measured(self._pixels(reference_BTC, ids_L3), prompt_BSE[:, -1], self.params.patch)
        img_BIM = self._image_tokens(target_BTC, reference_BTC, measured, ids_L3[txt_BSM.shape[1] :])
        rope_2LP = rope(ids_L3, self.params.rope_axes, self.params.rope_theta)

        for block in self.double_blocks:
            img_BIM, txt_BSM = block(img_BIM, txt_BSM, vec_BM, rope_2LP)
        x_BLM = torch.cat([txt_BSM, img_BIM], dim=1)
        for block in self.single_blocks:
            x_BLM = block(x_BLM, vec_BM, rope_2LP)

        first = txt_BSM.shape[1]
        out_BTC: Tensor = self.final_layer(x_BLM[:, first : first + target_BTC.shape[1]], vec_BM)
        if measured is not None:
            strength_B2 = 1 + SLOWLY * self.strength(functional.silu(vec_BM))
            image_BCHW = filtering.filtered(measured, out_BTC, strength_B2, self.params.patch)
            out_BTC = patchify(image_BCHW - measured.image_BCHW, self.params.patch)
        if self.params.predicts == "velocity":
            return out_BTC
        return (target_BTC - (reference_BTC + out_BTC)) / sigma_B[:, None, None]

    def embed(self, prompt_BSE: Tensor, mask_BS: Tensor, sigma_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return the text tokens, (B, S, M), and what steers every block, (B, M)."""
        if self.connector is None:
            tokens, pooled = prompt_BSE, masked_sum(prompt_BSE, mask_BS)
        else:
            tokens, pooled = self.connector(prompt_BSE, sigma_B, mask_BS)
        vec_BM: Tensor = self.time_in(sinusoids(sigma_B, FREQUENCIES).type_as(pooled))
        if self.guidance_in is not None:
            guidance_B = torch.full_like(sigma_B, MODEL_GUIDANCE)
            vec_BM = vec_BM + self.guidance_in(sinusoids(guidance_B, FREQUENCIES).type_as(pooled))
        return self.txt_in(tokens), vec_BM + self.vector_in(pooled)

    def _image_tokens(
        self, target_BTC: Tensor, reference_BTC: Tensor, measured: filtering.Reference | None, ids_I3: Tensor
    ) -> Tensor:
        if measured is not None:
            seen_BTS = filtering.seen(measured, self.params.patch).type_as(target_BTC)
            steered: Tensor = self.img_in(target_BTC) + self.reference_in(neighbourhoods(seen_BTS, ids_I3))
            return steered
        both: Tensor = self.img_in(torch.cat([target_BTC, reference_BTC], dim=1))
        return both

    def _pixels(self, reference_BTC: Tensor, ids_L3: Tensor) -> Tensor:
        return unpatchify(reference_BTC.float(), self.params.patch, rows=int(ids_L3[-1, 1]) + 1)


def build(params: Params, device: str = "meta") -> RestorationTransformer:
    """Return a restorer whose weights are not set; on "meta" none are allocated."""
    with torch.device(device):
        return RestorationTransformer(params)


def neighbourhoods(tokens_BTC: Tensor, ids_T3: Tensor) -> Tensor:
    """Return each token of a grid with the eight around it, (B, T, 9 C); beyond the edge the nearest is repeated."""
    rows = int(ids_T3[-1, 1]) + 1
    grid_BCyx = rearrange(tokens_BTC, "B (y x) C -> B C y x", y=rows)
    padded = functional.pad(grid_BCyx, (1, 1, 1, 1), mode="replicate")
    around = [padded[..., y : y + grid_BCyx.shape[2], x : x + grid_BCyx.shape[3]] for y in range(3) for x in range(3)]
    return rearrange(around, "N B C y x -> B (y x) (N C)")


def initialise(model: RestorationTransformer, seed: int) -> None:
    """Fill all weights for a training from scratch; with `predicts="residual"` the first output is the reference.

    Linear layers are Xavier-uniform with zero biases; modulations and the output start at zero, as in DiT
    (arXiv:2212.09748, section 3.2), so that every block starts as the identity.
    """
    generator = torch.Generator(device=model.img_in.weight.device).manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            nn.init.zeros_(module.bias)
    for linear in _silent_at_start(model):
        nn.init.zeros_(linear.weight)


def _silent_at_start(model: RestorationTransformer) -> Iterator[nn.Linear]:
    yield from (module.lin for module in model.modules() if isinstance(module, Modulator))
    yield model.final_layer.linear
    if model.params.reference == "filtered":
        yield model.img_in  # the noise, at first
        yield model.strength
