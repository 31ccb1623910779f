"""A process of its own that reads one pickle of tensors and writes safetensors: the only place that unpickles.

Three nets, each enough alone: the pickle's opcodes are read, not run, and whatever names more than tensors is refused
before torch is even imported; torch reads with `weights_only=True`; and the process, which has limits on memory, time
and the size of files, can start no other, connect to nothing and open no file for writing but its target.

    python -I unpickle.py <source> <target> <bytes of memory> <seconds>

It tells what it found as one JSON object on standard output.
"""

import json
import os
import pickletools
import resource
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

WRAPPERS = (
    "state_dict",
    "model",
    "model_state_dict",
    "params_ema",
    "params",
    "module",
)  # what training scripts wrap in
STREAMS = 5  # pickles in a file of torch before 1.6: magic, version, system, content, names of the storages
MAX_PICKLE = 2**26  # bytes; that of a model of a thousand tensors has 2**17

# Names that torch.save writes for tensors, and no more. Everything else is refused, harmless or not.
_MAKERS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")
_STORAGES = ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
NAMES = frozenset(
    {"collections OrderedDict", "torch.storage TypedStorage", "torch.storage UntypedStorage", "torch Size"}
    | {f"torch._utils {name}" for name in _MAKERS}
    | {f"torch {name}Storage" for name in _STORAGES}
)
_FORBIDDEN = ("os.", "subprocess.", "socket.", "ctypes.", "shutil.", "pty.", "webbrowser.", "ftplib.", "urllib.")
_HARMLESS = ("os.listdir", "os.scandir", "os.putenv", "os.unsetenv", "os.walk")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class RefusedError(Exception):
    """The file is not what is read here; the message says why."""


def main(source: Path, target: Path, memory: int, seconds: int) -> None:
    """Write the tensors in `source` to `target` and tell how many there were, or why none were written."""
    try:
        confine(memory, seconds)
        scan(source)
        told = _converted(source, target, memory)
    except RefusedError as error:
        told = {"error": str(error)}
    except Exception as error:  # anything a damaged file makes zipfile, pickletools or torch do
        told = {"error": _reason(error, memory)}
    sys.stdout.write(json.dumps(told))


def confine(memory: int, seconds: int) -> None:
    """Limit this process: `memory` bytes of data, `seconds` of processor time, no core file."""
    for limit, value in (
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, memory),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))


def seal() -> None:
    """Let this process do nothing outside itself from now on: no program, no connection, no file to write."""

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING:
            raise RefusedError(f"it tried to write {arguments[0]}")
        if event.startswith(_FORBIDDEN) and event not in _HARMLESS:
            raise RefusedError(f"it tried to call {event}")

    sys.addaudithook(watch)


def scan(source: Path) -> None:
    """Raise RefusedError unless every name in the pickles of `source` is one that tensors need; runs none of it."""
    with source.open("rb") as file:
        start = file.read(4)
        file.seek(0)
        if start == b"PK\x03\x04":
            _scan_zip(file)
        elif start[:1] == b"\x80":
            for _ in range(STREAMS):
                _scan_pickle(file)
        else:
            raise RefusedError("it starts neither as the zip archive nor as the pickle that torch.save writes")


def _scan_zip(file: IO[bytes]) -> None:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        names = [entry.filename for entry in entries]
        if len(set(names)) != len(names):
            raise RefusedError("its zip archive holds a name twice")
        if packed := [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]:
            raise RefusedError(f"{_shown(packed[0])} in it is compressed, which torch.save never does")
        pickles = [entry for entry in entries if entry.filename.rpartition("/")[2].endswith(".pkl")]
        if len(pickles) != 1 or not pickles[0].filename.endswith("data.pkl"):
            raise RefusedError(f"its zip archive holds {len(pickles)} pickles, expected one data.pkl")
        if pickles[0].file_size > MAX_PICKLE:
            raise RefusedError(f"its pickle has {pickles[0].file_size} bytes, expected at most {MAX_PICKLE}")
        with archive.open(pickles[0]) as stream:
            _scan_pickle(stream)


def _scan_pickle(stream: IO[bytes]) -> None:
    for name in _names(stream):
        if name not in NAMES:
            raise RefusedError(f"its pickle names {_shown(name.replace(' ', '.', 1))}, which is no part of a tensor")


def _names(stream: IO[bytes]) -> Iterator[str]:
    """Yield "module name" of everything that a pickle would import."""
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument)
        elif opcode.name in ("STACK_GLOBAL", "EXT1", "EXT2", "EXT4", "PERSID"):
            raise RefusedError(f"its pickle uses {opcode.name}, which torch.save does not")


def _converted(source: Path, target: Path, memory: int) -> dict[str, Any]:
    import torch
    from safetensors.torch import save_file

    seal()
    content = torch.load(source, map_location="cpu", weights_only=True)
    tensors, left_out = _unwrapped(content)
    if not tensors:
        raise RefusedError("it holds no tensor")
    room, kept, seen = source.stat().st_size * 2 + 2**20, {}, set()
    for name, tensor in tensors.items():
        room -= _checked(name, tensor)
        if room < 0:
            raise RefusedError(f"{_shown(name)} and those before it are larger than the file that holds them")
        storage = tensor.untyped_storage()
        is_own = storage.data_ptr() not in seen and storage.nbytes() == tensor.nbytes
        seen.add(storage.data_ptr())
        kept[name] = tensor.detach().contiguous() if is_own else tensor.detach().clone().contiguous()
    save_file(kept, target, metadata={"format": "pt"})
    return {"tensors": len(kept), "parameters": sum(item.numel() for item in kept.values()), "left_out": left_out}


def _unwrapped(content: Any) -> tuple[dict[str, Any], list[str]]:
    """Return the state dict in what a training script saved, and the names of what lies beside it."""
    if not isinstance(content, dict):
        raise RefusedError(f"it holds a {type(content).__name__}, expected a dict of tensors")
    left_out: list[str] = []
    for name in WRAPPERS:
        if isinstance(content.get(name), dict):
            left_out = sorted(_shown(key) for key in content if isinstance(key, str) and key != name)
            content = content[name]
            break
    if wrong := [type(key).__name__ for key in content if not isinstance(key, str)]:
        raise RefusedError(f"a name in it is of type {wrong[0]}, expected text")
    if content and all(key.startswith("module.") for key in content):  # of DataParallel
        content = {key.removeprefix("module."): value for key, value in content.items()}
    return dict(content), left_out


def _checked(name: str, tensor: Any) -> int:
    """Return the bytes of a tensor that lies in the file as it is; raises RefusedError for any other."""
    import torch

    if not isinstance(tensor, torch.Tensor):
        raise RefusedError(f"{_shown(name)} is a {type(tensor).__name__}, expected a tensor")
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_complex():
        raise RefusedError(f"{_shown(name)} is not a plain tensor of numbers")
    if tensor.nbytes > tensor.untyped_storage().nbytes():
        raise RefusedError(
            f"{_shown(name)} promises {tensor.nbytes} bytes and stores {tensor.untyped_storage().nbytes()}"
        )
    return int(tensor.nbytes)


def _shown(name: str) -> str:
    """Return a name from the file as a terminal may show it."""
    return ascii(name[:80])[1:-1]


def _reason(error: Exception, memory: int) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "allocate memory" in text or "not enough memory" in text:
        return f"it asks for more than the {memory / 2**30:.1f} GiB that a file of its size may"
    if "Weights only load failed" in text:
        return "torch finds more than tensors in it"
    return f"it is damaged, cut short or no checkpoint ({type(error).__name__})"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
