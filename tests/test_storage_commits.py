"""Commits: done means published, and the key changes with what could change the bytes."""

from pathlib import Path
from typing import Any

import pytest

from storage.closure import closure
from storage.commits import (
    ROOT,
    code_version,
    commit_key,
    commit_path,
    read_commit,
    sha256_of_output,
    write_commit,
)
from storage.errors import ShardError
from storage.records import ShardReport, WorkShard

KEY: dict[str, Any] = {
    "stage": "degrade",
    "code": "c" * 64,
    "options": {"severity": 0.5, "names": ["haze", "rain"]},
    "inputs": ["a" * 64, "b" * 64],
    "seed": 7,
    "models": ["sam2@1"],
}
SOURCES = {
    "storage/__init__.py": '"""Storage."""\n',
    "storage/records.py": "SIZE = 1\n",
    "degradations/__init__.py": "def load(name):\n    return name\n",
    "degradations/haze.py": '"""Haze."""\nfrom storage import records\n\ndef sample():\n    """Draw."""\n    X = 1\n',
    "degradations/_light.py": "GAMMA = 2.4\n",
    "filters/__init__.py": '"""Filters."""\n',
    "filters/sharp.py": "LIMIT = 3\n",
    "filters/fitted.json": "[1]",
    "tasks/__init__.py": '"""Tasks."""\n',
    "tasks/late.py": "LATE = 1\n",
    "tasks/plain.py": "import numpy\n",
    "tasks/degrade.py": "from degradations import load\n\ndef work():\n    from tasks.late import LATE\n",
    "tasks/light.py": "from degradations._light import GAMMA\n",
    "tasks/measure.py": "import filters\n",
    "tasks/dynamic.py": 'from importlib import import_module\n\nimport_module(f"filters.{1}")\n',
    "flows/__init__.py": '"""Flows."""\n',
}


def report(output: str) -> ShardReport:
    shard = WorkShard(stage="clean", bucket="007", inputs=("a.jpg", "b.jpg"), output=output, seed=7)
    return ShardReport(shard=shard, kept=1, rejected={"too_small": 1}, bytes=10, sha256="0" * 64)


def tree(root: Path, **changes: str) -> Path:
    for name, text in {**SOURCES, **changes}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def versions(tmp_path: Path, module: str, file: str, text: str) -> tuple[str, str]:
    before = code_version(module, root=tree(tmp_path / "before"))
    return before, code_version(module, root=tree(tmp_path / "after", **{file: text}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stage", "clean"),
        ("code", "d" * 64),
        ("options", {"severity": 0.6, "names": ["haze", "rain"]}),
        ("inputs", ["b" * 64, "a" * 64]),
        ("seed", 8),
        ("models", ["sam2@2"]),
    ],
)
def test_key_changes_with_each_of_its_parts(field: str, value: object) -> None:
    assert commit_key(**{**KEY, field: value}) != commit_key(**KEY)


def test_key_does_not_depend_on_the_order_of_options() -> None:
    shuffled = {"names": ("haze", "rain"), "severity": 0.5}
    assert commit_key(**{**KEY, "options": shuffled}) == commit_key(**KEY)


def test_commit_comes_back_as_it_was_written(tmp_path: Path) -> None:
    written = report(str(tmp_path / "clean" / "007-abc"))
    write_commit(written)
    assert read_commit(written.shard.output) == written
    assert commit_path(written.shard.output).name == "007-abc.json"


def test_absent_commit_is_none(tmp_path: Path) -> None:
    assert read_commit(str(tmp_path / "007-abc")) is None


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"kept": 1}', b"\xff\xfe"])
def test_unreadable_commit_is_a_shard_error_naming_the_file(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "007-abc.json").write_bytes(data)
    with pytest.raises(ShardError, match=r"007-abc\.json"):
        read_commit(str(tmp_path / "007-abc"))


