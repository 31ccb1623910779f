"""Publishing: the whole file or nothing, wherever it is cut."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from storage import failpoints
from storage.failpoints import NAMES, reach
from storage.files import publish, publish_bytes, publish_folder, remove_asides, sha256_of

NEW = b"new" * 100_000
KINDS = ("data", "commit", "manifest")
PUBLISH = "import sys, pathlib; from storage.files import publish_bytes; "
PUBLISH += "publish_bytes(pathlib.Path(sys.argv[1]), b'new' * 100_000, kind=sys.argv[2])"


@pytest.fixture(autouse=True)
def _fresh_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    failpoints._times.clear()
    monkeypatch.delenv("PAIRFORGE_FAILPOINT", raising=False)


def asides(folder: Path) -> list[Path]:
    return list(folder.rglob(".*.part"))


def publish_in_child(path: Path, failpoint: str) -> int:
    kind = failpoint.partition(".")[0]
    root = Path(failpoints.__file__).parent.parent
    environment = {**os.environ, "PAIRFORGE_FAILPOINT": failpoint}
    return subprocess.run(
        [sys.executable, "-c", PUBLISH, path, kind], cwd=root, env=environment, check=False
    ).returncode


def test_published_file_holds_what_was_written(tmp_path: Path) -> None:
    publish_bytes(tmp_path / "a" / "b" / "file", NEW)
    assert (tmp_path / "a" / "b" / "file").read_bytes() == NEW
    assert asides(tmp_path) == []


def test_file_is_invisible_until_the_block_ends(tmp_path: Path) -> None:
    with publish(tmp_path / "file") as file:
        file.write(NEW)
        assert not (tmp_path / "file").exists()
        assert [aside.parent for aside in asides(tmp_path)] == [tmp_path]


def test_existing_file_survives_an_exception_while_writing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), publish(tmp_path / "file") as file:
        file.write(NEW * (1 // 0))
    assert (tmp_path / "file").read_bytes() == b"old"
    assert asides(tmp_path) == []


def test_two_writers_of_one_name_do_not_meet(tmp_path: Path) -> None:
    with publish(tmp_path / "file") as first, publish(tmp_path / "file") as second:
        first.write(b"first")
        second.write(b"second")
    assert (tmp_path / "file").read_bytes() == b"first"


def test_bytes_are_synced_before_the_name_and_every_folder_after_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    sync, replace = os.fsync, Path.replace

    def record_sync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        events.append(f"sync {path.suffix or path.name}")
        sync(descriptor)

    def record_rename(path: Path, target: Path) -> None:
        events.append("rename")
        replace(path, target)

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(Path, "replace", record_rename)
    publish_bytes(tmp_path / "a" / "b" / "file", NEW)
    assert events == [f"sync {tmp_path.name}", "sync a", "sync .part", "rename", "sync b"]


def test_there_are_twelve_failpoints() -> None:
    assert len(set(NAMES)) == 12


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("action", ["raise", "enospc"])
def test_failure_at_any_failpoint_leaves_all_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, action: str
) -> None:
    monkeypatch.setenv("PAIRFORGE_FAILPOINT", f"{name}:{action}")
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is what tells them apart
        publish_bytes(tmp_path / "file", NEW, kind=name.partition(".")[0])  # type: ignore[arg-type]
    assert caught.value.errno == (errno.ENOSPC if action == "enospc" else errno.EIO)
    assert (tmp_path / "file").exists() == name.endswith("after_rename")
    assert not (tmp_path / "file").exists() or (tmp_path / "file").read_bytes() == NEW
    assert asides(tmp_path) == []


@pytest.mark.parametrize("name", NAMES)
def test_kill_at_any_failpoint_leaves_all_or_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"old")
    assert publish_in_child(tmp_path / "file", f"{name}:kill") == -9
    assert (tmp_path / "file").read_bytes() == (NEW if name.endswith("after_rename") else b"old")
    assert remove_asides(tmp_path) == (0 if name.endswith("after_rename") else 1)
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208 - hidden files too


def test_exit_ends_the_process_with_status_one(tmp_path: Path) -> None:
    assert publish_in_child(tmp_path / "file", "data.before_fsync:exit") == 1
    assert not (tmp_path / "file").exists()


def test_failpoint_waits_for_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAIRFORGE_FAILPOINT", "data.before_fsync:raise@3")
    for name in ("data.before_fsync", "data.before_rename", "data.before_fsync"):
        reach(name)
    with pytest.raises(OSError, match=r"data\.before_fsync"):
        reach("data.before_fsync")
    reach("data.before_fsync")


@pytest.mark.parametrize("setting", ["data:kill", "data.before_write", "data.before_write:melt", "nowhere:kill@x"])
def test_failpoint_that_names_nothing_is_refused(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setenv("PAIRFORGE_FAILPOINT", setting)
    with pytest.raises(ValueError, match="PAIRFORGE_FAILPOINT must be"):
        reach("data.before_write")


def test_unknown_failpoint_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shard\.before_write"):
        reach("shard.before_write")


def test_disk_that_takes_only_a_part_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(NEW) // 2, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            publish_bytes(tmp_path / "file", NEW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_remove_asides_spares_published_and_foreign_files(tmp_path: Path) -> None:
    publish_bytes(tmp_path / "data" / "file", b"1")
    (tmp_path / "data" / "notes.part").write_bytes(b"2")
    (tmp_path / "data" / ".file.host-1-ab.part").write_bytes(b"3")
    assert remove_asides(tmp_path) == 1
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["file", "notes.part"]


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    publish_bytes(tmp_path / "file", b"abc")
    assert sha256_of(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_folder_is_published_as_a_whole_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "model"
    with pytest.raises(FileNotFoundError), publish_folder(target) as folder:
        [(folder / name).write_text("x") for name in ("half", "no/folder")]
    assert list(target.parent.iterdir()) == []
    with publish_folder(target) as folder:
        assert not target.exists()
        (folder / "whole").write_text("x")
    assert [path.name for path in target.parent.iterdir()] == ["model"]
    assert (target / "whole").read_text() == "x"
