"""Read and write restorers in every published format, strictly and one tensor at a time.

A file is compared with the model it should hold, name by name and shape by shape, before a byte of weights is read.
Our files carry the params in their metadata, which other readers ignore; for others the published shape is assumed, and
what is optional in it is read off the names.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from storage.errors import SettingsError, ShardError
from storage.files import publish_bytes, publish_folder
from training.network import params as shapes
from training.network.model import RestorationTransformer, build
from training.network.params import Params, ReferenceIds
from training.weights import tensor_files
from training.weights.layouts import BUNDLE_PREFIX, WRAPPERS, Entry, Layout, Shape, config, entries, obstacle, pieces
from training.weights.tensor_files import Stored, TensorFiles

METADATA_KEY = "pairforge.params"
PART_BYTES = 5 * 10**9
PART_STEM = "diffusion_pytorch_model"  # what diffusers looks for

Kinds = dict[str, tuple[torch.dtype, Shape]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where and how to write: native is one file, bundle and diffusers are folders. dtype: as it is unless said."""

    path: Path
    layout: Layout = "native"
    dtype: torch.dtype | None = None
    part_bytes: int = PART_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """An open checkpoint whose names and shapes have been compared with its params."""

    path: Path
    layout: Layout
    params: Params
    shapes: Mapping[str, Shape]
    names: Mapping[str, str]  # the format's name -> the name in the file, wrappers and all
    files: TensorFiles

    def read(self, native: str) -> Tensor:
        """Return one native tensor."""
        found = [
            self.files.read(self.names[piece.name], piece.at)
            for piece in pieces(self.layout, native, self.shapes[native], self.params)
        ]
        return found[0] if len(found) == 1 else torch.cat(found)

    def dtype(self, native: str) -> torch.dtype:
        """Return the type in which a native tensor is stored."""
        [first, *_] = pieces(self.layout, native, self.shapes[native], self.params)
        return self.files.tensors[self.names[first.name]].dtype


@contextmanager
def opened(
    path: Path, *, params: Params | None = None, reference_ids: ReferenceIds | None = None
) -> Iterator[Checkpoint]:
    """Yield the checkpoint at `path`: a file, an index, a folder of parts, or a bundle's root.

    params: what the file should hold, instead of what it says itself. reference_ids: replaces the convention that the
    file says or its format implies. Raises ShardError when it is not a restorer of that shape, SettingsError when there
    is nothing at `path`.
    """
    folder = path / "transformer" if (path / "transformer").is_dir() else path
    with TensorFiles(folder) as files:
        names = _unwrapped(folder, files.tensors)
        layout = _layout(folder, names)
        known = params or _params(folder, layout, names, files.metadata)
        if reference_ids is not None:
            known = replace(known, reference_ids=reference_ids)
        native, stored = native_shapes(known), {name: files.tensors[names[name]] for name in names}
        if known.reference == "filtered":
            _compare_filters(folder, native, stored)
        _compare(folder, entries(layout, native, known), stored)
        yield Checkpoint(path=path, layout=layout, params=known, shapes=native, names=names, files=files)


def load(
    path: Path,
    *,
    params: Params | None = None,
    reference_ids: ReferenceIds | None = None,
    dtype: torch.dtype | None = None,
    device: str = "cpu",
) -> RestorationTransformer:
    """Return the restorer stored at `path`, in `dtype` or as it is stored; raises like `opened`."""
    with opened(path, params=params, reference_ids=reference_ids) as checkpoint:
        model = build(checkpoint.params)
        for native in checkpoint.shapes:
            tensor = checkpoint.read(native).to(device=device, dtype=dtype or checkpoint.dtype(native))
            module, _, leaf = native.rpartition(".")
            model.get_submodule(module).register_parameter(leaf, nn.Parameter(tensor))
    return model


def save(model: RestorationTransformer, target: Target) -> None:
    """Write a restorer; raises like `convert`."""
    state = model.state_dict()
    kinds = {name: (target.dtype or tensor.dtype, tuple(tensor.shape)) for name, tensor in state.items()}
    _write(target, model.params, kinds, lambda native: state[native])


def save_tensors(params: Params, kinds: Kinds, read: Callable[[str], Tensor], target: Target) -> None:
    """Write a restorer whose native tensors, of these types and shapes, are asked for one by one.

    The order in which they are asked for follows from `kinds` alone. Raises like `convert`.
    """
    _write(target, params, kinds, read)


def convert(source: Checkpoint, target: Target) -> None:
    """Write an open checkpoint in another format, holding one tensor at a time.

    Raises SettingsError when the target exists or its format cannot hold the model.
    """
    kinds = {native: (target.dtype or source.dtype(native), shape) for native, shape in source.shapes.items()}
    _write(target, source.params, kinds, source.read)


def native_shapes(params: Params) -> dict[str, Shape]:
    """Return the name and shape of every tensor of a restorer; nothing is allocated."""
    return {name: tuple(tensor.shape) for name, tensor in build(params).state_dict().items()}


