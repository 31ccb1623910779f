"""One builder per dataset: a lease with an owner and a heartbeat.

On one host the kernel holds the lease: a lock on a file, free the moment its owner dies. Between hosts that share the
folder, where locks may not reach, a heartbeat tells: the modification time of `lease.json`, compared with that of a
file touched just now, so that both come from the file server's clock.
"""

import fcntl
import json
import os
import socket
import threading
import time
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

from storage.canonical import encode
from storage.errors import LeaseError
from storage.files import publish_bytes

HEARTBEAT_SECONDS = 10
EXPIRY_SECONDS = 60  # six heartbeats


class Lease(AbstractContextManager["Lease"]):
    """Holds the dataset at `root` for this process while the block runs; raises LeaseError when somebody else does.

    owner: whom the message names, such as a run's name. `check` tells a long build that it has lost its lease.
    """

    def __init__(self, root: Path, *, owner: str) -> None:
        self._root = root
        self._file = root / ".work" / "lease.json"
        self._content = {
            "owner": owner,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "token": token_hex(8),
        }
        self._stop = threading.Event()
        self._lock: BinaryIO | None = None
        self._heart = threading.Thread(target=self._beat, name="lease", daemon=True)

    def __enter__(self) -> "Lease":
        path = self._file.with_name("lease.lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = path.open("ab")
        try:
            self._acquire(self._lock)
        except BaseException:
            self._lock.close()
            raise
        self._heart.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._heart.join()
        if self._is_ours():
            self._file.unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()

    def check(self) -> None:
        """Raise LeaseError if another builder took the lease while this process was away for a minute or more."""
        if not self._is_ours():
            raise LeaseError(_sentence(self._root, _read(self._file)))

    def _acquire(self, lock: BinaryIO) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LeaseError(_sentence(self._root, _read(self._file))) from error
        other = _read(self._file)
        if other and other.get("host") != self._content["host"] and _age(self._file, lock) < EXPIRY_SECONDS:
            raise LeaseError(_sentence(self._root, other))
        publish_bytes(self._file, encode(self._content))

    def _is_ours(self) -> bool:
        return _read(self._file).get("token") == self._content["token"]

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            if self._is_ours():
                with suppress(OSError):  # a file server that stumbles once must not stop the heart
                    os.utime(self._file)


def holder(root: Path) -> str:
    """Return the sentence that says who holds the dataset at `root`, empty if nobody does; takes nothing."""
    file, lock = root / ".work" / "lease.json", root / ".work" / "lease.lock"
    if not lock.exists():
        return ""
    other = _read(file)
    with lock.open("rb") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _sentence(root, other)
    elsewhere = bool(other) and other.get("host") != socket.gethostname()
    return _sentence(root, other) if elsewhere and time.time() - file.stat().st_mtime < EXPIRY_SECONDS else ""


def _read(path: Path) -> dict[str, object]:
    """Return what the lease says, empty when there is none or it is not readable: the lock alone decides then."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _age(path: Path, lock: BinaryIO) -> float:
    """Return how many seconds ago the heart of the lease at `path` beat last."""
    os.utime(lock.fileno())
    try:
        return os.fstat(lock.fileno()).st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _sentence(root: Path, other: dict[str, object]) -> str:
    if not other:
        return f"{root} is being built by another process"
    owner, host, pid, since = (other.get(name, "unknown") for name in ("owner", "host", "pid", "since"))
    return f"{root} is being built by {owner} on {host} (pid {pid}) since {since}"
