"""A small process that outlives the driver just long enough to end what a local Ray leaves behind.

After kill -9 of the driver Ray's workers go on for 2 s and publish, two of its agents stay for a minute, and its
session folder stays for ever, even after a clean end. This process waits until the driver is dead or closes the pipe,
then kills what belongs to the driver's Ray and removes the session's folder. Ray's processes are told by a token that
they inherit in their environment, of which those that rename themselves overwrite a part, and by the files of the
session that they hold open. It has a session of its own, so that a signal to the driver's group does not reach it. It
needs only the standard library and starts in 20 ms:

    python -I -S watchdog.py <pid of the driver> <Ray's temporary folder> <token>
"""

import contextlib
import os
import re
import secrets
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

GRACE = 0.1  # between two looks at /proc
PATIENCE = 5.0  # until what cannot be killed is given up
QUIET_LOOKS = 3  # looks in a row that find nothing: what is being started while we look is found by the next
OWNER = "PAIRFORGE_RAY_OWNER"  # the variable with the token


class Watchdog:
    """The driver's end: start it before Ray, leave the block after `ray.shutdown`.

    environment: what Ray must be started with, so that its processes are known as the driver's.
    """

    def __init__(self, temporary: Path) -> None:
        self._temporary = temporary
        self.environment = {OWNER: f"{os.getpid()}-{secrets.token_hex(8)}"}

    def __enter__(self) -> Self:
        command = [
            sys.executable,
            "-I",
            "-S",
            __file__,
            str(os.getpid()),
            str(self._temporary),
            self.environment[OWNER],
        ]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        assert self._process.stdout is not None
        self._process.stdout.readline()  # it has seen which sessions are older than ours
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.communicate(timeout=2 * PATIENCE)


def main(driver: int, temporary: Path, token: str) -> None:
    """Wait for the end of `driver` or of standard input, then end and remove the Ray sessions it began meanwhile."""
    older = _sessions(driver, temporary)
    alive = os.pidfd_open(driver)
    sys.stdout.write("\n")
    sys.stdout.flush()
    select.select([alive, sys.stdin], [], [])
    ours = _sessions(driver, temporary) - older
    _end(token, ours)
    for session in ours:
        shutil.rmtree(session, ignore_errors=True)


def _sessions(driver: int, temporary: Path) -> set[Path]:
    """Return the session folders of `driver`: Ray names them session_<date>_<time>_<pid>."""
    named = re.compile(rf"session_[\d_-]+_{driver}")
    return {path for path in temporary.glob("session_*") if named.fullmatch(path.name)}


def _end(token: str, sessions: set[Path]) -> None:
    until, quiet = time.monotonic() + PATIENCE, 0
    while quiet < QUIET_LOOKS and time.monotonic() < until:
        members = [pid for pid in _pids() if _belongs(pid, token, sessions)]
        for pid in members:
            _kill(pid, token, sessions)
        quiet = 0 if members else quiet + 1
        time.sleep(GRACE)


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and int(path.name) != os.getpid()]


def _belongs(pid: int, token: str, sessions: set[Path]) -> bool:
    process = Path(f"/proc/{pid}")
    with contextlib.suppress(OSError):
        if f"{OWNER}={token}".encode() in (process / "environ").read_bytes().split(b"\0"):
            return True
        renamed = (process / "cmdline").read_bytes().startswith(b"ray::")  # not whoever else reads a log of Ray's
        return renamed and any(link.is_relative_to(session) for link in _open_files(process) for session in sessions)
    return False


def _open_files(process: Path) -> list[Path]:
    found = []
    for descriptor in (process / "fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(descriptor.readlink())
    return found


def _kill(pid: int, token: str, sessions: set[Path]) -> None:
    """Kill `pid` if it is still what it was: the handle is taken first, so that the number cannot be reused."""
    with contextlib.suppress(OSError):
        handle = os.pidfd_open(pid)
        try:
            if _belongs(pid, token, sessions):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
