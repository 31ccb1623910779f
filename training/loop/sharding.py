"""How a model is laid over memory and devices: recomputed and compiled blocks, weights sharded over ranks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed as dist
from torch import nn

from training.network.model import RestorationTransformer


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """checkpointed: blocks, from the first, whose activations are computed again in the backward pass.

    backend: of the compiler. compute: what a sharded model computes in; weights that are kept in float32 are cast block
    by block.
    """

    checkpointed: int = 0
    compiled: bool = False
    backend: str = "inductor"
    compute: torch.dtype = torch.float32


def laid_out(model: RestorationTransformer, layout: Layout, *, sharded: bool) -> None:
    """Wrap the blocks of `model` in place; `sharded` needs a process group, of one rank or more.

    The order matters: recomputation within compilation within sharding, as torchtitan has it.
    """
    number = 0
    for blocks in (model.double_blocks, model.single_blocks):
        for place, block in enumerate(blocks):
            if number < layout.checkpointed:
                blocks[place] = _recomputed(block)
            if layout.compiled:
                blocks[place].compile(fullgraph=True, dynamic=False, backend=layout.backend)
            number += 1
    if sharded:
        _shard(model, layout)


def _recomputed(block: nn.Module) -> nn.Module:
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    # The blocks draw nothing at random, so there is no random state to keep.
    wrapped: nn.Module = checkpoint_wrapper(block, preserve_rng_state=False)
    return wrapped


def _shard(model: RestorationTransformer, layout: Layout) -> None:
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    device = next(model.parameters()).device.type
    mesh = dist.device_mesh.init_device_mesh(device, (dist.get_world_size(),))
    weights = next(model.parameters()).dtype
    policy = MixedPrecisionPolicy(
        param_dtype=None if layout.compute == weights else layout.compute,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,  # noise levels and positions stay float32
    )
    wrap: Callable[..., Any] = fully_shard
    for block in (*model.double_blocks, *model.single_blocks):
        wrap(block, mesh=mesh, mp_policy=policy)
    if model.connector is not None:
        wrap(model.connector, mesh=mesh, mp_policy=policy)
    # The last few weights would stay gathered after a forward pass by default: a validation with averaged weights would
    # leave those behind for the next step.
    wrap(model, mesh=mesh, mp_policy=policy, reshard_after_forward=True)


def freeze_first(model: RestorationTransformer, share: float) -> int:
    """Freeze the first `share` of the single-stream blocks, rounded down; return how many that are."""
    number = int(share * len(model.single_blocks))
    for block in list(model.single_blocks)[:number]:
        block.requires_grad_(requires_grad=False)
    return number
