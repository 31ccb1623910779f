"""What one batch says: the errors of the predicted velocities, sample by sample.

B batch, T target tokens, C channels, H and W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from training import flow
from training.data.examples import Example, Look, Rows
from training.encoders.latents import Latents
from training.loop.losses import COUNTED, Missed, Weighting
from training.network import packing
from training.network.model import RestorationTransformer
from training.network.params import Params
from training.restoring.tiles import Prompts


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """A batch on its device, encoded. Every tensor but ids_L3 has one row a sample."""

    clean_BTC: Tensor
    reference_BTC: Tensor
    noise_BTC: Tensor
    distance_B: Tensor
    sigma_B: Tensor
    prompt_BSE: Tensor
    mask_BS: Tensor
    ids_L3: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What stands before the model, frozen, and how its errors are weighed. dtype: what the model computes in.

    mixed: while training, matrices are multiplied in bfloat16.
    """

    params: Params
    latents: Latents
    prompts: Prompts
    weighting: Weighting = "none"
    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    mixed: bool = False

    @torch.no_grad()
    def inputs(self, examples: Sequence[Example]) -> Inputs:
        """Return the examples encoded, on the device; latents, noise and levels stay float32."""
        degraded = [example.degraded for example in examples]
        height, width = degraded[0].shape[:2]
        prompt_BSE, mask_BS = self._rows(examples)
        grid = {"rows": height // self.latents.multiple, "columns": width // self.latents.multiple}
        return Inputs(
            clean_BTC=self.latents.encode(self._images([example.clean for example in examples])).float(),
            reference_BTC=self.latents.encode(self._images(degraded)).float(),
            noise_BTC=torch.stack([example.noise_TC for example in examples]).to(self.device),
            distance_B=torch.tensor([example.distance for example in examples], device=self.device),
            sigma_B=torch.tensor([example.sigma for example in examples], device=self.device),
            prompt_BSE=prompt_BSE.to(self.device, self.dtype),
            mask_BS=mask_BS.to(self.device),
            ids_L3=packing.positions(self.params, text=prompt_BSE.shape[1], **grid, device=self.device),
        )

    def errors(self, model: RestorationTransformer, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Return each sample's error as it counts in the loss, and as it is, both float32 (B,)."""
        x_BTC = flow.noisy(inputs.clean_BTC, inputs.noise_BTC, inputs.sigma_B)
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.mixed):
            velocity_BTC = predicted(model, inputs, x_BTC, inputs.sigma_B, self.dtype)
        missed = Missed(
            velocity_BTC=flow.missed(velocity_BTC, inputs.clean_BTC, inputs.noise_BTC),
            clean_BTC=inputs.clean_BTC,
            reference_BTC=inputs.reference_BTC,
            distance_B=inputs.distance_B,
            sigma_B=inputs.sigma_B,
            planes=self.latents.planes,
        )
        return COUNTED[self.weighting](missed), missed.errors.detach()

    def look(self) -> Look | None:
        """Return what encodes a prompt with the whole image, if the encoder wants to see that."""
        if not getattr(self.prompts, "whole", False):
            return None
        return _Looking(prompts=self.prompts)

    def _rows(self, examples: Sequence[Example]) -> Rows:
        made = [example.rows for example in examples if example.rows is not None]
        if len(made) < len(examples):
            return self.prompts.encode([e.degraded for e in examples], [e.prompt for e in examples])
        return torch.cat([rows for rows, _ in made]), torch.cat([mask for _, mask in made])

    def _images(self, images: Sequence[NDArray[Any]]) -> Tensor:
        stacked = torch.from_numpy(np.stack(images)).to(self.device)
        return rearrange(stacked, "B H W C -> B C H W").float() / 127.5 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Looking:
    """A record and no closure, so that a process that reads can be handed it."""

    prompts: Prompts

    def __call__(self, image: NDArray[Any], prompt: str) -> Rows:
        return self.prompts.encode([image], [prompt])


def predicted(
    model: RestorationTransformer, inputs: Inputs, x_BTC: Tensor, sigma_B: Tensor, dtype: torch.dtype
) -> Tensor:
    """Return the velocity at `x_BTC`, which the model computes in `dtype`; noise levels stay float32."""
    out: Tensor = model(
        x_BTC.to(dtype), inputs.reference_BTC.to(dtype), sigma_B, inputs.prompt_BSE, inputs.mask_BS, inputs.ids_L3
    )
    return out
