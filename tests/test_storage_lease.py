"""The lease: one builder per dataset, and no dead one in the way."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from storage.errors import LeaseError
from storage.lease import EXPIRY_SECONDS, Lease

ROOT = Path(__file__).resolve().parent.parent
HOLD = """
import sys
from pathlib import Path
from storage.lease import Lease
with Lease(Path(sys.argv[1]), owner="first"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def other_builder(root: Path) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-c", HOLD, str(root)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def leave_lease(root: Path, *, host: str, age: float) -> None:
    path = root / ".work" / "lease.json"
    path.parent.mkdir(parents=True)
    content = {"owner": "old", "host": host, "pid": 1, "since": "2026-01-01T00:00:00+00:00", "token": "t"}
    path.write_text(json.dumps(content))
    beat = path.stat().st_mtime - age
    os.utime(path, (beat, beat))


def files(root: Path) -> list[str]:
    return sorted(path.name for path in (root / ".work").iterdir())


def test_lease_says_who_holds_it_and_goes_when_the_block_ends(tmp_path: Path) -> None:
    with Lease(tmp_path, owner="nightly") as lease:
        content = json.loads((tmp_path / ".work" / "lease.json").read_text())
        assert (content["owner"], content["host"], content["pid"]) == ("nightly", socket.gethostname(), os.getpid())
        assert content["since"].endswith("+00:00")
        lease.check()
    assert files(tmp_path) == ["lease.lock"]


def test_lease_goes_when_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Lease(tmp_path, owner="nightly"):
        _ = 1 // 0
    assert files(tmp_path) == ["lease.lock"]


def test_heart_stops_with_the_block(tmp_path: Path) -> None:
    with Lease(tmp_path, owner="nightly"):
        pass
    assert "lease" not in [thread.name for thread in threading.enumerate()]


def test_second_builder_is_told_who_the_first_is(tmp_path: Path) -> None:
    with other_builder(tmp_path) as process:
        message = rf"is being built by first on {socket.gethostname()} \(pid {process.pid}\) since 20"
        with pytest.raises(LeaseError, match=message), Lease(tmp_path, owner="second"):
            pass
        assert files(tmp_path) == ["lease.json", "lease.lock"]


def test_lease_of_a_killed_builder_is_free_at_once(tmp_path: Path) -> None:
    with other_builder(tmp_path) as process:
        process.kill()
        process.wait()
        with Lease(tmp_path, owner="second") as lease:
            lease.check()


def test_second_lease_in_one_process_is_refused(tmp_path: Path) -> None:
    with (
        Lease(tmp_path, owner="first"),
        pytest.raises(LeaseError, match="built by first"),
        Lease(tmp_path, owner="second"),
    ):
        pass


def test_lease_can_be_taken_again(tmp_path: Path) -> None:
    for owner in ("first", "second"):
        with Lease(tmp_path, owner=owner) as lease:
            lease.check()


def test_live_builder_on_another_host_keeps_its_lease(tmp_path: Path) -> None:
    leave_lease(tmp_path, host="elsewhere", age=EXPIRY_SECONDS - 20)
    with pytest.raises(LeaseError, match="built by old on elsewhere"), Lease(tmp_path, owner="second"):
        pass
    assert json.loads((tmp_path / ".work" / "lease.json").read_text())["owner"] == "old"


@pytest.mark.parametrize(
    ("host", "age"), [("elsewhere", EXPIRY_SECONDS + 1), (socket.gethostname(), 0)], ids=["silent", "same host"]
)
def test_lease_of_a_dead_builder_is_taken(tmp_path: Path, host: str, age: float) -> None:
    leave_lease(tmp_path, host=host, age=age)
    with Lease(tmp_path, owner="second") as lease:
        lease.check()


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff"])
def test_unreadable_lease_blocks_nobody(tmp_path: Path, data: bytes) -> None:
    (tmp_path / ".work").mkdir()
    (tmp_path / ".work" / "lease.json").write_bytes(data)
    with Lease(tmp_path, owner="second") as lease:
        lease.check()


def test_heart_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beaten = threading.Event()
    monkeypatch.setattr("storage.lease.HEARTBEAT_SECONDS", 0.001)
    monkeypatch.setattr("storage.lease.os.utime", lambda *_: beaten.set())
    with Lease(tmp_path, owner="nightly"):
        assert beaten.wait(timeout=10)


def test_builder_that_lost_its_lease_is_told_and_leaves_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / ".work" / "lease.json"
    with Lease(tmp_path, owner="asleep") as lease:
        path.write_text(json.dumps({"owner": "new", "host": "elsewhere", "pid": 2, "since": "now", "token": "t"}))
        with pytest.raises(LeaseError, match="built by new on elsewhere"):
            lease.check()
    assert json.loads(path.read_text())["owner"] == "new"
