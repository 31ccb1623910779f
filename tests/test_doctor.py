"""`pairforge doctor`: every fault is named, with what mends it."""

import json
import os
import resource
import shutil
import socket
import sys
import types
from collections import namedtuple
from importlib import metadata

import pytest

from flows import checks, checks_installed
from flows.__main__ import run
from storage.lease import Lease

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("PREFECT_API_URL", "RAY_ADDRESS", "RAY_TMPDIR", "PAIRFORGE_FAILPOINT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def dead_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]  # bound, but nobody listens


def findings(look):
    return [item for item in look if item.state in ("warn", "fail", "info")]


def disk_of(free):
    return lambda path: Usage(10**12, 0, free)


def foreign_package(folder, monkeypatch):
    stranger = types.ModuleType("filters")
    stranger.__file__ = str(folder / "filters" / "__init__.py")
    monkeypatch.setitem(sys.modules, "filters", stranger)
    return checks_installed.packages()


def file_for_folder(folder):
    file = folder / "data"
    file.write_text("")
    return file


def profile_file(folder):
    text = 'active = "cloud"\n[profiles.cloud]\nPREFECT_API_URL = "https://prefect.example/api"\n'
    (folder / "profiles.toml").write_text(text)
    return checks.profile(folder)


def masked(mask):
    before = os.umask(mask)
    try:
        return list(checks.umask())
    finally:
        os.umask(before)


def locked_out(folder, monkeypatch):
    def refuse(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(checks.fcntl, "flock", refuse)
    return checks.file_system(folder)


def unlinked(folder, monkeypatch):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    return checks.file_system(folder)


def without_codec(name, monkeypatch):
    from PIL import features

    there = features.check
    monkeypatch.setattr(features, "check", lambda asked: asked != name and there(asked))
    return checks_installed.codecs()


def not_installed(name):
    raise metadata.PackageNotFoundError(name)


def broken_click(code):
    """Return what is found when `import click` runs `code`."""

    def induce(folder, monkeypatch):
        (folder / "click.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(folder))
        return checks_installed.imported({"click": ""})

    return induce


FAULTS = {
    "a dependency that does not import": ("click", "fail", broken_click("raise ImportError('libfoo.so is missing')")),
    "a dependency that ends the process": ("click", "fail", broken_click("import os; os.abort()")),
    "an old python": ("python", "fail", lambda t, m: checks_installed.python((3, 10, 4))),
    "a missing dependency": ("no-such-thing", "fail", lambda t, m: checks_installed.imported({"no-such-thing": ""})),
    "a dependency too old": ("numpy", "fail", lambda t, m: checks_installed.imported({"numpy": ">=99"})),
    "the project not installed": ("not-pairforge", "fail", lambda t, m: checks_installed.dependencies("not-pairforge")),
    "a foreign package imported": ("packages", "fail", foreign_package),
    "a foreign package in site-packages": (
        "foreign packages",
        "info",
        lambda t, m: [(t / "tasks").mkdir(), *checks_installed.foreign(t)][1:],
    ),
    "two OpenCV wheels": ("opencv wheels", "warn", lambda t, m: checks_installed.opencv_wheels(lambda name: "5.0")),
    "no OpenCV wheel": ("opencv wheels", "warn", lambda t, m: checks_installed.opencv_wheels(not_installed)),
    "Pillow without AVIF": ("AVIF", "fail", lambda t, m: without_codec("avif", m)),
    "Pillow without colour profiles": ("colour profiles", "fail", lambda t, m: without_codec("littlecms2", m)),
    "no browser": ("chromium", "info", lambda t, m: checks_installed.chromium(lambda name: None)),
    "a data folder that is a file": (
        "data folder",
        "fail",
        lambda t, m: [m.setattr(checks, "data_folder", lambda: file_for_folder(t)), *checks.data_writable()][1:],
    ),
    "an output that is a file": ("output folder", "fail", lambda t, m: checks.output_writable(file_for_folder(t))),
    "nowhere to keep compiled loops": (
        "compiled loops",
        "warn",
        lambda t, m: [m.setattr("degradations.kernels._compiled.kept_in", lambda: None), *checks.kernels()][1:],
    ),
    "a deep folder for temporary files": (
        "socket path",
        "fail",
        lambda t, m: [m.setenv("RAY_TMPDIR", "/tmp/" + "deep/" * 20), *checks.socket_path()][1:],
    ),
    "a Prefect profile that is not used": ("prefect profile", "warn", lambda t, m: profile_file(t)),
    "little shared memory": (
        "ray",
        "warn",
        lambda t, m: [m.setattr(shutil, "disk_usage", disk_of(64 * 2**20)), *checks.cluster()][1:],
    ),
    "little memory": (
        "memory",
        "warn",
        lambda t, m: checks.memory(10**9 // 2),
    ),
    "few open files": (
        "open files",
        "warn",
        lambda t, m: [m.setattr(resource, "getrlimit", lambda kind: (256, 4096)), *checks.open_files()][1:],
    ),
    "few processes": (
        "processes",
        "warn",
        lambda t, m: [m.setattr(resource, "getrlimit", lambda kind: (100, 100)), *checks.processes()][1:],
    ),
    "names that are not UTF-8": ("encoding", "fail", lambda t, m: checks.encoding("ascii", "ascii")),
    "texts that are not UTF-8": ("encoding", "warn", lambda t, m: checks.encoding("utf-8", "latin-1")),
    "a clock of 1970": ("clock", "warn", lambda t, m: checks.clock(0)),
    "a umask that hides from ourselves": ("umask", "fail", lambda t, m: masked(0o400)),
    "a failpoint left behind": (
        "failpoint",
        "fail",
        lambda t, m: [m.setenv("PAIRFORGE_FAILPOINT", "data.before_rename:kill"), *checks.failpoint()][1:],
    ),
    "a full disk": (
        "disk",
        "fail",
        lambda t, m: [m.setattr(shutil, "disk_usage", disk_of(10**6)), *checks.disk(t)][1:],
    ),
    "a nearly full disk": (
        "disk",
        "warn",
        lambda t, m: [m.setattr(shutil, "disk_usage", disk_of(5 * 10**9)), *checks.disk(t)][1:],
    ),
    "a file system without locks": ("file system", "fail", locked_out),
    "a file system without hard links": ("file system", "warn", unlinked),
    "a dataset without a manifest": ("manifest", "fail", lambda t, m: checks.dataset(t)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_what_mends_it(fault, tmp_path, monkeypatch):
    name, state, induce = FAULTS[fault]
    found = findings(induce(tmp_path, monkeypatch))
    assert [(item.name, item.state) for item in found] == [(name, state)]
    assert found[0].fix
    assert found[0].found


def test_a_prefect_server_that_does_not_answer_is_named(dead_port, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{dead_port}/api")
    (found,) = checks.server()
    assert (found.state, str(dead_port) in found.found) == ("fail", True)
    assert "PREFECT_API_URL" in found.fix


def test_a_ray_cluster_that_does_not_answer_is_named(dead_port, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{dead_port}")
    (found,) = checks.cluster()
    assert (found.state, str(dead_port) in found.found) == ("fail", True)
    assert "RAY_ADDRESS" in found.fix


def test_whoever_holds_the_dataset_is_named(tmp_path):
    with Lease(tmp_path, owner="the night build"):
        held = next(item for item in checks.dataset(tmp_path) if item.name == "lease")
    assert held.state == "warn"
    assert "the night build" in held.found
    assert next(item for item in checks.dataset(tmp_path) if item.name == "lease").state == "ok"


def test_a_machine_that_builds_has_nothing_to_mend(tmp_path, capsys):
    status = run(["doctor", str(tmp_path / "dataset"), "--json"])
    found = json.loads(capsys.readouterr().out)["checks"]
    assert len(found) >= 20
    assert status == any(item["state"] == "fail" for item in found)
    assert all(item["fix"] for item in found if item["state"] in ("warn", "fail"))
    assert not (tmp_path / "dataset").exists()


def test_the_exit_status_is_one_when_something_fails(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PAIRFORGE_FAILPOINT", "data.before_rename:kill")
    monkeypatch.setattr(checks, "installed", lambda: iter(()))
    assert run(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "fix: unset PAIRFORGE_FAILPOINT" in shown
