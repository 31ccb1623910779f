"""Which score of a reject decided, and which value of it would have been kept: found by asking the filter again.

A verdict is pure, so no filter needs to say what its limits are: a score is exchanged for others, near ones first, and
where one would have been kept, the limit lies between the two.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
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
_NEAREST = 2.0**-10  # of the way to a typical value: the first other value that is tried
_STEP = 2**0.25  # a band is missed where it is narrower than a fifth of the way to it


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A score that decided. limit: the value nearest to it that would have been kept; None where that is not known."""

    value: float
    limit: float | None = None


def deciding(row: Row, judges: Mapping[str, Filter], typical: Scores) -> dict[str, Decided]:
    """Return the scores any one of which, had it been another, would have been kept; all of that filter's if none.

    typical: a common value of each score, which tells how far from its own to look, upwards and downwards.
    """
    name = row["stage"]
    own = {score: value for score, value in (row["scores"] or {}).items() if score.partition(".")[0] == name}
    undecided = {score: Decided(value=value) for score, value in own.items()}
    judge = judges.get(name)
    if judge is None or not own:
        return undecided
    recipe = decode(Recipe, row["recipe"].encode()) if row.get("recipe") else None

    def drops(score: str, value: float) -> bool:
        scores = {found.partition(".")[2]: at for found, at in {**own, score: value}.items()}
        return not judge.judge(scores, recipe).keep

    try:
        limits = {
            score: _limit(partial(drops, score), value, typical.get(score, value)) for score, value in own.items()
        }
    except KeyError:  # a score that this filter now wants was not measured then
        return undecided
    found = {score: Decided(value=own[score], limit=limit) for score, limit in limits.items() if limit is not None}
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


def _limit(drops: Callable[[float], bool], own: float, typical: float) -> float | None:
    """Return the value nearest to `own` that is no longer dropped; None if there is none near."""
    reach, share = max(abs(typical - own), abs(own) / 2), _NEAREST
    while share <= 1:
        for other in (own + share * reach, own - share * reach):
            if not drops(other):
                return _border(drops, own, other)
        share *= _STEP
    return None


def _border(drops: Callable[[float], bool], rejected: float, kept: float) -> float:
    """Halve the way between two values until the limit stands between two neighbours."""
    for _ in range(_HALVINGS):
        between = rejected + (kept - rejected) / 2
        if drops(between):
            rejected = between
        else:
            kept = between
    return kept
