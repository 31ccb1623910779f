"""Pickles come in as tensors or not at all: what is poisoned runs nothing and is told in one sentence."""

import io
import os
import pickle
import runpy
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from flows.__main__ import run
from storage.errors import SettingsError, ShardError
from tasks import unpickle
from tasks.pickles import convert_pickle

torch = pytest.importorskip("torch")


class Call:
    """Pickles as a call of `function`, which unpickling makes."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


class State:
    """Pickles as an object whose state a call makes."""

    def __init__(self, call):
        self.call = call

    def __reduce__(self):
        return State, (None,), self.call


def archive(content, **options):
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def weights():
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2, dtype=torch.float16)}


def repacked(data, change):
    """Return a zip archive whose members `change` has seen: (name, bytes) -> bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return stream.getvalue()


def with_pickle(pickled):
    return repacked(archive(weights()), lambda name, data: pickled if name.endswith("data.pkl") else data)


def packed(data):
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return stream.getvalue()


def with_second_pickle(data, name, pickled):
    stream = io.BytesIO(data)
    with zipfile.ZipFile(stream, "a") as opened:
        opened.writestr(name, pickled)
    return stream.getvalue()


def tarred(member):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as opened:
        opened.addfile(member)
    return stream.getvalue()


def link(name, target):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


def claiming(numel):
    """Return a file of torch before 1.6 whose one tensor claims a storage of `numel` numbers."""
    data = archive({"a": torch.zeros(3)}, _use_new_zipfile_serialization=False)
    return data.replace(b"K\x03N", b"\x8a\x06" + struct.pack("<Q", numel)[:6] + b"N", 1)


# What is poisoned -> the file, made with a command that makes the canary.
POISONS = {
    "a call of os.system": lambda command: pickle.dumps(Call(os.system, command), 2),
    "a call of os.system in a new pickle": lambda command: pickle.dumps(Call(os.system, command), 4),
    "a call in a zip archive": lambda command: archive({"a.weight": Call(os.system, command)}),
    "a call in an old file": lambda command: archive(Call(os.system, command), _use_new_zipfile_serialization=False),
    "a call nested in a state dict": lambda command: archive({"model": {**weights(), "x": [Call(os.system, command)]}}),
    "a call as a key": lambda command: archive({"state_dict": {(Call(os.system, command),): torch.ones(1)}}),
    "eval": lambda command: archive({"a": Call(eval, f"__import__('os').system({command!r})")}),
    "exec": lambda command: archive({"a": Call(exec, f"import os; os.system({command!r})")}),
    "a shell by subprocess": lambda command: archive({"a": Call(subprocess.check_output, ["sh", "-c", command])}),
    "a file that runs": lambda command: archive({"a": Call(runpy.run_path, command)}),
    "a state that a call makes": lambda command: with_pickle(pickle.dumps(State(Call(os.system, command)), 2)),
    "a changed data.pkl": lambda command: with_pickle(pickle.dumps(Call(os.system, command), 2)),
    "a text opcode of protocol 0": lambda command: with_pickle(b"cposix\nsystem\n(V" + command.encode() + b"\ntR."),
    "an INST opcode": lambda command: with_pickle(b"(V" + command.encode() + b"\niposix\nsystem\n."),
    "a name of two parts": lambda command: with_pickle(
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c" + bytes([len(command)]) + command.encode() + b"\x85R."
    ),
    "an extension code": lambda command: with_pickle(b"\x80\x02\x82\x01."),
    "a second pickle in the archive": lambda command: with_second_pickle(
        archive(weights()), "archive/evil.pkl", pickle.dumps(Call(os.system, command))
    ),
    "a name twice in the archive": lambda command: _twice(command),
    "a pickled module": lambda command: archive(torch.nn.Linear(2, 2)),
    "a loader of torch that loads": lambda command: archive({"a": Call(torch.load, command)}),
    "a class of numpy": lambda command: archive({"a": Call(__import__("numpy").frombuffer, command.encode())}),
    "a compressed archive": lambda command: packed(archive(weights())),
    "a tar file of links": lambda command: tarred(link("storages", "/etc/passwd")),
    "a tensor larger than its storage": lambda command: archive({"a": torch.ones(1).expand(2**40)}),
    "a storage that is not there": lambda command: claiming(2**40),
    "many views of one storage": lambda command: archive(
        dict(zip(map(str, range(4000)), [torch.ones(2**14)] * 4000, strict=True))
    ),
    "a pickle that asks for a terabyte": lambda command: with_pickle(b"\x80\x02\x8e" + struct.pack("<Q", 2**40) + b"."),
    "a list": lambda command: archive([torch.ones(2)]),
    "a text for a tensor": lambda command: archive({"a": "text"}),
    "a number for a name": lambda command: archive({1: torch.ones(2)}),
    "a sparse tensor": lambda command: archive({"a": torch.eye(3).to_sparse()}),
    "complex numbers": lambda command: archive({"a": torch.ones(2, dtype=torch.complex64)}),
    "nothing in it": lambda command: archive({}),
    "no byte": lambda command: b"",
    "a text file": lambda command: command.encode(),
    "a truncated archive": lambda command: archive(weights())[:-200],
    "a truncated old file": lambda command: archive(weights(), _use_new_zipfile_serialization=False)[:-9],
    "a truncated pickle": lambda command: with_pickle(b"\x80\x02}q\x00(X\x05\x00"),
    "a pickle without end": lambda command: with_pickle(b"\x80\x02" + b"(" * 1000),
}
# Those that torch has to look at; the others are refused before it is imported, which is quick.
BY_TORCH = {
    "a tensor larger than its storage",
    "a storage that is not there",
    "many views of one storage",
    "a list",
    "a text for a tensor",
    "a number for a name",
    "complex numbers",
    "nothing in it",
    "a truncated old file",
}


