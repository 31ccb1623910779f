"""From weights to a restorer that is ready: the small one from one file, the large one from a bundle."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from storage.errors import SettingsError
from training.encoders.latents import PixelLatents, load_flux
from training.encoders.prompts import GlancingPrompts
from training.encoders.qwen import load_qwen
from training.flow import Guidance
from training.network.model import RestorationTransformer
from training.network.params import Params
from training.restoring.offload import Memory, VisitingPrompts, store_in_eight_bits, stream_blocks
from training.restoring.tiles import Restorer, Sampling
from training.weights import checkpoints

Dtype = Literal["fp32", "bf16"]
DTYPES: dict[Dtype, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Placing:
    """Where and how a restorer runs. prefix: the text before the image that the large one was trained with."""

    device: str = "cpu"
    dtype: Dtype | None = None
    memory: Memory = field(default_factory=Memory)
    compiled: bool = False
    prefix: str | None = None


def load(weights: Path, placing: Placing) -> Restorer:
    """Return the restorer at `weights`: a file of `pairforge train`, its folder, or the root of a bundle.

    Raises SettingsError when there is nothing at `weights` or something beside it is missing, ShardError when what is
    there is broken.
    """
    with checkpoints.opened(weights) as checkpoint:
        params = checkpoint.params
    if is_small(params):
        return _small(weights, placing)
    if not (weights / "text_encoder").is_dir():
        raise SettingsError(
            f"{weights} holds a transformer without text_encoder, processor and vae; name a bundle that has all four"
        )
    if placing.prefix is None:
        raise SettingsError(f"{weights} needs the text it was trained with before the image; name its file by --prefix")
    return _large(weights, placing, placing.prefix)


def sampling_of(params: Params) -> Sampling:
    """Return how a restorer of this kind is sampled unless said otherwise.

    The small one takes one step, because the mean of what it could sample is nearest to the clean image, in the tiles
    that it was trained on; the large one the released 28 with guidance.
    """
    if is_small(params):
        return Sampling(steps=1, guidance=None, tile=64, overlap=16, batch=16)
    return Sampling(guidance=Guidance())


def is_small(params: Params) -> bool:
    """Return whether this is a restorer of pixels, which needs no other model."""
    return params.connector is None


def _small(weights: Path, placing: Placing) -> Restorer:
    if placing.dtype == "bf16":
        raise SettingsError(
            "the small restorer adds to the image itself, for which bf16 is too coarse; use --dtype fp32"
        )
    model = checkpoints.load(weights, dtype=torch.float32, device=placing.device).eval()
    _compile(model, placing)
    return Restorer(model=model, latents=PixelLatents(model.params.patch), prompts=GlancingPrompts())


def _large(weights: Path, placing: Placing, prefix: str) -> Restorer:
    device, memory, dtype = placing.device, placing.memory, DTYPES[placing.dtype or "bf16"]
    if placing.compiled and memory.blocks_visit:
        raise SettingsError("blocks that come to the card one by one cannot be compiled; leave out --compile")
    prompts = load_qwen(weights, prefix, device="cpu" if memory.encoder_visits else device, dtype=dtype)
    if memory.eight_bit:
        store_in_eight_bits(prompts.model)
    model = checkpoints.load(weights, dtype=dtype, device="cpu" if memory.blocks_visit else device).eval()
    if memory.blocks_visit:
        stream_blocks(model, device)
    _compile(model, placing)
    return Restorer(
        model=model,
        latents=load_flux(weights, device=device, tiles=memory.tiled_vae),
        prompts=VisitingPrompts(prompts, device) if memory.encoder_visits else prompts,
    )


def _compile(model: RestorationTransformer, placing: Placing) -> None:
    """Compile block by block: all blocks of a kind share one compilation."""
    if placing.compiled:
        for block in (*model.double_blocks, *model.single_blocks):
            block.compile()
