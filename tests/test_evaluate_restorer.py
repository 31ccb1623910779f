"""`pairforge evaluate` with a restorer in place of outputs."""

import pytest
from skimage import data

from flows.__main__ import run
from tests.benches import bench, photographs, result, save

pytest.importorskip("torch", reason="torch is not installed: install PairForge's `models` extra")
pytest.importorskip("lpips", reason="lpips is not installed: install PairForge's `models` extra")


@pytest.fixture(scope="module")
def restorer(tmp_path_factory):
    """Write a small restorer whose weights are random, so that what it makes depends on the prompt."""
    from tests.small_restorer import small_model
    from training.network import params
    from training.weights import checkpoints

    file = tmp_path_factory.mktemp("restorer") / "tiny.safetensors"
    checkpoints.save(small_model(params.tiny(), std=0.05), checkpoints.Target(path=file))
    return file


def restore_table(restorer, prompts):
    return ("", f'[grader]\nkind = "embedded"\n[restore]\nweights = "{restorer}"\nprompts = "{prompts}"\n')


def restored_files(folder):
    return {file.relative_to(folder).as_posix(): file for file in sorted((folder / "scores/restored").rglob("*.png"))}


def test_a_restorer_is_run_on_the_inputs_once_and_by_its_prompts(tmp_path, restorer, capsys):
    photographs(tmp_path, side=72)
    save(tmp_path / "in/haze/c.png", data.astronaut()[:64, :64])
    (tmp_path / "in/haze/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert run(["evaluate", "--alone", bench(tmp_path, restore_table(restorer, "fixed"), restored="")]) == 0
    first = restored_files(tmp_path)
    assert len(first) == 3
    assert [item["name"] for item in result(tmp_path)["unscored"]] == ["haze/broken"]
    written = {name: file.stat().st_mtime_ns for name, file in first.items()}

    assert run(["evaluate", "--alone", bench(tmp_path, restore_table(restorer, "fixed"), restored="")]) == 0
    assert {name: file.stat().st_mtime_ns for name, file in restored_files(tmp_path).items()} == written

    assert run(["evaluate", "--alone", bench(tmp_path, restore_table(restorer, "per_task"), restored="")]) == 0
    other = [file for name, file in restored_files(tmp_path).items() if name not in first]
    assert len(other) == 3
    assert {file.read_bytes() for file in other}.isdisjoint(file.read_bytes() for file in first.values())


def test_outputs_and_a_restorer_exclude_each_other(tmp_path, restorer, capsys):
    assert run(["evaluate", "--alone", bench(tmp_path, restore_table(restorer, "fixed"))]) == 2
    assert "name either pictures.restored" in capsys.readouterr().err
