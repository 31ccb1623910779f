"""Train the darkening network that ships with the code, and write its weights as JSON.

    python tests/benchmarks/train_darkening.py degradations/camera/darkening.json

The pairs are made here: photographs that come with scikit-image and scikit-learn, cropped and re-exposed, darkened by
the physical and the statistics mode of low_light at random severities. What the network learns of a pair is the mean
degraded value of each clean value, channel by channel. Takes 15 seconds; a machine
gives the same weights each time.
"""

import json
import sys
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import skimage.data
import sklearn.datasets

from degradations import load
from degradations.camera import darkening as _darkening
from degradations.camera.darkening import BINS, POINTS, Array, features, predict
from degradations.numerics.random import generator, integer, uniform
from degradations.pairs.render import render_params
from storage.records import Image, Scene

HIDDEN = 24
PAIRS = 1600
STEPS = 6000
SIDE = 192


def photographs() -> list[Image]:
    """Return colour photographs that ship with the dependencies."""
    names = ("astronaut", "cat", "coffee", "rocket")
    return [getattr(skimage.data, name)() for name in names] + list(sklearn.datasets.load_sample_images().images)


def main(target: Path) -> None:
    """Make pairs, train, report the error on held-out pairs, write the weights."""
    inputs, curves, trust = _pairs(generator(2026))
    split = len(inputs) * 9 // 10
    weights = _train(inputs[:split], curves[:split], trust[:split])
    error = _error(predict(inputs[split:], weights), curves[split:], trust[split:])
    mean = np.broadcast_to(curves[:split].mean(axis=0), curves[split:].shape)
    baseline = _error(mean, curves[split:], trust[split:])
    sys.stderr.write(f"held-out error {255 * error:.2f} codes RMS; of the mean curve {255 * baseline:.2f}\n")
    target.write_text(json.dumps({name: np.round(value, 5).tolist() for name, value in weights.items()}) + "\n")


def _pairs(rng: np.random.Generator) -> tuple[Array, Array, Array]:
    originals, rows = photographs(), []
    for _ in range(PAIRS):
        clean = _crop(originals[integer(rng, 0, len(originals) - 1)], rng)
        severity = uniform(rng, 0.02, 1)
        rows.append((np.append(features(clean), severity), *_measured(clean, _darkened(clean, severity, rng))))
    return tuple(np.stack(column) for column in zip(*rows, strict=True))


def _crop(image: Image, rng: np.random.Generator) -> Image:
    side = int(uniform(rng, 0.4, 1) * min(image.shape[:2]))
    row, column = integer(rng, 0, image.shape[0] - side), integer(rng, 0, image.shape[1] - side)
    crop = cv2.resize(image[row : row + side, column : column + side], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.rint(255 * (crop / 255) ** uniform(rng, 0.6, 1.7)).astype(np.uint8)


def _darkened(clean: Image, severity: float, rng: np.random.Generator) -> Image:
    low_light = load("low_light")
    mode = ("physical", "statistics")[integer(rng, 0, 1)]
    options = low_light.options(mode=mode, noise=False)
    scene = Scene(key="", image=clean)
    return render_params(scene, [(low_light, low_light.sample(rng, severity, scene, options))]).degraded


def _measured(clean: Image, degraded: Image) -> tuple[Array, Array]:
    """Return the mean degraded value near each point of the curve, (3, POINTS), and the number of pixels behind it."""
    curve, count = np.zeros((3, POINTS)), np.zeros((3, POINTS))
    for channel in range(3):
        place = np.rint(clean[..., channel].ravel() / 255 * (POINTS - 1)).astype(np.int64)
        count[channel] = np.bincount(place, minlength=POINTS)
        total = np.bincount(place, weights=degraded[..., channel].ravel() / 255, minlength=POINTS)
        curve[channel] = total / np.maximum(count[channel], 1)
    return curve, np.minimum(count, 200) / 200


def _error(guess: Array, curves: Array, trust: Array) -> float:
    return float(np.sqrt((trust * (guess - curves) ** 2).sum() / trust.sum()))


def _train(inputs: Array, curves: Array, trust: Array) -> dict[str, Array]:
    """Return weights that minimise the squared error of the curve, by Adam on batches of 64."""
    source = np.random.Generator(np.random.PCG64(7))
    sizes = (BINS + 1, HIDDEN, HIDDEN, 3 * POINTS)
    weights = {}
    for layer, (width, height) in enumerate(pairwise(sizes), start=1):
        weights[f"w{layer}"] = source.standard_normal((width, height)) / np.sqrt(width)
        weights[f"b{layer}"] = np.zeros(height)
    first = {name: np.zeros_like(value) for name, value in weights.items()}
    second = {name: np.zeros_like(value) for name, value in weights.items()}
    for step in range(1, STEPS + 1):
        batch = source.integers(0, len(inputs), 64)
        rate = 4e-3 * (1 - step / STEPS) + 1e-5
        for name, slope in _slopes(inputs[batch], curves[batch], trust[batch], weights).items():
            first[name] = 0.9 * first[name] + 0.1 * slope
            second[name] = 0.999 * second[name] + 0.001 * slope**2
            weights[name] = weights[name] - rate * first[name] / (1 - 0.9**step) / (
                np.sqrt(second[name] / (1 - 0.999**step)) + 1e-8
            )
    return weights


def _slopes(inputs: Array, curves: Array, trust: Array, weights: dict[str, Array]) -> dict[str, Array]:
    """Return the gradient of the weighted squared error, by hand, backwards through `predict`."""
    one = np.tanh(inputs @ weights["w1"] + weights["b1"])
    two = np.tanh(one @ weights["w2"] + weights["b2"])
    outputs = (two @ weights["w3"] + weights["b3"]).reshape(-1, 3, POINTS)
    steps = np.exp(np.clip(outputs[..., 1:], -12, 12))
    total = steps.sum(axis=-1, keepdims=True)
    rise = np.cumsum(steps, axis=-1) / total
    top = 1 / (1 + np.exp(-outputs[..., :1]))
    guess = rise * top
    free = guess < np.linspace(0, 1, POINTS)[1:]
    slope = (
        2
        * trust[..., 1:]
        * (np.where(free, guess, np.linspace(0, 1, POINTS)[1:]) - curves[..., 1:])
        * free
        / len(inputs)
    )
    slope_top = (slope * rise).sum(axis=-1, keepdims=True) * top * (1 - top)
    later = np.flip(np.cumsum(np.flip(slope * top, axis=-1), axis=-1), axis=-1)
    slope_steps = steps / total * (later - (slope * guess).sum(axis=-1, keepdims=True))
    third = np.concatenate([slope_top, slope_steps], axis=-1).reshape(len(inputs), -1)
    second = third @ weights["w3"].T * (1 - two**2)
    first = second @ weights["w2"].T * (1 - one**2)
    return {
        "w1": inputs.T @ first,
        "b1": first.sum(axis=0),
        "w2": one.T @ second,
        "b2": second.sum(axis=0),
        "w3": two.T @ third,
        "b3": third.sum(axis=0),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else _darkening.WEIGHTS)
