"""Turn a `.pt` file into safetensors, once: the pickle is read in a process of its own that can do nothing else."""

import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.errors import SettingsError, ShardError
from storage.files import publish
from storage.weights import check_safetensors

PROGRAM = Path(__file__).with_name("unpickle.py")
MEMORY = 3 * 2**30  # bytes beside thrice the file: Python and torch with all their libraries
SECONDS = 60  # beside one for every 20 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """What a pickle held. left_out: what lay beside the weights, such as an optimiser."""

    tensors: int
    parameters: int
    left_out: tuple[str, ...]


def convert_pickle(source: Path, target: Path, *, memory: int | None = None, seconds: float | None = None) -> Converted:
    """Publish the tensors of the `.pt` file `source`, under the names they have there, as safetensors at `target`.

    memory, seconds: what reading may take; by the size of the file unless said. Raises SettingsError when there is no
    such file or `target` exists, ShardError when it is not a plain dict of tensors, whatever else it may be.
    """
    _check_places(source, target)
    size = source.stat().st_size
    limits = (memory or MEMORY + 3 * size, seconds or SECONDS + size // (20 * 10**6))
    with publish(target) as file:
        told = _read_apart(source.resolve(), Path(file.name).resolve(), *limits)
        if "error" in told:
            raise ShardError(f"{source} cannot be converted, and nothing in it was run: {told['error']}")
        check_safetensors(Path(file.name))
        return Converted(
            tensors=int(told["tensors"]), parameters=int(told["parameters"]), left_out=tuple(told["left_out"])
        )


def is_pickle(file: Path) -> bool:
    """Return whether a file is not safetensors, whose header starts with a brace after its length."""
    with file.open("rb") as opened:
        return opened.read(9)[8:] != b"{"


def _check_places(source: Path, target: Path) -> None:
    if not source.is_file():
        raise SettingsError(f"{source} {'is no file' if source.exists() else 'does not exist'}; name a .pt file")
    if not is_pickle(source):
        raise SettingsError(f"{source} is safetensors already; use it as it is")
    if target.exists() or target.is_symlink():
        raise SettingsError(f"{target} exists; name another place")


def _read_apart(source: Path, target: Path, memory: int, seconds: float) -> dict[str, Any]:
    command = [sys.executable, "-I", str(PROGRAM), str(source), str(target), str(memory), str(math.ceil(seconds))]
    environment = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}  # no secret of ours, no device
    try:
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"error": f"reading it took more than {seconds} s"}
    try:
        told = json.loads(done.stdout)
    except ValueError:
        return {"error": f"reading it ended with status {done.returncode}, by a limit of memory or time or a fault"}
    assert isinstance(told, dict)
    return told
