"""What a run is at a step, saved and found again: weights, moments, averages, and what else it remembers.

A checkpoint is a folder of safetensors, one file a rank, and a JSON text. It is written aside, synced and renamed, so a
folder with a checkpoint's name is whole. Any number of ranks reads what any number wrote (torch's distributed
checkpoints, in their safetensors form: nothing is pickled).
"""

import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from storage.errors import SettingsError, ShardError
from storage.files import publish_bytes
from training.loop.averages import Average
from training.loop.optimizers import set_rate

PREFIX = "step-"
MEMORY = "memory.json"
_WRAPPERS = ("_checkpoint_wrapped_module.", "_orig_mod.")


@dataclass(slots=True, kw_only=True)
class State:
    """A run at `step`: how many steps it has done. memory: JSON values that decide how it goes on."""

    weights: Mapping[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    average: Average | None
    step: int
    memory: dict[str, Any]


def names(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return a model's weights by the names they have in a checkpoint, whatever wraps its blocks."""
    found = {}
    for name, weight in model.named_parameters():
        for wrapper in _WRAPPERS:
            name = name.replace(wrapper, "")
        found[name] = weight
    return found


def save(state: State, folder: Path, *, keep: int) -> Path:
    """Write a checkpoint below `folder`, then remove all but the newest `keep`; every rank calls this.

    One of the same step that is there already stays: to replace it, there would have to be none for a moment.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save as save_distributed

    path = folder / f"{PREFIX}{state.step:06d}"
    aside = folder / f".{path.name}.part"
    if path in found(folder):
        return path
    if _rank() == 0:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        publish_bytes(aside / MEMORY, json.dumps({"step": state.step, **state.memory}, sort_keys=True).encode())
    _wait()
    with _calm():
        writer = HuggingFaceStorageWriter(str(aside), save_distributed=True)
        save_distributed(_tensors(state), storage_writer=writer, no_dist=not dist.is_initialized())
    _wait()
    if _rank() == 0:
        for file in aside.iterdir():
            _sync(file)
        _sync(aside)
        aside.rename(path)
        _sync(folder)
        for old in found(folder)[:-keep]:
            shutil.rmtree(old)
    _wait()
    return path


def found(folder: Path) -> list[Path]:
    """Return the checkpoints below `folder`, the newest last."""
    return sorted(path for path in folder.glob(f"{PREFIX}*") if (path / MEMORY).is_file())


def remembered(path: Path) -> dict[str, Any]:
    """Return the memory of a checkpoint; raises ShardError when it is damaged."""
    try:
        memory: dict[str, Any] = json.loads((path / MEMORY).read_bytes())
        if isinstance(memory["step"], int):
            return memory
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ShardError(f"{path / MEMORY} is damaged ({error}); remove {path} to go on from the one before") from error
    raise ShardError(f"{path / MEMORY} is damaged; remove {path} to go on from the one before")


def check_begun(path: Path, memory: Mapping[str, Any], begun: Mapping[str, Any]) -> None:
    """Raise SettingsError, naming the first difference, when a run was begun with other values than it has now."""
    before: dict[str, Any] = memory.get("begun", {})
    for name in sorted(before.keys() | begun.keys()):
        if before.get(name) != begun.get(name):
            raise SettingsError(
                f"{path.parent} was begun with {name} {before.get(name)}, now it is {begun.get(name)}; "
                "set that back, or train into another output"
            )


def restore(state: State, path: Path) -> None:
    """Set `state` to what the checkpoint at `path` holds; its weights must be those it was saved with.

    Raises ShardError when the checkpoint is damaged, SettingsError when it is that of another model or optimizer.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load as load_distributed

    memory = remembered(path)
    _begin_moments(state)
    wanted = _tensors(state)
    with _calm():
        try:
            reader = HuggingFaceStorageReader(str(path))
            held = reader.read_metadata().state_dict_metadata
            _compare(path, wanted, {name: tuple(entry.size) for name, entry in held.items()})  # type: ignore[union-attr]
            load_distributed(wanted, storage_reader=reader, no_dist=not dist.is_initialized())
        except SettingsError:
            raise
        except Exception as error:
            reason = str(error).strip().partition("\n")[0]
            raise ShardError(f"{path} is damaged ({reason}); remove it to go on from the one before") from error
    _put_back(state, wanted)
    state.step = memory.pop("step")
    state.memory = memory
    for moments in state.optimizer.state.values():
        if "step" in moments:
            moments["step"] = torch.full_like(torch.as_tensor(moments["step"]), state.step)


def _compare(path: Path, wanted: Mapping[str, Tensor], held: Mapping[str, tuple[int, ...]]) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in wanted.items()}
    if different := sorted(name for name in shapes.keys() | held.keys() if shapes.get(name) != held.get(name)):
        raise SettingsError(
            f"{path} is the checkpoint of another model or optimizer: {different[0]} is "
            f"{held.get(different[0], 'not in it')}, expected {shapes.get(different[0], 'nothing')}; "
            "use another output, or the settings it was written with"
        )


def _tensors(state: State) -> dict[str, Any]:
    """Return every tensor of a state by name: trained weights, their moments, their averages; one-element ones are not.

    Frozen weights are those the run starts from and are not kept.
    """
    tensors: dict[str, Any] = {}
    for name, weight in state.weights.items():
        if not weight.requires_grad:
            continue
        tensors[f"weights.{name}"] = weight.detach()
        for kind, moment in state.optimizer.state.get(weight, {}).items():
            if isinstance(moment, Tensor) and moment.dim():
                tensors |= _parts(f"moments.{name}.{kind}", moment)
    if state.average:
        tensors |= {f"average.{name}": mean for name, mean in state.average.tensors.items()}
    return tensors


def _parts(name: str, tensor: Any) -> dict[str, Any]:
    """Return a moment as a checkpoint holds it: itself, or when it is quantised its parts, or when sharded its values.

    Blocks of quantised numbers end where a rank's share ends. Their values suit any number of ranks, but are quantised
    anew when they are read, to within one code; the parts, of one rank, are exact.
    """
    if _quantised(tensor):
        return {f"{name}.{part}": getattr(tensor, part) for part in tensor.__tensor_flatten__()[0]}
    if hasattr(tensor, "to_local") and _quantised(tensor.to_local()):
        from torch.distributed.tensor import DTensor

        form = {"device_mesh": tensor.device_mesh, "placements": tensor.placements}
        whole = {"shape": tensor.shape, "stride": tensor.stride()}
        return {name: DTensor.from_local(tensor.to_local().dequantize(), **form, run_check=False, **whole)}
    return {name: tensor}


def _quantised(tensor: Any) -> bool:
    return hasattr(tensor, "dequantize") and type(tensor).__module__.startswith("torchao.")


def _put_back(state: State, read: Mapping[str, Any]) -> None:
    """Give quantised, sharded moments the values that were read; all other tensors were read in place."""
    for name, weight in state.weights.items():
        for kind, moment in state.optimizer.state.get(weight, {}).items():
            if hasattr(moment, "to_local") and _quantised(moment.to_local()):
                moment.to_local().copy_(read[f"moments.{name}.{kind}"].to_local())


def _begin_moments(state: State) -> None:
    """Let the optimizer make its moments: a step of rate 0 with no gradients leaves the weights as they are."""
    if state.optimizer.state:
        return
    set_rate(state.optimizer, 0.0)
    for group in state.optimizer.param_groups:
        for weight in group["params"]:
            weight.grad = torch.zeros_like(weight, dtype=getattr(weight, "grad_dtype", None) or weight.dtype)
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)


@contextmanager
def _calm() -> Iterator[None]:
    """Keep torch from warning that a single process saves alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def _wait() -> None:
    if dist.is_initialized():
        dist.barrier()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
