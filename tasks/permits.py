"""A permit, a file: while it is there the units of a wave go on; a worker whose wave's permit is gone ends itself."""

import contextlib
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

from tasks.units import Interrupted

POLL = 0.2  # seconds between two looks for it


@contextlib.contextmanager
def permit(folder: Path | None) -> Iterator[Path | None]:
    """Make a permit in `folder` for as long as the block; none where there is no folder that workers see too."""
    if folder is None:
        yield None
        return
    path = folder / f"permit-{uuid.uuid4().hex}"
    path.touch()
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def permitted(path: Path | None) -> Iterator[None]:
    """End this process if `path` vanishes during the block; raises Interrupted if it is gone already."""
    if path is None:
        yield
        return
    if not path.exists():
        raise Interrupted("the wave of this unit was abandoned")
    ended = threading.Event()
    threading.Thread(target=_exit_without, args=(path, ended), daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _exit_without(path: Path, ended: threading.Event) -> None:
    while not ended.wait(POLL):
        if not path.exists():
            os._exit(1)
