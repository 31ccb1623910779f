"""Benchmarks for the tests of `pairforge evaluate`: pictures, a settings file, and what came out."""

import json

import numpy as np
import PIL.Image
from skimage import data

EMBEDDED = ("", '[grader]\nkind = "embedded"\n')


def picture(level, shape=(48, 64)):
    """Return a textured picture whose mean tells the fake grader its grade: 40 is 1, 200 is 5."""
    texture = data.camera()[: shape[0], : shape[1], None].astype(float)
    return np.clip(40 * level + 8 * np.sign(texture - np.median(texture)) * np.ones(3), 0, 255).astype(np.uint8)


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(image).save(path)


def bench(folder, text, **pictures):
    places = {"degraded": "in", "restored": "out"} | pictures
    lines = "\n".join(f"{side} = {json.dumps(place)}" for side, place in places.items() if place)
    file = folder / "bench.toml"
    file.write_text(f'output = "scores"\nname = "ours"\n{text[0]}\n[pictures]\n{lines}\n{text[1]}')
    return str(file)


def result(folder):
    return json.loads((folder / "scores/bench.json").read_text())


def photographs(folder, side=256):
    """Write a clear and a noisy photograph as inputs, the clear one as both outputs."""
    clear = data.astronaut()[:side, :side]
    noisy = np.clip(clear + np.random.default_rng(0).normal(0, 45, clear.shape), 0, 255).astype(np.uint8)
    save(folder / "in/noise/a.png", noisy)
    save(folder / "in/noise/b.png", clear)
    for name in "ab":
        save(folder / f"out/noise/{name}.png", clear)
