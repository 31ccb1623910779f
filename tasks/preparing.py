"""What a model is given, made ready, and what it found, finished: group by group, in this process or elsewhere.

A stage with weights has three functions. `open(options, device)` loads them. `groups(shard, options)` says which images
go through the model together; a group is small, and says where its images lie. `prepare(group, options)` reads and
decodes them and does whatever else needs a CPU and no weights: it is pure, so it may run anywhere, before anybody wants
its result, and again when the process that ran it dies. Where as much is left to do afterwards there is a fourth, as
pure: `finish(found, options)`, of what the model found of a group.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from storage.records import Image, WorkShard
from tasks.progress import working_on

G = TypeVar("G")
H = TypeVar("H")
P = TypeVar("P")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Images that go through a model together: their keys, and the row of each that says where it lies."""

    keys: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]


def grouped(rows: Iterable[Mapping[str, Any]], size: int) -> list[Group]:
    """Return `rows`, which have a "key", in groups of at most `size`, their order kept."""
    ordered = tuple(rows)
    parts = (ordered[start : start + size] for start in range(0, len(ordered), size))
    return [Group(keys=tuple(row["key"] for row in part), rows=part) for part in parts]


def in_turn(groups: Iterable[Group], prepare: Callable[[Group], P], shard: WorkShard) -> Iterator[P]:
    """Prepare each group in this process when it is wanted; of a group of one, note that the work is on it."""
    for group in groups:
        if len(group.keys) == 1:  # of more than one nobody could say which of them ended the process
            working_on(shard, group.keys[0])
        yield prepare(group)


def writable(image: Image) -> Image:
    """Return `image`, copied if it may only be read: so are arrays from shared memory, which torch warns of."""
    return np.require(image, requirements=["C", "W"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What other processes do of a work shard for the one that holds the weights.

    prepared: its groups, made ready, in order; iterate over it once. finished: of what the model found of each group,
    an iterable, what the stage's `finish` makes of it, in order.
    """

    prepared: Iterable[Any]
    finished: Callable[[Iterable[Any]], Iterable[Any]]


class Ahead(Generic[G, H, P]):
    """Works on groups elsewhere, at most `count` ahead of the one that is in use; iterate over it once, in order.

    begin: starts to work on a group and returns a handle without waiting. result: waits for a handle; what it raises
    arrives when its group is wanted. The first `count` are begun at once, one more whenever one is taken.
    """

    def __init__(self, groups: Iterable[G], *, begin: Callable[[G], H], result: Callable[[H], P], count: int) -> None:
        self._groups = iter(groups)
        self._begin, self._result = begin, result
        self._begun: deque[H] = deque()
        for _ in range(count):
            self._begin_next()

    def __iter__(self) -> Iterator[P]:
        while self._begun:
            ready = self._result(self._begun.popleft())
            self._begin_next()
            yield ready

    def _begin_next(self) -> None:
        for group in self._groups:
            self._begun.append(self._begin(group))
            return
