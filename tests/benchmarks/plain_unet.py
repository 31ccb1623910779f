"""A plain U-Net of the embedded restorer's size, in its place: same inputs, same crops, same tiles.

It takes the arguments of `RestorationTransformer` and returns a velocity, so that `restore` need not know it: the noisy
target is not looked at, and what it predicts is the residual. Prompt and glance, which the restorer has too, shift and
scale the channels of every block. `train_unet.py` trains it.
"""

from itertools import pairwise

import torch
from einops import rearrange
from safetensors import safe_open
from torch import nn

from training.network import params as shapes
from training.network.packing import patchify, unpatchify

PROPORTIONS = (32, 64, 112, 176)  # of the widths of the four scales
STEERING = 128


class Block(nn.Module):
    """Two convolutions, steered between them."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.first, self.second = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.steer = nn.Linear(STEERING, 2 * outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x, vec):
        scale, shift = rearrange(self.steer(vec), "B (two C) -> two B C 1 1", two=2)
        return self.skip(x) + self.second(torch.relu(torch.relu(self.first(x)) * (1 + scale) + shift))


class PlainUNet(nn.Module):
    """Four scales; the output starts as the reference. prompt: numbers in all rows of a prompt."""

    def __init__(self, params, widths, prompt):
        super().__init__()
        self.params, self.patch = params, params.patch
        self.prompt_in = nn.Sequential(nn.Linear(prompt, STEERING), nn.SiLU())
        self.img_in = nn.Conv2d(3, widths[0], 3, padding=1)
        finer = list(pairwise(widths))
        self.down = nn.ModuleList(Block(width, width) for width in widths)
        self.reduce = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in finer)
        self.expand = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in finer)
        self.up = nn.ModuleList(Block(2 * width, width) for width in widths[:-1])
        self.out = nn.Conv2d(widths[0], 3, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, target_BTC, reference_BTC, sigma_B, prompt_BSE, mask_BS, ids_L3):
        rows = int(ids_L3[-1, 1]) + 1
        found = patchify(self.restored(unpatchify(reference_BTC, self.patch, rows=rows), prompt_BSE), self.patch)
        return (target_BTC - found) / sigma_B[:, None, None]

    def restored(self, image, prompt_BSE):
        """Return `image`, (B, 3, H, W) within -1 and 1, restored; inside, its sides are multiples of 8."""
        height, width = image.shape[-2:]
        padded = nn.functional.pad(image, (0, -width % 8, 0, -height % 8), mode="replicate")
        return image + self._residual(padded, prompt_BSE)[..., :height, :width]

    def _residual(self, image, prompt_BSE):
        vec, x, kept = self.prompt_in(prompt_BSE.flatten(1)), self.img_in(image), []
        for block, smaller in zip(self.down, self.reduce, strict=False):
            x = block(x, vec)
            kept.append(x)
            x = smaller(x)
        x = self.down[-1](x, vec)
        for block, larger, fine in reversed(list(zip(self.up, self.expand, kept, strict=True))):
            x = block(torch.cat([fine, larger(x)], dim=1), vec)
        return self.out(x)


def sized(params, prompt, parameters):
    """Return the U-Net whose number of parameters is nearest to `parameters`; its widths are multiples of 4."""
    candidates = {
        tuple(max(4, round(share * width / 4) * 4) for width in PROPORTIONS)
        for share in torch.linspace(0.05, 4, 120).tolist()
    }
    nearest = min(sorted(candidates), key=lambda widths: abs(_counted(params, widths, prompt) - parameters))
    return PlainUNet(params, nearest, prompt)


def count(model):
    """Return the number of a model's parameters."""
    return sum(weight.numel() for weight in model.parameters())


def _counted(params, widths, prompt):
    with torch.device("meta"):
        return count(PlainUNet(params, widths, prompt))


def load_unet(file):
    """Return the U-Net stored at `file`, a safetensors file of `train_unet.py`."""
    with safe_open(str(file), "pt") as stored:
        params = shapes.from_json(stored.metadata()["params"])
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  # it is no mapping
    widths = [
        len(tensors[name]) for number in range(len(PROPORTIONS)) if (name := f"down.{number}.first.bias") in tensors
    ]
    model = PlainUNet(params, widths, tensors["prompt_in.0.weight"].shape[1])
    model.load_state_dict(tensors)
    return model.eval()
