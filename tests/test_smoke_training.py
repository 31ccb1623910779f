"""The whole chain on photographs that are installed already: build, train, restore, score.

Counted in steps and on one thread, so that it comes out the same each time; all of it is about 75 CPU-seconds.
"""

# ruff: noqa: E402  # without torch these tests are skipped before anything that needs it is imported

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import sklearn.datasets

torch = pytest.importorskip("torch", reason="torch is not installed: install PairForge's `train` extra")

from degradations.noise import NoiseOptions
from degradations.pairs.recipes import draw
from degradations.pairs.render import render
from flows.__main__ import run
from flows.training_settings import parse_training
from tasks import preview
from tasks.train import run as train
from tests.builds import build_here, settings_for

pytestmark = pytest.mark.timeout(1800)

STEPS = 400
TASKS = ("haze", "noise")
SEVERITIES = (0.4, 0.6, 0.8, 0.95)
EVERYWHERE = {"noise": NoiseOptions(segment_aware=0.0)}  # 19.7 dB on average, about what the bars were set for
SIDE = 256


def crops(image, count):
    """Return so many crops, evenly spaced from the upper left to the lower right."""
    return [
        image[row : row + SIDE, column : column + SIDE]
        for row, column in zip(
            np.linspace(0, image.shape[0] - SIDE, count).astype(int),
            np.linspace(0, image.shape[1] - SIDE, count).astype(int),
            strict=True,
        )
    ]


def write(file, image):
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Return what training on a dataset of twelve small photographs come to."""
    root = tmp_path_factory.mktemp("smoke")
    shown = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.rocket()]
    shown.append(sklearn.datasets.load_sample_image("china.jpg"))
    for number, crop in enumerate(crop for image in shown for crop in crops(image, 3)):
        write(root / "photographs" / f"{number}.png", crop)
    mixture = {"weights": dict.fromkeys(TASKS, 1), "variants": 15, "validation": 0.0}
    dataset = settings_for(
        root / "photographs",
        root / "dataset",
        mixture=mixture,
        clean={"grey": "keep"},
        filters={"clean_quality": False, "duplicate": False, "strength": False},
    )
    build_here(dataset)
    content = {
        "seed": 7,
        "stage": "smoke",
        "output": str(root / "run"),
        "steps": STEPS,
        "batch": 16,
        "weighting": "logarithmic",
        "model": {"preset": "tiny", "compute": "mixed"},
        "data": {
            "train": [str(root / "dataset")],
            "size": 48,
            "square": True,
            "scale": "native",
            "mirrored": True,
            "repeats": 4,
            "dropout": 0.0,
        },
        "optimizer": {"kind": "muon", "learning_rate": 4e-3, "schedule": "cosine", "warmup": 20, "average": 0.98},
        "levels": {"kind": "power", "power": 0.05},
        "run": {"threads": 1, "tensorboard": False, "rhythm": {"log": 40, "checkpoint": 0, "validate": 0}},
    }
    return train(parse_training(content, origin="a test", base=Path.cwd())).weights


def write_held_out(root):
    """Write two photographs that were not trained on, degraded and clean."""
    held = [skimage.data.chelsea()[20:212, 100:292], sklearn.datasets.load_sample_image("flower.jpg")[100:292, 200:392]]
    for number, image in enumerate(held):
        scene = preview.scene_of(np.ascontiguousarray(image))
        for task in TASKS:
            for severity in SEVERITIES:
                rendered = render(scene, draw(task, severity, scene, seed=number, options=EVERYWHERE))
                for side in ("degraded", "clean"):
                    write(root / side / task / f"{number}-{severity}.png", getattr(rendered, side))


def scored(root, weights):
    """Restore what is degraded and return the scores of `pairforge evaluate` by task."""
    for task in TASKS:
        places = [str(root / "degraded" / task), "-o", str(root / "restored" / task)]
        assert run(["restore", *places, "--task", task, "--weights", str(weights)]) == 0
    sides = "\n".join(f'{side} = "{side}"' for side in ("degraded", "restored", "clean"))
    (root / "bench.toml").write_text(f'output = "scores"\nprotocol = "reference"\n[pictures]\n{sides}\n')
    assert run(["evaluate", "--alone", str(root / "bench.toml")]) == 0
    return json.loads((root / "scores" / "bench.json").read_text())


@pytest.fixture(scope="module")
def scores(weights, tmp_path_factory):
    root = tmp_path_factory.mktemp("held")
    write_held_out(root)
    return scored(root, weights)


def test_every_picture_comes_through_the_whole_chain(scores):
    assert scores["coverage"] == 1
    assert scores["pictures"] == len(TASKS) * 2 * len(SEVERITIES)


@pytest.mark.parametrize(("task", "least"), [("noise", 3.0), ("haze", 6.0)])
def test_about_a_minute_of_training_restores_photographs_never_seen(scores, task, least):
    found = {name: score["value"] for name, score in scores["tasks"][task]["scores"].items()}
    assert found["psnr"] - found["input_psnr"] >= least, found


def test_the_metrics_tell_of_the_learning(weights):
    lines = [json.loads(line) for line in (weights.parent / "metrics.jsonl").read_text().splitlines()]
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert len(losses) == STEPS // 40
    assert losses[-1] < losses[0] - 0.3  # the loss is a logarithm: by a quarter