def _unwrapped(path: Path, tensors: Mapping[str, Stored]) -> dict[str, str]:
    names: dict[str, str] = {}
    for name in tensors:
        bare = name
        for wrapper in WRAPPERS:
            bare = bare.removeprefix(wrapper)
        if bare in names:
            raise ShardError(f"{path} holds {bare} twice, as {names[bare]} and as {name}")
        names[bare] = name
    return names


def _layout(path: Path, names: Mapping[str, str]) -> Layout:
    if any(name.startswith(BUNDLE_PREFIX) for name in names):
        return "bundle"
    if any(name.startswith("transformer_blocks.") for name in names):
        return "diffusers"
    if any(name.startswith("double_blocks.") for name in names):
        return "native"
    found = f"found {len(names)} others, such as {min(names)}" if names else "found none"
    raise ShardError(f"{path} is not a restorer: expected tensors such as double_blocks.0.img_mod.lin.weight, {found}")


def _params(path: Path, layout: Layout, names: Mapping[str, str], metadata: Mapping[str, str]) -> Params:
    if METADATA_KEY in metadata:
        try:
            return shapes.from_json(metadata[METADATA_KEY])
        except ValueError as error:
            raise ShardError(f"{path} carries params that cannot be read: {error}") from error
    native = {name.removeprefix(BUNDLE_PREFIX) for name in names}
    known = shapes.base()
    assert known.connector is not None
    scaled = "connector.scale_factor" in native
    ids: ReferenceIds = "v1.0" if scaled else "realrestorer" if layout == "bundle" else "v1.1"
    return replace(
        known,
        connector=replace(known.connector, scaled=scaled),
        guidance="guidance_in.in_layer.weight" in native,
        mask_token="mask_token" in native,
        reference_ids=ids,
    )


def _compare_filters(path: Path, expected: Mapping[str, Shape], found: Mapping[str, Stored]) -> None:
    """Raise ShardError when a small restorer measures its reference, or filters it, otherwise than this version."""
    for name in ("reference_in.weight", "final_layer.linear.weight"):
        if name in found and found[name].shape != expected[name]:
            raise ShardError(f"{path} is a small restorer of an earlier version, with other filters: train it anew")


def _compare(path: Path, expected: Mapping[str, Entry], found: Mapping[str, Stored]) -> None:
    """Raise ShardError unless the names and shapes are exactly those expected."""
    missing, unknown = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or unknown:
        lacks = f"lacks {len(missing)} of the {len(expected)} tensors expected, such as {missing[0]}" if missing else ""
        holds = f"holds {len(unknown)} that are not expected, such as {unknown[0]}" if unknown else ""
        raise ShardError(f"{path} {' and '.join(filter(None, (lacks, holds)))}")
    for name, entry in expected.items():
        if found[name].shape != entry.shape:
            raise ShardError(f"{found[name].file}: {name} is {found[name].shape}, expected {entry.shape}")


def _write(target: Target, params: Params, kinds: Kinds, read: Callable[[str], Tensor]) -> None:
    if problem := obstacle(target.layout, params):
        raise SettingsError(problem)
    if target.path.exists():
        raise SettingsError(f"{target.path} exists; name another place, or remove it first")
    table = entries(target.layout, {name: shape for name, (_, shape) in kinds.items()}, params)
    stored: Kinds = {name: (kinds[entry.native][0], entry.shape) for name, entry in table.items()}
    metadata = {METADATA_KEY: shapes.to_json(params)}

    def tensor(name: str) -> Tensor:
        native = read(table[name].native)
        return torch.cat([native[rows] for rows in table[name].rows])

    if target.layout == "native":
        tensor_files.write(target.path, stored, tensor, metadata)
        return
    with publish_folder(target.path) as root:
        folder = root / "transformer"
        parts = _parts(stored, target.part_bytes)
        for file, part in parts.items():
            tensor_files.write(folder / file, part, tensor, metadata)
        if len(parts) > 1:
            publish_bytes(folder / f"{PART_STEM}{tensor_files.INDEX_SUFFIX}", _index(parts))
        publish_bytes(folder / "config.json", config(target.layout, params))


def _parts(stored: Kinds, limit: int) -> dict[str, Kinds]:
    """Return the tensors of each file, none larger than `limit` bytes unless one tensor is."""
    parts: list[Kinds] = [{}]
    size = 0
    for name, (dtype, shape) in stored.items():
        own = tensor_files.size_of(dtype, shape)
        if parts[-1] and size + own > limit:
            parts.append({})
            size = 0
        parts[-1][name] = (dtype, shape)
        size += own
    if len(parts) == 1:
        return {f"{PART_STEM}{tensor_files.SUFFIX}": parts[0]}
    return {
        f"{PART_STEM}-{number:05d}-of-{len(parts):05d}{tensor_files.SUFFIX}": part
        for number, part in enumerate(parts, start=1)
    }


def _index(parts: Mapping[str, Kinds]) -> bytes:
    total = sum(tensor_files.size_of(*kind) for part in parts.values() for kind in part.values())
    weight_map = {name: file for file, part in parts.items() for name in part}
    return json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2, sort_keys=True).encode()
