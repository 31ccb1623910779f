"""The weights that a training comes to, as one native file."""

from pathlib import Path

import torch
from torch import Tensor

from training.loop.states import State, names
from training.network.model import RestorationTransformer
from training.weights import checkpoints
from training.weights.lora import merged


def export(model: RestorationTransformer, state: State, path: Path) -> None:
    """Write the weights, averaged where an average was kept and adapters added in; every rank calls this, one writes.

    What an earlier, interrupted export left is replaced.
    """
    if state.average:
        with state.average.swapped(state.weights):
            _write(model, path)
    else:
        _write(model, path)


def _write(model: RestorationTransformer, path: Path) -> None:
    tensors = _plain(model)
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    if rank:
        for tensor in tensors.values():
            _whole(tensor)  # a collective: every rank takes part, tensor by tensor
        return
    path.unlink(missing_ok=True)
    kinds = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    checkpoints.save_tensors(model.params, kinds, lambda name: _whole(tensors[name]), checkpoints.Target(path=path))


def _plain(model: RestorationTransformer) -> dict[str, Tensor]:
    """Return the native tensors, still sharded, in the order of their names."""
    found = names(model)
    if any("lora_" in name for name in found):
        return dict(sorted(merged(model).items()))
    return dict(sorted(found.items()))


def _whole(tensor: Tensor) -> Tensor:
    gathered: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return gathered.detach()
