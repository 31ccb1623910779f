"""The page on which restored photographs are compared with what they were: one HTML file that needs nothing else."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from flows.report import render
from flows.report_pictures import Picture, Pictures
from storage.files import publish_bytes
from storage.records import Image

SHOWN = 24  # pictures on a page, at most
SIDE = 1440  # of a picture, at most
BUDGET = 12_000_000  # bytes of all pictures before base64


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What is said of one restored photograph. probability: with which the task was proposed, if nobody named it."""

    name: str
    task: str
    probability: float | None
    width: int
    height: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A restored photograph and its two pictures."""

    item: Restored
    before: Picture
    after: Picture


class Comparison:
    """Collects the pictures of `count` photographs as they are restored; holds none of their pixels."""

    def __init__(self, count: int) -> None:
        self._pictures = Pictures(2 * min(count, SHOWN), BUDGET)
        self._shown: list[Shown] = []
        self._more = 0

    def add(self, item: Restored, before: Image, after: Image) -> None:
        """Take one in; beyond the first 24 they are only counted."""
        if len(self._shown) == SHOWN:
            self._more += 1
            return
        one, other = self._pictures.whole(before, after, SIDE)
        self._shown.append(Shown(item=item, before=one, after=other))

    def write(self, file: Path, *, facts: Iterable[tuple[str, str]]) -> None:
        """Write the page; facts: what is said of all of them, as pairs of a name and a value."""
        content = {"shown_items": self._shown, "more": self._more, "facts": list(facts)}
        publish_bytes(file, render(content, "comparison.html").encode())
