"""The manifest: what a dataset version consists of. Its presence says that the build is done."""

import json
from pathlib import Path

from storage.canonical import decode, encode
from storage.errors import ShardError
from storage.files import publish_bytes
from storage.records import FORMAT_VERSION, Manifest

NAME = "manifest.json"


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Publish the manifest of the dataset at `root`, after everything that it names."""
    publish_bytes(root / NAME, encode(manifest), kind="manifest")


def read_manifest(root: Path) -> Manifest:
    """Return the manifest of the dataset at `root`.

    Raises ShardError, in one sentence, when there is none, when it is not readable and when its format is newer.
    """
    path = root / NAME
    try:
        data = path.read_bytes()
        version = _version(data)
        if version <= FORMAT_VERSION:
            return decode(Manifest, data)
    except OSError as error:
        raise ShardError(f"{root} is no finished dataset: it has no readable {NAME}") from error
    except ValueError as error:
        raise ShardError(f"{path} is not a manifest: it is damaged or something else wrote it") from error
    raise ShardError(f"{path} has format {version}, newer than {FORMAT_VERSION}, which this PairForge reads; update it")


def _version(data: bytes) -> int:
    content = json.loads(data)
    version = content.get("format_version") if isinstance(content, dict) else None
    if not isinstance(version, int) or version < 1:
        raise ValueError(f"format_version must be a positive integer, got {version!r}")
    return version
