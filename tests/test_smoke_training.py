"""The whole chain on photographs that are installed already: build, train for about a minute, restore, score.

Counted in steps and on one thread, so that it comes out the same each time; 200 steps are about 55 CPU-seconds.
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

from degradations._recipes import draw
from degradations._render import render
from flows.__main__ import run
from flows.training_settings import parse_training
from tasks import preview
from tasks.train import run as train
from tests.builds import build_here, settings_for

pytestmark = pytest.mark.timeout(1800)

STEPS = 200
TASKS = ("blur", "haze", "noise")
SEVERITIES = (0.35, 0.55, 0.75, 0.95)
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


def psnr(one, other):
    return 10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2))


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
        "model": {"preset": "tiny"},
        "data": {
            "train": [str(root / "dataset")],
            "size": 48,
            "square": True,
            "scale": "native",
            "mirrored": True,
            "repeats": 4,
            "dropout": 0.0,
        },
        "optimizer": {"learning_rate": 2e-3, "schedule": "cosine", "warmup": 20, "average": 0.98},
        "levels": {"kind": "power", "power": 0.05},
        "run": {"threads": 1, "tensorboard": False, "rhythm": {"log": 50, "checkpoint": 0, "validate": 0}},
    }
    return train(parse_training(content, origin="a test", base=Path.cwd())).weights


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Return a folder of held-out photographs, degraded, and their clean sides by name."""
    folder, clean = tmp_path_factory.mktemp("held"), {}
    held = [skimage.data.chelsea()[20:212, 100:292], sklearn.datasets.load_sample_image("flower.jpg")[100:292, 200:392]]
    for number, image in enumerate(held):
        scene = preview.scene_of(np.ascontiguousarray(image))
        for task in TASKS:
            for severity in SEVERITIES:
                rendered = render(scene, draw(task, severity, scene, seed=number))
                name = f"{number}-{severity}.png"
                write(folder / task / name, rendered.degraded)
                clean[task, name] = rendered.clean
    return folder, clean


@pytest.fixture(scope="module")
def gains(weights, pictures, tmp_path_factory):
    """Return by task the mean gain in dB of `pairforge restore` over the degraded photographs."""
    folder, clean = pictures
    out = tmp_path_factory.mktemp("restored")
    for task in TASKS:
        command = ["restore", str(folder / task), "--task", task, "--weights", str(weights), "-o", str(out / task)]
        assert run(command) == 0
    found = {task: [] for task in TASKS}
    for (task, name), image in clean.items():
        before, after = (cv2.cvtColor(cv2.imread(str(root / task / name)), cv2.COLOR_BGR2RGB) for root in (folder, out))
        assert after.shape == image.shape
        found[task].append(psnr(image, after) - psnr(image, before))
    return {task: float(np.mean(values)) for task, values in found.items()}


@pytest.mark.parametrize(("task", "least"), [("noise", 3.0), ("haze", 6.0), ("blur", -0.1)])
def test_about_a_minute_of_training_restores_photographs_never_seen(gains, task, least):
    assert gains[task] >= least, gains


def test_the_metrics_tell_of_the_learning(weights):
    lines = [json.loads(line) for line in (weights.parent / "metrics.jsonl").read_text().splitlines()]
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert len(losses) == STEPS // 50
    assert losses[-1] < losses[0] - 0.3  # the loss is a logarithm: by a quarter
