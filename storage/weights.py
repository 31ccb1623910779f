"""Weights of models: where a reference points, what identifies them, and how they are loaded strictly.

A reference is a local file or folder, or `hub-id@revision` with the 40 digits of a commit: a branch or a tag may move.
Only safetensors are read, never pickles, and no code of a checkpoint runs. Stands in storage because annotators,
filters and the trainer share no other floor; torch and transformers are imported when something is loaded.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from storage.canonical import digest, encode
from storage.errors import SettingsError, ShardError, TransientError
from storage.files import publish_bytes, sha256_of
from storage.torchvision import prepare_torchvision

READ = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.yaml")  # of a hub repository, and hashed
_HUB = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{40})")
_SHOWN = 3  # keys named in an error


def locate(reference: str) -> Path:
    """Return the local file or folder of `reference`; fetches a hub reference once, and only what is READ.

    Raises SettingsError when there is nothing, TransientError when the hub does not answer.
    """
    if not reference:
        raise SettingsError("weights are not named; give a local folder, or hub-id@revision with a 40-digit commit")
    path = Path(reference).expanduser()
    if path.exists():
        return path.resolve()
    hub = _HUB.fullmatch(reference)
    if hub is None:
        raise SettingsError(
            f"weights {reference!r} are no file or folder here, and no hub-id@revision with a 40-digit commit; mend it"
        )
    return _fetch(hub["id"], hub["revision"])


def is_hub_reference(reference: str) -> bool:
    """Tell whether `reference` names a repository of the hub and a commit, not a place on this machine."""
    return _HUB.fullmatch(reference) is not None


def identity(reference: str, *, notes: Path | None = None) -> str:
    """Return the sha256, in hex, of all that is read at `reference`: its files' names and content.

    notes: a JSON file in which hashes are kept by path, size, time and inode, so that gigabytes are read once. Raises
    as `locate` does.
    """
    root = locate(reference)
    known = _noted(notes)
    found, hashes = {}, {}
    for file in _files(root):
        stat = file.stat()
        key = f"{file}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ino}"
        hashes[key] = known.get(key) or sha256_of(file)
        found[file.name if file == root else file.relative_to(root).as_posix()] = hashes[key]
    if notes is not None and not hashes.keys() <= known.keys():
        publish_bytes(notes, encode({**known, **hashes}))
    return digest(found)


def load_pretrained(
    kind: Any, reference: str, *, device: str = "cpu", dtype: Any = None, unused: str | None = None
) -> Any:
    """Return a model of the transformers class `kind`, frozen and in eval mode, with the weights of `reference`.

    dtype: a torch dtype, None for that of the checkpoint. unused: a pattern found in the keys of what the class has and
    never computes with, which published checkpoints lack or hold as it happens. Raises SettingsError when something is
    not there, ShardError when a file is not whole or its keys or shapes are not those of the model: one sentence with
    file and keys.
    """
    prepare_torchvision()
    folder = locate(reference)
    if not (folder / "config.json").is_file():
        raise SettingsError(f"{folder} holds no config.json; name the folder that `save_pretrained` wrote")
    check_safetensors(folder)
    from transformers.utils import logging

    logging.disable_progress_bar()  # a bar for every actor says nothing to anybody
    options = {"use_safetensors": True, "local_files_only": True, "trust_remote_code": False}
    try:
        model, info = kind.from_pretrained(
            folder, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        told = " ".join(str(error).split())[:300]
        raise ShardError(f"{folder} cannot be loaded as {kind.__name__}: {told}") from error
    wrong_shapes = [str(item[0] if isinstance(item, tuple) else item) for item in info["mismatched_keys"]]
    missing, unexpected = (
        [key for key in info[name] if unused is None or not re.search(unused, key)]
        for name in ("missing_keys", "unexpected_keys")
    )
    raise_unless_whole(folder, kind.__name__, missing, unexpected, wrong_shapes)
    return model.to(device).eval().requires_grad_(False)


def load_processor(kind: Any, reference: str, *, of: str = "its processor") -> Any:
    """Return a checkpoint's processor, of a transformers class `kind`, without its weights.

    of: what the sentence calls it. Raises SettingsError, one sentence, where its files are not all there.
    """
    folder = locate(reference)
    try:
        return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
        told = " ".join(str(error).split())[:200]
        raise SettingsError(f"{folder} lacks the files of {of}; fetch all of it: {told}") from error


def read_config(file: Path) -> dict[str, Any]:
    """Return what a model's JSON `file` says; raises ShardError when it is no JSON object."""
    try:
        return dict(json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise ShardError(f"{file} is not the configuration of a model; fetch it again") from error


def check_safetensors(path: Path) -> list[Path]:
    """Return the safetensors files of a checkpoint, each opened once.

    Raises SettingsError when there are none, ShardError, naming the file, when one is damaged or an index names one
    that is not there.
    """
    from safetensors import SafetensorError, safe_open

    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    if not files:
        raise SettingsError(f"{path} holds no .safetensors; `pairforge convert` makes them of a .pt file")
    for file in files:
        try:
            with safe_open(file, framework="np"):
                pass
        except (SafetensorError, OSError) as error:
            raise ShardError(f"{file} is not a whole safetensors file ({error}); fetch it again") from error
    for index in path.glob("*.safetensors.index.json"):
        absent = sorted(_indexed(index) - {file.name for file in files})
        if absent:
            raise ShardError(f"{index} names {absent[0]}, which is not beside it; fetch the checkpoint again")
    return files


def raise_unless_whole(
    path: Path, model: str, missing: Iterable[str], unexpected: Iterable[str], mismatched: Iterable[str] = ()
) -> None:
    """Raise ShardError, naming file and keys, if a checkpoint did not hold just what the model `model` expects."""
    parts = [
        f"{word} {_some(sorted(keys))}"
        for word, keys in (
            ("expected but not found:", missing),
            ("found but not expected:", unexpected),
            ("of another shape:", mismatched),
        )
        if list(keys)
    ]
    if parts:
        raise ShardError(f"{path} does not hold the weights of {model}; {'; '.join(parts)}")


def _fetch(hub_id: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=list(READ)))
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise SettingsError(
            f"the hub has no {hub_id} at {revision}, or not for you; mend the name or log in"
        ) from error
    except Exception as error:  # whatever a network does; httpx, urllib3 and the hub have no common root
        raise TransientError(
            f"the hub did not give {hub_id}@{revision[:8]}: {' '.join(str(error).split())[:200]}"
        ) from error


def _files(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    return sorted({file for pattern in READ for file in root.rglob(pattern) if file.is_file()})


def _noted(notes: Path | None) -> dict[str, str]:
    try:
        return dict(json.loads(notes.read_bytes())) if notes else {}
    except (OSError, ValueError):
        return {}


def _indexed(index: Path) -> set[str]:
    try:
        return set(json.loads(index.read_bytes())["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ShardError(f"{index} is not the index of a checkpoint; fetch it again") from error


def _some(keys: Sequence[str]) -> str:
    shown = ", ".join(keys[:_SHOWN])
    return f"{shown} and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else shown
