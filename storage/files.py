"""Publish a file as a whole or not at all.

Written aside in the same folder, synced, renamed, and the folder synced: whoever finds the name finds every byte, even
after a power cut. A failed sync is never tried again, because the kernel may have dropped the pages it reported.
"""

import hashlib
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

from storage.failpoints import reach

Kind = Literal["data", "commit", "manifest"]

_BUFFER = 1 << 20


@contextmanager
def publish(path: Path, *, kind: Kind = "data") -> Iterator[BinaryIO]:
    """Yield a binary file that becomes `path`, durably, when the block ends; after an exception nothing is there.

    kind: which failpoints it passes. Missing folders are made. An existing file is replaced in one step. Raises OSError
    when the disk is full or fails, with the old file, or none, in place.
    """
    _make_folder(path.parent)
    aside = _aside(path)
    try:
        with aside.open("xb", buffering=_BUFFER) as file:
            reach(f"{kind}.before_write")
            yield file
            file.flush()
            reach(f"{kind}.before_fsync")
            os.fsync(file.fileno())
        reach(f"{kind}.before_rename")
        aside.replace(path)
        reach(f"{kind}.after_rename")
        _sync_folder(path.parent)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def publish_bytes(path: Path, data: bytes, *, kind: Kind = "data") -> None:
    """Publish `data` as `path`; see `publish`."""
    with publish(path, kind=kind) as file:
        file.write(data)


@contextmanager
def publish_folder(path: Path) -> Iterator[Path]:
    """Yield a folder that becomes `path`, which must not be there, when the block ends; after an exception nothing is.

    What is written into it should be published itself, so that it is durable. Missing folders above it are made.
    """
    _make_folder(path.parent)
    aside = _aside(path)
    try:
        aside.mkdir()
        yield aside
        aside.rename(path)
        _sync_folder(path.parent)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def sha256_of(path: Path) -> str:
    """Return the sha256, in hex, of a file of any size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_asides(folder: Path) -> int:
    """Remove what killed writers left below `folder` and return how many files that were; only under the lease.

    A writer that still lives loses its file and fails at the rename: its work belonged to the run that is over.
    """
    stale = list(folder.rglob(".*.part"))
    for aside in stale:
        aside.unlink(missing_ok=True)
    return len(stale)


def _aside(path: Path) -> Path:
    host = socket.gethostname()[:32]
    return path.with_name(f".{path.name}.{host}-{os.getpid()}-{secrets.token_hex(4)}.part")


def _make_folder(folder: Path) -> None:
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    for parent in reversed(missing):
        parent.mkdir(exist_ok=True)
        _sync_folder(parent.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
