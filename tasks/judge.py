"""Exchange: from stored scores to verdicts, as often as anyone likes. No pixel is looked at."""

from collections.abc import Mapping, Sequence

from filters._contract import Filter
from storage.records import Recipe, Verdict

Scores = Mapping[str, float]


def judge(filters: Mapping[str, Filter], scores: Scores, recipe: Recipe | None = None) -> list[Verdict]:
    """Return the verdict of every filter, cheapest first, on the scores it stored (`<filter>.<score>`).

    Filters that measure only survivors come last, and say nothing of what they were not shown.
    """
    ordered = sorted(filters.items(), key=lambda item: (item[1].is_last(), item[1].cost, item[0]))
    silent = unmeasured(filters, scores)
    return [one.judge(_of(name, scores), recipe) for name, one in ordered if name not in silent]


def unmeasured(filters: Mapping[str, Filter], scores: Scores) -> set[str]:
    """Return the names of the filters that measure only survivors and have not measured this one."""
    return {name for name, one in filters.items() if one.is_last() and not _of(name, scores)}


def first_reason(verdicts: Sequence[Verdict]) -> tuple[str, str]:
    """Return (filter, reason) of the first verdict that drops, or two empty strings when all keep."""
    dropped = next((verdict for verdict in verdicts if not verdict.keep), None)
    return (dropped.filter, dropped.reason) if dropped else ("", "")


def _of(name: str, scores: Scores) -> dict[str, float]:
    prefix = f"{name}."
    return {score.removeprefix(prefix): value for score, value in scores.items() if score.startswith(prefix)}