def test_output_hash_covers_every_data_file(tmp_path: Path) -> None:
    stem = str(tmp_path / "007-abc")
    seen = {sha256_of_output(stem)}
    for suffix, data in ((".tar", b"12"), (".parquet", b"345"), (".tar", b"21")):
        Path(stem + suffix).write_bytes(data)
        seen.add(sha256_of_output(stem))
    assert len({digest for digest, _ in seen}) == 4
    assert max(size for _, size in seen) == 5


def test_output_hash_tells_which_file_holds_what(tmp_path: Path) -> None:
    for stem, tar, table in (("one", b"a", b"b"), ("two", b"b", b"a")):
        (tmp_path / f"{stem}.tar").write_bytes(tar)
        (tmp_path / f"{stem}.parquet").write_bytes(table)
    assert sha256_of_output(str(tmp_path / "one")) != sha256_of_output(str(tmp_path / "two"))


@pytest.mark.parametrize(
    ("module", "file", "text"),
    [
        ("tasks.degrade", "tasks/degrade.py", SOURCES["tasks/degrade.py"] + "X = 1\n"),
        ("tasks.degrade", "tasks/late.py", "LATE = 2\n"),
        ("tasks.degrade", "degradations/haze.py", "X = 1\n"),
        ("tasks.degrade", "degradations/_light.py", "GAMMA = 2.2\n"),
        ("tasks.degrade", "degradations/tenth.py", "X = 1\n"),
        ("tasks.degrade", "storage/records.py", "SIZE = 2\n"),
        ("tasks.light", "degradations/__init__.py", "X = 1\n"),
        ("tasks.light", "degradations/_light.py", "GAMMA = 2.2\n"),
        ("tasks.measure", "filters/sharp.py", "LIMIT = 4\n"),
        ("tasks.measure", "filters/fitted.json", "[2]"),
        ("tasks.dynamic", "filters/sharp.py", "LIMIT = 4\n"),
    ],
)
def test_version_changes_with_what_the_module_may_import(tmp_path: Path, module: str, file: str, text: str) -> None:
    before, after = versions(tmp_path, module, file, text)
    assert before != after


@pytest.mark.parametrize(
    ("module", "file", "text"),
    [
        ("tasks.degrade", "tasks/plain.py", "import scipy\n"),
        ("tasks.degrade", "filters/sharp.py", "LIMIT = 4\n"),
        ("tasks.degrade", "flows/__init__.py", "X = 1\n"),
        ("tasks.light", "degradations/haze.py", "X = 1\n"),
        ("tasks.degrade", "tasks/late.py", "# Why.\nLATE   = 1  # late\n"),
        ("tasks.degrade", "degradations/haze.py", SOURCES["degradations/haze.py"].replace("Draw.", "Draw it.")),
        ("tasks.degrade", "degradations/haze.py", SOURCES["degradations/haze.py"].replace("Haze.", "Mist.")),
        ("tasks.plain", "tasks/__init__.py", '"""Work."""\n'),
    ],
)
def test_version_ignores_comments_docstrings_and_what_is_out_of_reach(
    tmp_path: Path, module: str, file: str, text: str
) -> None:
    before, after = versions(tmp_path, module, file, text)
    assert before == after


def test_version_does_not_depend_on_where_the_code_lies(tmp_path: Path) -> None:
    assert len({code_version("tasks.degrade", root=tree(tmp_path / place)) for place in ("here", "there")}) == 1


@pytest.mark.parametrize("module", ["tasks.nothing", "numpy", "flows", ""])
def test_version_of_what_is_not_ours_is_refused(module: str) -> None:
    with pytest.raises(ValueError, match="is no module of"):
        code_version(module)


def test_closure_of_a_real_stage_reaches_every_degradation() -> None:
    reached = closure("degradations.pairs.recipes", ROOT)
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "degradations").glob("*.py")} <= set(reached)
    assert "storage/records.py" in reached
    assert not [path for path in reached if path.startswith(("flows", "tasks", "filters"))]
