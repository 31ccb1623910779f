"""`pairforge convert`: a restorer's weights in another published format, or a model's `.pt` file as safetensors."""

from importlib.util import find_spec
from pathlib import Path

from flows.console import Console
from storage.canonical import plain
from storage.errors import SettingsError


def convert_command(
    source: Path, target: Path, *, layout: str, dtype: str | None, reference_ids: str | None, as_json: bool
) -> int:
    """Write the weights at `source` to `target`; returns the exit status."""
    if layout in ("safetensors", "dpt"):
        if dtype or reference_ids:
            raise SettingsError(f"--dtype and --reference-ids are for restorers; leave them out with --to {layout}")
        return _convert_pickle(source, target, layout, as_json=as_json)
    try:
        import torch

        from training.weights import checkpoints
    except ImportError as error:
        raise SettingsError(f"convert needs {error.name}: install PairForge with its `train` extra") from error

    types = {None: None, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    console = Console(as_json=as_json)
    with (
        checkpoints.opened(source, reference_ids=reference_ids) as checkpoint,  # type: ignore[arg-type]  # a choice
        console.busy(f"converting {len(checkpoint.shapes)} tensors from {checkpoint.layout} to {layout}"),
    ):
        checkpoints.convert(checkpoint, checkpoints.Target(path=target, layout=layout, dtype=types[dtype]))  # type: ignore[arg-type]
        count = sum(torch.Size(shape).numel() for shape in checkpoint.shapes.values())
        params, found = checkpoint.params, checkpoint.layout
    data = {"source": str(source), "found": found, "target": str(target), "format": layout, "parameters": count}
    text = f"{target} holds {count:,} parameters as {layout}, read as {found}; reference ids {params.reference_ids}"
    console.result(data | {"params": plain(params)}, text)
    return 0


def _convert_pickle(source: Path, target: Path, layout: str, *, as_json: bool) -> int:
    for library in ("torch", "safetensors"):
        if find_spec(library) is None:
            raise SettingsError(f"convert needs {library}: install PairForge with its `models` extra")
    from tasks.midas_checkpoints import convert_midas
    from tasks.pickles import convert_pickle

    console = Console(as_json=as_json)
    with console.busy(f"reading {source.name} in a process of its own"):
        found = (convert_midas if layout == "dpt" else convert_pickle)(source, target)
    beside = f"; left out: {', '.join(found.left_out)}" if found.left_out else ""
    data = {"source": str(source), "target": str(target), "format": layout, **plain(found)}
    console.result(data, f"{target} holds {found.parameters:,} parameters in {found.tensors} tensors{beside}")
    return 0
