"""Safetensors, one tensor at a time: what lies in a file or in the parts of a folder, and writing it back.

Nothing here unpickles. A file that is not what its header says ends in one sentence, a ShardError.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from storage.errors import SettingsError, ShardError
from storage.files import publish

SUFFIX = ".safetensors"
INDEX_SUFFIX = ".safetensors.index.json"
DTYPES = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_CODES = {dtype: code for code, dtype in DTYPES.items()}
_PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80")  # torch.save, new and old
_LFS_START = b"version https://git-lfs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What the header says of one tensor, and in which file it lies."""

    file: Path
    shape: tuple[int, ...]
    dtype: torch.dtype


class TensorFiles:
    """The tensors of one or more open safetensors files, by name; a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tensors: dict[str, Stored] = {}
        self.metadata: dict[str, str] = {}
        self._handles: dict[Path, Any] = {}  # safetensors has no type for an open file
        self._stack = ExitStack()

    def __enter__(self) -> "TensorFiles":
        try:
            for file in _files(self.path):
                self._open(file)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def read(self, name: str, rows: slice | None = None) -> Tensor:
        """Return one tensor, or some of its rows; raises ShardError when a value is not finite."""
        stored = self.tensors[name]
        try:
            lazy = self._handles[stored.file].get_slice(name)
            tensor: Tensor = lazy[:] if rows is None else lazy[rows]
        except (SafetensorError, OSError, RuntimeError) as error:
            raise ShardError(f"{stored.file}: {name} cannot be read ({error})") from error
        if not bool(torch.isfinite(tensor).all()):
            raise ShardError(f"{stored.file}: {name} holds values that are not finite")
        return tensor

    def _open(self, file: Path) -> None:
        _refuse_foreign(file)
        try:
            handle = self._stack.enter_context(safe_open(file, framework="pt"))
            names = list(handle.keys())
        except (SafetensorError, OSError) as error:
            raise ShardError(f"{file} is not a whole safetensors file ({error})") from error
        self._handles[file] = handle
        self.metadata |= handle.metadata() or {}
        for name in names:
            if name in self.tensors:
                raise ShardError(f"{name} lies both in {self.tensors[name].file} and in {file}")
            self.tensors[name] = _stored(file, name, handle.get_slice(name))


def _stored(file: Path, name: str, lazy: Any) -> Stored:
    code = lazy.get_dtype()
    if code not in DTYPES:
        raise ShardError(f"{file}: {name} is {code}, expected one of {', '.join(DTYPES)}")
    return Stored(file=file, shape=tuple(lazy.get_shape()), dtype=DTYPES[code])


def _files(path: Path) -> list[Path]:
    """Return the files that make one checkpoint: the file, those an index lists, or all safetensors of a folder."""
    if path.is_file():
        return _indexed(path) if path.name.endswith(INDEX_SUFFIX) else [path]
    if not path.is_dir():
        raise SettingsError(f"{path} does not exist; name a {SUFFIX} file or a folder of them")
    indices = sorted(path.glob(f"*{INDEX_SUFFIX}"))
    if len(indices) > 1:
        raise ShardError(f"{path} holds {len(indices)} indices, expected one; name the one that is meant")
    if indices:
        return _indexed(indices[0])
    files = sorted(path.glob(f"*{SUFFIX}"))
    if not files:
        pickles = sorted(file.name for file in path.iterdir() if file.suffix in _PICKLES)
        also = f"; {pickles[0]} is a pickle, which is never read because loading one can run code" if pickles else ""
        raise ShardError(f"{path} holds no {SUFFIX} file{also}")
    return files


def _indexed(index: Path) -> list[Path]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        wrong = sorted(name for name in names if Path(name).name != name)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ShardError(f"{index} is not an index of safetensors files: no weight_map in it") from error
    if wrong or not names:
        raise ShardError(f"{index} names {wrong[0] if wrong else 'no file'!r}, expected files beside it")
    files = [index.with_name(name) for name in sorted(names)]
    if missing := [file.name for file in files if not file.is_file()]:
        raise ShardError(f"{index} lists {len(files)} files, of which {missing[0]} is missing")
    return files


def _refuse_foreign(file: Path) -> None:
    with file.open("rb") as opened:
        start = opened.read(len(_LFS_START))
    if start[8:9] == b"{":  # a safetensors header, after its length
        return
    if start.startswith(_PICKLE_STARTS):
        raise ShardError(f"{file} is a pickle, which is never read because loading one can run code; use {SUFFIX}")
    if start == _LFS_START:
        raise ShardError(f"{file} is a Git LFS pointer, not the weights; fetch them with `git lfs pull`")


def write(
    path: Path,
    tensors: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
    read: Callable[[str], Tensor],
    metadata: Mapping[str, str],
) -> None:
    """Publish a safetensors file whose tensors are asked for one by one, in the order they are written.

    read: returns the tensor of a name; it must have the type and shape that `tensors` says.
    """
    with publish(path) as file:
        file.write(_header(tensors, metadata))
        for name, (dtype, shape) in tensors.items():
            tensor = read(name)
            assert tensor.shape == shape, (name, tensor.shape, shape)
            _write_tensor(file, tensor.to(dtype))


def _write_tensor(file: BinaryIO, tensor: Tensor) -> None:
    file.write(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _header(tensors: Mapping[str, tuple[torch.dtype, tuple[int, ...]]], metadata: Mapping[str, str]) -> bytes:
    """Return length and JSON; padded with spaces so that the data start at a multiple of eight."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **metadata}}
    end = 0
    for name, (dtype, shape) in tensors.items():
        start, end = end, end + size_of(dtype, shape)
        header[name] = {"dtype": _CODES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def size_of(dtype: torch.dtype, shape: Iterable[int]) -> int:
    """Return the bytes of a tensor."""
    return dtype.itemsize * int(torch.Size(shape).numel())
