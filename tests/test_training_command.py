"""`pairforge train`: wrong settings are told in one sentence, a forecast is free, watchers see everything."""

# ruff: noqa: E402  # without torch these tests are skipped before anything that needs it is imported

import json
import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: install PairForge's `train` extra")

from flows.__main__ import run
from flows.following import Following
from flows.train import train_here
from flows.training_metrics import TrainingMetrics
from flows.training_settings import read_training
from storage.errors import SettingsError
from tests.small_training import ROOT, dataset, lines, settings, train
from training.loop.logs import JsonLines


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("command")
    dataset(folder)
    return folder


def written(folder, content):
    file = folder / "train.json"
    file.write_text(json.dumps(content))
    return file


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"stepz": 3}, "stepz is not a setting; did you mean steps?"),
        ({"optimizer": {"learnin_rate": 1}}, "optimizer.learnin_rate is not a setting; did you mean learning_rate?"),
        ({"run": {"rhythm": {"logs": 1}}}, "run.rhythm.logs is not a setting; did you mean log?"),
        ({"optimizer": {"weights": "bf16", "learning_rate": 1e-5}}, "optimizer: plain bf16 weights do not learn"),
        ({"run": {"rhythm": {"log": 2, "checkpoint": 3}}}, "run.rhythm: checkpoint (3) must be a multiple of log (2)"),
        ({"model": {"weights": "w.safetensors"}}, "model: name one of preset and weights"),
        ({"model": {"shape": {"hiden": 3}}}, "model.shape: hiden is no field of a model; there are channels, hidden"),
        ({"levels": {"kind": "cubic"}}, "levels.kind: input should be 'shifted-logit-normal', 'power' or 'uniform'"),
        ({"curriculum": 3}, "curriculum must be a table of options, got 3; write [curriculum] above its keys"),
        ({"data": {"train": []}}, "data: name one of train and foreign"),
    ],
)
def test_a_wrong_setting_is_told_in_one_sentence(root, capsys, change, sentence):
    assert run(["train", str(written(root, settings(root, "wrong", **change))), "--dry-run"]) == 2
    told = capsys.readouterr().err.strip()
    assert sentence in told
    assert "\n" not in told


def test_a_missing_file_names_one_to_start_from(tmp_path, capsys):
    assert run(["train", str(tmp_path / "none.toml")]) == 2
    assert "none.toml does not exist; deploy/runs/tiny.toml is one to start from" in capsys.readouterr().err


def test_a_forecast_trains_nothing(root, capsys):
    content = settings(root, "forecast")
    assert run(["train", str(written(root, content)), "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["steps"] == 12
    assert told["forecast"]["parameters"] == told["forecast"]["trained"] > 10_000
    assert told["forecast"]["flops"] > 0
    assert not (root / "forecast").exists()


def test_what_every_rank_would_refuse_is_told_before_ranks_are_started(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "tasks.ray_train", None)  # importing it would fail
    train(settings(root, "begun", steps=2, run={"rhythm": {"checkpoint": 2}}))
    for change, sentence in (({"data": {"tasks": ["snow"]}}, "snow"), ({"batch": 4}, "was begun with batch")):
        options = read_training(written(root, settings(root, "begun", steps=4, run={"workers": 2}, **change)))
        with pytest.raises(SettingsError, match=sentence):
            train_here(options, [], owner="test")


def test_paths_are_relative_to_the_file(root):
    content = settings(root, "x") | {"output": "out"}
    assert read_training(written(root, content)).output == str(root / "out")


def test_watchers_are_told_what_the_numbers_file_says(root):
    content, moments = settings(root, "watched"), []
    options = read_training(written(root, content))
    train_here(options, [moments.append], owner="a test")
    assert moments[-1].step == moments[-1].steps == 12
    assert moments[-1].seconds_left == 0
    assert "step 12/12, loss " in moments[-1].text()
    assert [moment.step for moment in moments] == [line["step"] for line in lines(root / "watched")]
    prometheus = (root / "watched" / "metrics.prom").read_text()
    assert "pairforge_train_step 12.0" in prometheus
    assert 'pairforge_train_number{name="val/loss/haze"}' in prometheus


def test_metrics_are_served_on_loopback(tmp_path):
    from flows.following import Moment

    with TrainingMetrics(tmp_path, port=0) as metrics:
        metrics.follow(Moment(step=3, steps=9, numbers={"perf/step_s": 2.0}, fresh={"train/loss": 0.5}))
    assert "pairforge_train_seconds_left 12.0" in (tmp_path / "metrics.prom").read_text()


def test_what_a_killed_run_wrote_beyond_its_checkpoint_is_cut_off(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"header": {}}\n{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    JsonLines(file, step=2).close()
    assert [json.loads(line) for line in file.read_text().splitlines()] == [{"header": {}}, {"step": 1}, {"step": 2}]


def test_a_follower_is_not_told_what_an_earlier_run_wrote(tmp_path):
    file, steps = tmp_path / "metrics.jsonl", []
    file.write_text('{"step": 1}\n')
    with Following(file, 9, lambda moment: steps.append(moment.step)), file.open("a") as opened:
        opened.write('{"step": 2}\n{"ste')
    assert steps == [2]


def test_tensorboard_has_numbers_and_pictures(root):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(settings(root, "board", steps=3, run={"tensorboard": True}))
    found = events.EventAccumulator(str(root / "board" / "tensorboard")).Reload()
    assert {"train/loss", "val/loss"} <= set(found.Tags()["scalars"])
    assert set(found.Tags()["images"]) == {"batch", "samples"}


@pytest.mark.stack
@pytest.mark.timeout(900)
def test_the_command_trains_as_a_flow_run_and_again_starts_nothing(root, tmp_path):
    file = written(root, settings(root, "whole"))
    told = []
    for _ in range(2):
        command = [sys.executable, "-m", "flows", "train", str(file), "--json"]
        environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400, check=True
        )
        assert json.loads(done.stdout)["weights"] == str(root / "whole" / "model.safetensors")
        assert "Traceback" not in done.stderr
        told.append(done.stderr)
    assert "starting Prefect" in told[0]
    assert "starting Prefect" not in told[1]
    assert len(lines(root / "whole")) == 15
