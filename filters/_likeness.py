"""Which degradation a set of statistics looks like: logistic regression, its weights in `_likeness.json`.

Of a pair, one type against the others (probabilities add up to 1); of an image, each type against clean photographs,
from a few features, because a real image may well be degraded in several ways. Fitted to rendered pairs by
`tests/benchmarks/fit_likeness.py`, on statistics compressed by sign(x) log(1 + 4 |x|).
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

Kind = Literal["pair", "image"]


class Weights(BaseModel, frozen=True, extra="forbid"):
    """A fitted model. weights: one row per type, one column per feature, of the standardised features."""

    types: tuple[str, ...]
    features: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]


def likeness(kind: Kind, statistics: Mapping[str, float], model: Weights | None = None) -> dict[str, float]:
    """Return the probability of each type given the statistics of a pair or of one image, by the shipped model."""
    model = model or _models()[kind]
    features = compressed([[statistics[name] for name in model.features]])[0]
    logits = np.array(model.weights) @ ((features - np.array(model.mean)) / np.array(model.scale)) + model.bias
    odds = np.exp(logits - logits.max())
    probabilities = odds / odds.sum() if kind == "pair" else 1 / (1 + np.exp(-logits))
    return dict(zip(model.types, probabilities.tolist(), strict=True))


def compressed(features: list[list[float]]) -> NDArray[np.float64]:
    """Return features, one row per example, with long tails drawn in."""
    values = np.array(features, dtype=np.float64)
    return np.asarray(np.sign(values) * np.log1p(4 * np.abs(values)))


@cache
def _models() -> dict[str, Weights]:
    stored = json.loads(Path(__file__).with_name("_likeness.json").read_text())
    return {kind: Weights.model_validate(model) for kind, model in stored.items()}
