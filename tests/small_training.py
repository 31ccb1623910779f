"""Trainings small enough for a test: a restorer of some thousand weights on a dataset of `tests.small_dataset`."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.small_dataset import make_dataset
from training.weights.tensor_files import TensorFiles

ROOT = Path(__file__).parents[1]
SHAPE = {"hidden": 32, "heads": 2, "rope_axes": [4, 6, 6], "double_blocks": 1, "single_blocks": 2}


def settings(root, name="run", **changes):
    """Return the content of a training's TOML file; `changes` are merged table by table."""
    content = {
        "seed": 3,
        "stage": "small",
        "output": str(root / name),
        "steps": 12,
        "batch": 6,
        "weighting": "relative",
        "model": {"preset": "tiny", "shape": SHAPE},
        "data": {"train": [str(root / "dataset")], "size": 16, "square": True, "scale": "native", "dropout": 0.1},
        "optimizer": {"learning_rate": 2e-3, "schedule": "cosine", "warmup": 2, "average": 0.9},
        "levels": {"kind": "power"},
        "validation": {"pairs": 2, "samples": 1, "steps": 2},
        "run": {"threads": 1, "tensorboard": False, "rhythm": {"log": 1, "checkpoint": 3, "validate": 6}},
    }
    return merged(content, changes)


def merged(content, changes):
    """Return `content` with `changes`, tables of tables merged."""
    both = dict(content)
    for key, value in changes.items():
        both[key] = merged(both[key], value) if isinstance(value, dict) and isinstance(both.get(key), dict) else value
    return both


def dataset(root):
    """Write the dataset that `settings` names."""
    return make_dataset(root / "dataset", photographs=2, shape=(40, 56))


def train(content, **options):
    """Train in this process and return what came out."""
    from flows.training_settings import parse_training
    from tasks.train import run

    return run(parse_training(content, origin="a test", base=Path.cwd()), **options)


def train_apart(content, file, *, launcher=(sys.executable,), program="rank", environment=None, timeout=240):
    """Train in a process of its own, or in those of a launcher or of Ray; returns it when it has ended."""
    file.write_text(json.dumps(content))
    command = [*launcher, __file__, program, str(file)]
    variables = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONFAULTHANDLER": "1",
        "PYTHONPATH": str(ROOT),
        **(environment or {}),
    }
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=timeout, check=False)


def main(program, file):
    """Train what a file says: as one rank, of torchrun if it started this, or on Ray."""
    content = json.loads(Path(file).read_text())
    if program == "ray":
        _on_ray(content)
        return
    from flows.train import leave, ranks_of_torchrun
    from tasks.train import Ranks

    ranks = ranks_of_torchrun()
    train(content, ranks=ranks or Ranks())
    if ranks:
        leave()


def _on_ray(content):
    from flows.quiet import silence_ray

    silence_ray()
    from flows.training_settings import parse_training
    from tasks.ray_train import run_on_ray

    assert run_on_ray(parse_training(content, origin="a test", base=Path.cwd()), None).weights


def weights(path):
    """Return the tensors in a safetensors file or folder by name."""
    with TensorFiles(Path(path)) as files:
        return {name: files.read(name) for name in files.tensors}


def lines(root):
    """Return the lines of numbers of a training's metrics, without those of time."""
    found = [json.loads(line) for line in (Path(root) / "metrics.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in line.items() if not name.startswith("perf/")}
        for line in found
        if "header" not in line
    ]


if __name__ == "__main__":
    main(*sys.argv[1:])
