"""A grade of one named degradation without a model's weights: statistics of the pixels, mapped linearly to 1 to 5.

It stands in for RealIR-Bench's grader where there is none, and is named "embedded" wherever it is told: its numbers are
not the vision-language model's and are never shown in one table with them. It was fitted to rendered pictures by
`tests/benchmarks/fit_grades.py`; EXPERIMENTS.md says how often it is right.
"""

import math
from functools import cache
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from filters._appearance import appearance
from filters._likeness import compressed, likeness
from storage.records import Image

NAME = "embedded"
_LEAST, _MOST = 1, 5


class Fit(BaseModel, frozen=True, extra="forbid"):
    """Linear maps from statistics to grades: one row of weights and one bias for each type."""

    types: tuple[str, ...]
    features: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]


def types() -> tuple[str, ...]:
    """Return the degradations that can be graded."""
    return _fit().types


def graded(image: Image, name: str) -> int:
    """Return the grade, 1 (worst) to 5 (none), of the degradation `name`; ValueError for one of no known type."""
    fit, found = _fit(), statistics(image)
    row = fit.types.index(name)
    grade = float(np.dot(fit.weights[row], [found[feature] for feature in fit.features])) + fit.bias[row]
    return int(np.clip(round(grade), _LEAST, _MOST))


def statistics(image: Image) -> dict[str, float]:
    """Return what the grades are made of: the appearance, long tails drawn in, and the log odds of each type."""
    found = appearance(image)
    drawn_in = compressed([list(found.values())])[0].tolist()
    odds = {f"like_{name}": _log_odds(share) for name, share in likeness("image", found).items()}
    return dict(zip(found, drawn_in, strict=True)) | odds


def _log_odds(share: float) -> float:
    return math.log((share + 1e-4) / (1 - share + 1e-4))


@cache
def _fit() -> Fit:
    return Fit.model_validate_json(Path(__file__).with_name("_embedded_grade.json").read_text())
