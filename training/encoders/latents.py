"""Images to tokens and back: through the frozen autoencoder of Flux, or as they are.

Images are float32 (B, 3, H, W) within -1 and 1, sRGB; both sides must be multiples of `multiple`. B batch, T tokens, C
channels of a token.
"""

import re
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from storage.errors import ShardError
from storage.torchvision import prepare_torchvision
from training.network.packing import patchify, unpatchify
from training.weights.tensor_files import TensorFiles


class Latents(Protocol):
    """What the restorer works on. planes: of an encoded image; a token's channels are ordered (plane, row, column)."""

    multiple: int
    planes: int

    def encode(self, image_BCHW: Tensor) -> Tensor:
        """Return the tokens (B, T, C) of images."""

    def decode(self, tokens_BTC: Tensor, *, height: int) -> Tensor:
        """Return the images, `height` pixels high, of tokens."""


class PixelLatents:
    """Pixels themselves, `patch` x `patch` to a token: nothing is lost."""

    planes = 3

    def __init__(self, patch: int) -> None:
        self.multiple = patch

    def encode(self, image_BCHW: Tensor) -> Tensor:
        """Return the tokens of images."""
        return patchify(image_BCHW, self.multiple)

    def decode(self, tokens_BTC: Tensor, *, height: int) -> Tensor:
        """Return the images of tokens."""
        return unpatchify(tokens_BTC, self.multiple, rows=height // self.multiple)


class FluxLatents:
    """The autoencoder of Flux, frozen, in float32: 16 channels at an eighth of the size, 2x2 to a token.

    An image is encoded to the mode of its posterior, so that a seed alone fixes a restoration. `tiles` decodes and
    encodes in tiles, for small memories.
    """

    patch = 2

    def __init__(self, vae: Any, *, tiles: bool = False) -> None:
        self.vae = vae.eval().requires_grad_(requires_grad=False)
        self.scale, self.shift = float(vae.config.scaling_factor), float(vae.config.shift_factor)
        self.planes = int(vae.config.latent_channels)
        self.factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.multiple = self.factor * self.patch
        if tiles:
            vae.enable_tiling()

    @torch.no_grad()
    def encode(self, image_BCHW: Tensor) -> Tensor:
        """Return the tokens of images."""
        mode = self.vae.encode(image_BCHW.float()).latent_dist.mode()
        return patchify((mode - self.shift) * self.scale, self.patch)

    @torch.no_grad()
    def decode(self, tokens_BTC: Tensor, *, height: int) -> Tensor:
        """Return the images of tokens."""
        latents = unpatchify(tokens_BTC.float(), self.patch, rows=height // self.multiple)
        image: Tensor = self.vae.decode(latents / self.scale + self.shift).sample
        return image


# Flux's autoencoder, from the released configuration.
FLUX_VAE: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "act_fn": "silu",
    "latent_channels": 16,
    "norm_num_groups": 32,
    "sample_size": 1024,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "mid_block_add_attention": True,
}


def load_flux(
    path: Path, config: dict[str, Any] | None = None, *, device: str = "cpu", tiles: bool = False
) -> FluxLatents:
    """Return the autoencoder stored at `path`: a native file, a bundle's root or `vae` folder, or diffusers' own.

    config: None is Flux's, with what a `config.json` beside the weights says otherwise. Raises ShardError when the
    weights are not those of `config`, SettingsError when there is nothing at `path`.
    """
    prepare_torchvision()
    from diffusers import AutoencoderKL

    folder = path / "vae" if (path / "vae").is_dir() else path
    config = config or _config_at(folder)
    with torch.device("meta"):
        vae = AutoencoderKL(**config)
    expected = vae.state_dict()
    with TensorFiles(folder) as files:
        names = {diffusers_name(name, len(config["block_out_channels"])): name for name in files.tensors}
        if different := sorted(names.keys() ^ expected.keys()):
            raise ShardError(
                f"{folder} is not Flux's autoencoder: {len(different)} names differ, such as {different[0]}"
            )
        state = {name: files.read(stored) for name, stored in names.items()}
    for name, tensor in state.items():
        if tensor.squeeze().shape != expected[name].squeeze().shape:
            raise ShardError(f"{folder}: {name} is {tuple(tensor.shape)}, expected {tuple(expected[name].shape)}")
        # The attention of the original is a 1x1 convolution, that of diffusers a linear layer.
        state[name] = tensor.reshape(expected[name].shape).to(device=device, dtype=torch.float32)
    vae.load_state_dict(state, assign=True)
    return FluxLatents(vae, tiles=tiles)


def _config_at(folder: Path) -> dict[str, Any]:
    from storage.weights import read_config  # needs pydantic, which the core does not

    file = folder / "config.json"
    said = read_config(file) if file.is_file() else {}
    return FLUX_VAE | {name: value for name, value in said.items() if name in FLUX_VAE}


_RENAMED = [
    (r"^inner_model\.", ""),
    (r"\.mid\.attn_1\.norm\.", ".mid_block.attentions.0.group_norm."),
    (r"\.mid\.attn_1\.proj_out\.", ".mid_block.attentions.0.to_out.0."),
    (r"\.mid\.attn_1\.([qkv])\.", r".mid_block.attentions.0.to_\1."),
    (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
    (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
    (r"\.down\.(\d+)\.block\.", r".down_blocks.\1.resnets."),
    (r"\.down\.(\d+)\.downsample\.", r".down_blocks.\1.downsamplers.0."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"\.norm_out\.", ".conv_norm_out."),
]


def diffusers_name(name: str, levels: int) -> str:
    """Return what diffusers calls a tensor of the original autoencoder; its own names stay.

    The original counts the decoder's levels from the finest, diffusers from the coarsest.
    """
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    if up := re.match(r"^decoder\.up\.(\d+)\.(block|upsample)\.(.*)$", name):
        level = levels - 1 - int(up[1])
        inner = "resnets" if up[2] == "block" else "upsamplers.0"
        return f"decoder.up_blocks.{level}.{inner}.{up[3]}"
    return name
