"""The restorer: a diffusion transformer over text | target | reference on one token axis.

The network of Step1X-Edit (arXiv:2504.17761), a Flux transformer behind a connector. Attribute names are the key names
of the published checkpoints, so that reading one is the identity. `tiny` differs in two ways that let it learn within
minutes. The reference is added to the target tokens, each token with its eight neighbours, because copying through
attention takes far longer to learn. And linear filters of the same neighbourhood lead to the output, mixed anew for
each token: restoring is mostly filtering, and gains of light are products, which a plain output does not reach.

Text rows that are padding take part in every attention, as they did when the weights were trained: never trim them.

B batch, T target tokens, S text tokens, L all tokens, C channels of an image token, E width of a prompt row, M width.
"""

from collections.abc import Iterator

import torch
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn import functional

from training.network.connector import Connector
from training.network.layers import DoubleBlock, Embedder, LastLayer, Modulator, SingleBlock
from training.network.maths import masked_sum, rope, sinusoids
from training.network.params import Params

FREQUENCIES = 256
MODEL_GUIDANCE = 3.5  # what a model with an embedded guidance is told (the released pipeline)
NEIGHBOURS = 9  # of a token of an added reference, itself among them
FILTERS = 8  # of an added reference
COLOURS = 3  # each with gates of its own


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
        self.final_layer = LastLayer(hidden, params.channels)
        self.connector = Connector(params.connector, params.pooled) if params.connector else None
        if params.reference == "added":
            self.reference_in = nn.Linear(NEIGHBOURS * params.channels, hidden)
            self.filters = nn.Linear(NEIGHBOURS * params.channels, FILTERS * params.channels)
            self.mix = LastLayer(hidden, FILTERS * COLOURS)

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
        is_added = self.params.reference == "added"
        near_BTN = neighbourhoods(reference_BTC, ids_L3[txt_BSM.shape[1] :]) if is_added else None
        img_BIM = self._image_tokens(target_BTC, reference_BTC, near_BTN)
        rope_2LP = rope(ids_L3, self.params.rope_axes, self.params.rope_theta)

        for block in self.double_blocks:
            img_BIM, txt_BSM = block(img_BIM, txt_BSM, vec_BM, rope_2LP)
        x_BLM = torch.cat([txt_BSM, img_BIM], dim=1)
        for block in self.single_blocks:
            x_BLM = block(x_BLM, vec_BM, rope_2LP)

        first = txt_BSM.shape[1]
        target_BTM = x_BLM[:, first : first + target_BTC.shape[1]]
        out_BTC: Tensor = self.final_layer(target_BTM, vec_BM)
        if near_BTN is not None:
            gates_BTX1 = self.mix(target_BTM, vec_BM)[..., None]
            found_BTXP = rearrange(self.filters(near_BTN), "B T (X P) -> B T X P", X=FILTERS * COLOURS)
            out_BTC = out_BTC + reduce(gates_BTX1 * found_BTXP, "B T (F c) P -> B T (c P)", "sum", F=FILTERS)
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

    def _image_tokens(self, target_BTC: Tensor, reference_BTC: Tensor, near_BTN: Tensor | None) -> Tensor:
        if near_BTN is not None:
            added: Tensor = self.img_in(target_BTC) + self.reference_in(near_BTN)
            return added
        both: Tensor = self.img_in(torch.cat([target_BTC, reference_BTC], dim=1))
        return both


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
    if model.params.reference == "added":
        model.filters.weight.data.copy_(_filter_bank(model.params.channels))


def _silent_at_start(model: RestorationTransformer) -> Iterator[nn.Linear]:
    yield from (module.lin for module in model.modules() if isinstance(module, Modulator))
    yield model.final_layer.linear
    if model.params.reference == "added":
        yield model.img_in  # the noise, at first
        yield model.mix.linear


def _filter_bank(channels: int) -> Tensor:
    """Return the eight filters that a training from scratch starts with, (F C, 9 C).

    The pixel itself, by which light is gained, and the mean around it; what three round blurs, one along rows and one
    along columns change, of which more smooths and less sharpens; and what losing its colour changes.
    """
    patch = round((channels / 3) ** 0.5)
    steps = torch.arange(-patch, 2 * patch, dtype=torch.float32)
    rows, columns = steps.reshape(3, 1, 1, patch, 1), steps.reshape(1, 3, 1, 1, patch)
    shape = (3, 3, 3, patch, patch)  # row and column of the neighbour, channel, row and column within it
    near = torch.stack([part.expand(shape).reshape(-1) for part in (rows, columns, torch.arange(3.0)[:, None, None])])
    own = near.reshape(3, *shape)[:, 1, 1].reshape(3, -1)
    down, across, channel = (own[:, :, None] - near[:, None, :]).square()

    def blur(height: float, width: float) -> Tensor:
        weight = torch.exp(-down / (2 * height**2) - across / (2 * width**2)) * (channel == 0)
        normalised: Tensor = weight / weight.sum(dim=1, keepdim=True)
        return normalised

    is_pixel = ((down == 0) & (across == 0)).float()
    itself, around = is_pixel * (channel == 0), blur(1e3, 1e3)
    blurs = [blur(0.7, 0.7), blur(1.2, 1.2), blur(2.5, 2.5), blur(0.3, 2.0), blur(2.0, 0.3)]
    return torch.cat([itself, around, *(change - itself for change in blurs), is_pixel / 3 - itself])