def _twice(command):
    data = archive(weights())
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        name = next(name for name in opened.namelist() if name.endswith("data.pkl"))
    with pytest.warns(UserWarning, match="Duplicate name"):
        return with_second_pickle(data, name, pickle.dumps(Call(os.system, command)))


def _sentence(tmp_path, capsys, source):
    status = run(["convert", str(source), str(tmp_path / "out.safetensors"), "--to", "safetensors"])
    said = capsys.readouterr()
    assert status in (1, 2)
    assert said.out == ""
    lines = said.err.splitlines()
    assert [line[:7] == "error: " for line in lines] == [line is lines[-1] for line in lines]  # the rest is progress
    return lines[-1]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in BY_TORCH - {"a tensor larger than its storage"} else [])
        for name in POISONS
    ],
)
def test_a_poisoned_checkpoint_runs_nothing_and_is_told_in_one_sentence(name, tmp_path, capsys):
    canary, source = tmp_path / "canary", tmp_path / "poison.pt"
    source.write_bytes(POISONS[name](f"touch {canary}"))
    said = _sentence(tmp_path, capsys, source)
    assert str(source) in said
    assert not canary.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["poison.pt"]


def test_the_poison_is_poison(tmp_path):
    canary = tmp_path / "canary"
    pickle.loads(POISONS["a call of os.system"](f"touch {canary}"))
    assert canary.exists()


@pytest.mark.parametrize("name", ["$(touch canary).pt", "; touch canary;.pt", "-c.pt", "a\nb.pt", "\x1b[2J.pt"])
def test_a_name_is_no_command(name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(b"no checkpoint")
    _sentence(tmp_path, capsys, tmp_path / name)
    assert not Path("canary").exists()


def test_links_and_folders_are_told(tmp_path, capsys):
    (tmp_path / "link.pt").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.pt").mkdir()
    assert "does not exist" in _sentence(tmp_path, capsys, tmp_path / "link.pt")
    assert "is no file" in _sentence(tmp_path, capsys, tmp_path / "folder.pt")


def test_a_target_that_is_a_link_is_not_followed(tmp_path, capsys):
    (tmp_path / "x.pt").write_bytes(archive(weights()))
    (tmp_path / "out.safetensors").symlink_to(tmp_path / "precious")
    assert "exists" in _sentence(tmp_path, capsys, tmp_path / "x.pt")
    assert not (tmp_path / "precious").exists()


@pytest.mark.parametrize("is_zip", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_wrapped_state_dict_comes_back_as_it_was(is_zip, tmp_path):
    from safetensors.torch import load_file

    expected = weights() | {"view": torch.arange(10.0)[2:4], "turned": torch.arange(6.0).reshape(2, 3).T}
    wrapped = {"model": {f"module.{name}": value for name, value in expected.items()}, "epoch": 3}
    torch.save(wrapped, tmp_path / "x.pt", _use_new_zipfile_serialization=is_zip)
    found = convert_pickle(tmp_path / "x.pt", tmp_path / "x.safetensors")
    assert (found.tensors, found.parameters, found.left_out) == (4, 16, ("epoch",))
    stored = load_file(tmp_path / "x.safetensors")
    assert stored.keys() == expected.keys()
    assert all(
        torch.equal(stored[name], value) and stored[name].dtype == value.dtype for name, value in expected.items()
    )


def test_too_little_time_or_memory_ends_in_one_sentence(tmp_path):
    torch.save(weights(), tmp_path / "x.pt")
    with pytest.raises(ShardError, match=r"more than 0\.01 s"):  # no Python starts so fast
        convert_pickle(tmp_path / "x.pt", tmp_path / "x.safetensors", seconds=0.01)
    with pytest.raises(ShardError, match=r"asks for more|by a limit"):
        convert_pickle(tmp_path / "x.pt", tmp_path / "x.safetensors", memory=2**25)
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]


def test_safetensors_are_not_converted_again(tmp_path):
    from safetensors.torch import save_file

    save_file(weights(), tmp_path / "x.safetensors")
    with pytest.raises(SettingsError, match="already"):
        convert_pickle(tmp_path / "x.safetensors", tmp_path / "y.safetensors")


@pytest.mark.parametrize(
    "act",
    [
        "import os; os.system('touch canary')",
        "import os; os.execv('/usr/bin/touch', ['touch', 'canary'])",
        "import os; os.posix_spawn('/usr/bin/touch', ['touch', 'canary'], {})",
        "import subprocess; subprocess.run(['touch', 'canary'])",
        "open('canary', 'w')",
        "import os; os.open('canary', os.O_CREAT | os.O_WRONLY)",
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import ctypes; ctypes.CDLL('libc.so.6').system(b'touch canary')",
    ],
)
def test_a_sealed_process_does_nothing_outside_itself(act, tmp_path):
    folder = str(Path(unpickle.__file__).parent)
    program = f"import sys; sys.path.insert(0, {folder!r}); import unpickle; unpickle.seal(); {act}"
    done = subprocess.run([sys.executable, "-I", "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert "RefusedError: it tried to" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", [["--dtype", "bf16"], ["--reference-ids", "v1.1"]])
def test_an_option_that_would_be_ignored_is_refused(option, tmp_path, capsys):
    (tmp_path / "x.pt").write_bytes(archive(weights()))
    assert run(["convert", str(tmp_path / "x.pt"), str(tmp_path / "y"), "--to", "safetensors", *option]) == 2
    assert "leave them out" in capsys.readouterr().err
