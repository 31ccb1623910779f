"""Which score of a reject decided, and which value of it would have been kept: found by asking the filter again.

A verdict is pure, so no filter needs to say what its limits are: a score is exchanged for a typical one, and if that
changes the verdict, the limit lies between the two.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from pydantic import ValidationError

import filters
from filters._contract import Filter
from storage.canonical import decode
from storage.records import Recipe

Row = Mapping[str, Any]
Scores = Mapping[str, float]

_HALVINGS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A score that decided. limit: the value nearest to it that would have been kept; None where that is not known."""

    value: float
    limit: float | None = None


def deciding(row: Row, judges: Mapping[str, Filter], typical: Scores) -> dict[str, Decided]:
    """Return the scores which, had they been typical, would have changed the verdict; all of that filter's if none."""
    name = row["stage"]
    own = {score: value for score, value in (row["scores"] or {}).items() if score.partition(".")[0] == name}
    undecided = {score: Decided(value=value) for score, value in own.items()}
    judge = judges.get(name)
    if judge is None or not own:
        return undecided
    recipe = decode(Recipe, row["recipe"].encode()) if row.get("recipe") else None

    def holds(score: str, value: float) -> bool:
        scores = {found.partition(".")[2]: at for found, at in {**own, score: value}.items()}
        return judge.judge(scores, recipe).reason == str(row["reason"])

    try:
        changing = [score for score, value in own.items() if not holds(score, typical.get(score, value))]
    except KeyError:  # a score that this filter now wants was not measured then
        changing = []
    found = {score: Decided(value=own[score], limit=_limit(holds, score, own, typical)) for score in changing}
    return found or undecided


def judges_of(settings: Mapping[str, Any]) -> dict[str, Filter]:
    """Return the filters of a dataset's published settings; those whose options are no longer known are left out."""
    found = {}
    for name, options in settings.get("filters", {}).items():
        if name in filters.names() and options:
            try:
                found[name] = filters.load(name).model_validate(options)
            except ValidationError:  # written by another version of the filter
                continue
    return found


def medians(scores: Iterable[Scores]) -> dict[str, float]:
    """Return the median of every score in these rows."""
    values: dict[str, list[float]] = {}
    for row in scores:
        for name, value in row.items():
            values.setdefault(name, []).append(value)
    return {name: median(found) for name, found in values.items()}


def _limit(holds: Callable[[str, float], bool], score: str, own: Scores, typical: Scores) -> float:
    """Halve the way from what was rejected to what is typical until the limit stands between two neighbours."""
    rejected, kept = own[score], typical[score]
    for _ in range(_HALVINGS):
        between = rejected + (kept - rejected) / 2
        if holds(score, between):
            rejected = between
        else:
            kept = between
    return kept
