"""The hook for a learned darkening: a small network that looks at a photograph's histogram and says a tone curve.

What it says is stored in the recipe, so a replay needs no weights. Weights are a JSON file: no pickle, no torch.
Input: the shares of 16 luma bins and the severity; two layers of tanh; output: for each channel, by how much each of
the curve's steps is larger or smaller than its neighbours, and its last value. The curve rises, and lies below the
identity, by construction. `tests/benchmarks/train_darkening.py` trains the weights beside this file, on pairs that the
physical and the statistics mode make.
"""

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from degradations.numerics.area import coarse, reduced
from storage.records import Image

WEIGHTS = Path(__file__).with_suffix(".json")
BINS = 16  # of the luma histogram
POINTS = 17  # of the curve, evenly spaced in sRGB values
KNOTS = 20  # severities at which the network is asked; linear between, and from the identity at 0

Array = NDArray[np.float64]


def curve(image: Image, severity: float, weights: str | None = None) -> tuple[float, ...]:
    """Return sRGB values in [0, 1] at POINTS evenly spaced sRGB values, one channel after the other.

    weights: a JSON file with the lists w1, b1, w2, b2, w3, b3; None for the one beside this file. Raises ValueError if
    it does not fit. Where the network would brighten as severity grows, the darker curve stays.
    """
    shares = features(image)
    knots = [np.append(shares, step / KNOTS) for step in range(1, KNOTS + 1)]
    said = predict(np.stack(knots), load_weights(weights or str(WEIGHTS))).reshape(KNOTS, -1)
    identity = np.tile(np.linspace(0, 1, POINTS), 3)[None]
    falling = np.minimum.accumulate(np.concatenate([identity, said]), axis=0)
    below = min(KNOTS - 1, int(severity * KNOTS))
    between = severity * KNOTS - below
    points = falling[below] * (1 - between) + falling[below + 1] * between
    return tuple(float(value) for value in np.round(points, 6))


def features(image: Image) -> Array:
    """Return the square roots of the shares of the luma bins, (BINS,)."""
    small = reduced(image, coarse(image.shape, 128)).reshape(-1, 3)
    luma = small @ np.array([0.2126, 0.7152, 0.0722])
    shares = np.bincount(np.minimum(luma / 256 * BINS, BINS - 1).astype(np.int64), minlength=BINS) / len(luma)
    return np.asarray(np.sqrt(shares), dtype=np.float64)


def predict(inputs: Array, weights: dict[str, Array]) -> Array:
    """Return the curves, (..., 3, POINTS), that the network says for `inputs` (..., BINS + 1): features, severity."""
    hidden = np.tanh(inputs @ weights["w1"] + weights["b1"])
    hidden = np.tanh(hidden @ weights["w2"] + weights["b2"])
    return as_curves(hidden @ weights["w3"] + weights["b3"])


def as_curves(outputs: Array) -> Array:
    """Return monotone curves (..., 3, POINTS) from 0 to at most 1, below the identity, of free `outputs`."""
    outputs = outputs.reshape(*outputs.shape[:-1], 3, POINTS)
    steps = np.exp(np.clip(outputs[..., 1:], -12, 12))
    rise = np.cumsum(steps, axis=-1) / steps.sum(axis=-1, keepdims=True)
    top = 1 / (1 + np.exp(-np.clip(outputs[..., :1], -30, 30)))
    curves = np.concatenate([np.zeros_like(top), rise * top], axis=-1)
    return np.asarray(np.minimum(curves, np.linspace(0, 1, POINTS)))


def load_weights(path: str) -> dict[str, Array]:
    """Return the weights in the JSON file at `path`; raises ValueError if there are none that fit the network."""
    try:
        return _weights(path, Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no JSON file of weights ({error})") from error


@lru_cache(maxsize=4)
def _weights(path: str, text: str) -> dict[str, Array]:
    """Return the weights in `text`, which is what the file at `path` holds."""
    try:
        stored = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} is no JSON file of weights ({error})") from error
    names = ("w1", "b1", "w2", "b2", "w3", "b3")
    if not isinstance(stored, dict) or set(names) - set(stored):
        raise ValueError(f"{path} lacks {', '.join(sorted(set(names) - set(stored)))}")
    weights = {name: np.asarray(stored[name], dtype=np.float64) for name in names}
    first, second = weights["b1"].size, weights["b2"].size
    fitting = [(BINS + 1, first), (first,), (first, second), (second,), (second, 3 * POINTS), (3 * POINTS,)]
    if [weights[name].shape for name in names] != fitting or not all(np.isfinite(w).all() for w in weights.values()):
        raise ValueError(
            f"{path} must hold finite weights of two layers from {BINS + 1} inputs to {3 * POINTS} outputs"
        )
    return weights
