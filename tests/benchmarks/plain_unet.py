"""A plain U-Net of the embedded restorer's size, in its place: same inputs, same training, same tiles.

It takes the arguments of `RestorationTransformer` and returns a velocity, so that trainer and `restore` need not know
it: the noisy target is not looked at, and what it predicts is the residual. Prompt and glance shift and scale the
channels of every block.
"""

from itertools import pairwise

import torch
from einops import rearrange
from torch import nn

from training.network import params
from training.network.packing import patchify, unpatchify

WIDTHS = (32, 64, 112, 170)
PATCH = 4
PROMPT = 5 * 64  # text and glance


class Block(nn.Module):
    """Two convolutions, steered between them."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.first, self.second = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.steer = nn.Linear(128, 2 * outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x, vec):
        scale, shift = rearrange(self.steer(vec), "B (two C) -> two B C 1 1", two=2)
        return self.skip(x) + self.second(torch.relu(torch.relu(self.first(x)) * (1 + scale) + shift))


class PlainUNet(nn.Module):
    """Four scales; the output starts as the reference."""

    def __init__(self):
        super().__init__()
        self.params = params.tiny()
        self.prompt_in = nn.Sequential(nn.Linear(PROMPT, 128), nn.SiLU())
        self.img_in = nn.Conv2d(3, WIDTHS[0], 3, padding=1)
        finer = list(pairwise(WIDTHS))
        self.down = nn.ModuleList(Block(width, width) for width in WIDTHS)
        self.reduce = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in finer)
        self.expand = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in finer)
        self.up = nn.ModuleList(Block(2 * width, width) for width in WIDTHS[:-1])
        self.out = nn.Conv2d(WIDTHS[0], 3, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, target_BTC, reference_BTC, sigma_B, prompt_BSE, mask_BS, ids_L3):
        rows = int(ids_L3[-1, 1]) + 1
        image = unpatchify(reference_BTC, PATCH, rows=rows)
        found = patchify(image + self.residual(image, prompt_BSE.flatten(1)), PATCH)
        return (target_BTC - found) / sigma_B[:, None, None]

    def residual(self, image, prompt):
        vec, x, kept = self.prompt_in(prompt), self.img_in(image), []
        for block, smaller in zip(self.down, self.reduce, strict=False):
            x = block(x, vec)
            kept.append(x)
            x = smaller(x)
        x = self.down[-1](x, vec)
        for block, larger, fine in reversed(list(zip(self.up, self.expand, kept, strict=True))):
            x = block(torch.cat([fine, larger(x)], dim=1), vec)
        return self.out(x)


def load_unet(file):
    """Return the U-Net stored at `file`, a safetensors file."""
    from safetensors.torch import load_file

    model = PlainUNet()
    model.load_state_dict(load_file(file))
    return model.eval()
