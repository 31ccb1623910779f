"""Memory paths: what does not fit a card waits in main memory and visits the card when its turn comes.

The large restorer in bfloat16 is 24.9 GB of transformer, 16.6 GB of language model and 0.3 GB of autoencoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.encoders.qwen import QwenPrompts
from training.network.model import RestorationTransformer

RESIDENT_GB = 48  # from here on everything stays on the card


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What is done to fit a card.

    encoder_visits: the language model is on the card only while it reads a prompt. blocks_visit: the blocks of the
    transformer come one by one. tiled_vae: the autoencoder works in tiles. eight_bit: the language model's linear
    layers are stored in 8 bits.
    """

    encoder_visits: bool = False
    blocks_visit: bool = False
    tiled_vae: bool = False
    eight_bit: bool = False


def memory_for(gigabytes: int) -> Memory:
    """Return what fits the large restorer in a card of so much memory."""
    return Memory(
        encoder_visits=gigabytes < RESIDENT_GB,
        blocks_visit=gigabytes < 32,  # 24.9 GB of weights and 3 of activations
        tiled_vae=gigabytes < 32,
        eight_bit=gigabytes < 24,  # 16.6 GB become 9
    )


def stream_blocks(model: RestorationTransformer, device: str) -> None:
    """Move `model` to `device`, all but its blocks: their weights stay and are lent to `device` block by block."""
    for name, child in model.named_children():
        if name not in ("double_blocks", "single_blocks"):
            child.to(device)
    for block in (*model.double_blocks, *model.single_blocks):
        _lend(block, device)


def _lend(block: nn.Module, device: str) -> None:
    home = [
        (module, name, _pinned(weight.detach(), device))
        for module in block.modules()
        for name, weight in module.named_parameters(recurse=False)
    ]

    def place(where: str) -> None:
        for module, name, kept in home:
            setattr(module, name, nn.Parameter(kept.to(where, non_blocking=True), requires_grad=False))

    block.register_forward_pre_hook(lambda module, arguments: place(device))
    block.register_forward_hook(lambda module, arguments, output: place("cpu"))
    place("cpu")


def _pinned(tensor: Tensor, device: str) -> Tensor:
    return tensor.pin_memory() if device.startswith("cuda") else tensor


class VisitingPrompts:
    """A prompt encoder whose language model is on the card only while it encodes."""

    whole = False

    def __init__(self, prompts: QwenPrompts, device: str) -> None:
        self._prompts, self._device = prompts, device

    def encode(self, images: Sequence[NDArray[Any]], prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return what the encoder returns, on the card."""
        self._prompts.model.to(self._device)
        try:
            return self._prompts.encode(images, prompts)
        finally:
            self._prompts.model.to("cpu")
            if self._device.startswith("cuda"):
                torch.cuda.empty_cache()


def store_in_eight_bits(model: nn.Module) -> None:
    """Store the weights of all linear layers in 8 bits, one scale a row; they compute in the type they had."""
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    quantize_(model, Int8WeightOnlyConfig())
