"""Which sample is trained on when: a pure function of (seed, stage, position), with exact counts.

Position k is the global number of a sample, counted over all ranks and steps; what is drawn for it depends on nothing
else, so ranks, workers and restarts change nothing. Every round of as many positions as there are tasks holds each task
once. Within a task the share of synthetic samples is kept to within one sample at every moment, after Bresenham, and
each pool is passed through in a new order before any of its samples comes again.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

Origin = Literal["synthetic", "real"]
_ROUNDS = 8  # of the Feistel network; with 4, orders of six samples fail a chi-squared test sevenfold


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The share of synthetic samples: from `start`, falling evenly to `end` over the first `ramp` samples."""

    start: float = 1.0
    end: float = 1.0
    ramp: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError for a share that is none."""
        if not (0 <= self.start <= 1 and 0 <= self.end <= 1 and self.ramp >= 0):
            raise ValueError(f"shares must be within 0 and 1 and ramp not negative, got {self}")

    def sum(self, samples: int) -> float:
        """Return how many of the first `samples` samples are synthetic, as a fraction."""
        within = min(samples, self.ramp)
        extra = (self.start - self.end) * (within - within**2 / (2 * self.ramp)) if within else 0.0
        return self.end * samples + extra


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """What stands at one position: the `index`-th sample of the pool (task, origin)."""

    task: str
    origin: Origin
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The order of one stage. pools: how many samples there are of each (task, origin); every task has some."""

    seed: int
    stage: str
    pools: Mapping[tuple[str, Origin], int]
    share: Share

    def __post_init__(self) -> None:
        """Raise ValueError when nothing can be drawn."""
        if not any(self.pools.values()):
            raise ValueError("a plan needs at least one sample")

    @property
    def tasks(self) -> list[str]:
        """Return the tasks of which there are samples, by name."""
        return sorted({task for (task, _), size in self.pools.items() if size})

    def pick(self, position: int) -> Pick:
        """Return what is trained on at `position`."""
        tasks = self.tasks
        turn, seat = divmod(position, len(tasks))
        number = permuted(seat, len(tasks), f"{self.seed}/{self.stage}/turn/{turn}")
        task = tasks[number]
        origin, count = self._origin(task, turn, number / len(tasks))
        size = self.pools[task, origin]
        epoch, place = divmod(count, size)
        key = f"{self.seed}/{self.stage}/{task}/{origin}/{epoch}"
        return Pick(task=task, origin=origin, index=permuted(place, size, key))

    def _origin(self, task: str, turn: int, phase: float) -> tuple[Origin, int]:
        """Return the origin of a task's sample number `turn`, and how many of that origin came before it.

        phase: lets the tasks change their origin at different turns, so that no batch is all of one.
        """
        if not self.pools.get((task, "real")):
            return "synthetic", turn
        if not self.pools.get((task, "synthetic")):
            return "real", turn
        before, after = (int(self._synthetic(turns) + phase) for turns in (turn, turn + 1))
        return ("synthetic", before) if after > before else ("real", turn - before)

    def _synthetic(self, turns: int) -> float:
        return self.share.sum(turns * len(self.tasks)) / len(self.tasks)


def generator(seed: int, stage: str, position: int, purpose: str) -> torch.Generator:
    """Return the generator, on the CPU, of one position's noise, level, crop or dropout."""
    return torch.Generator().manual_seed(_hash(f"{seed}/{stage}/{position}/{purpose}") >> 1)


def permuted(place: int, size: int, key: str) -> int:
    """Return where a random permutation of range(size), chosen by `key`, puts `place`; nothing is stored.

    A Feistel network over the next power of four, walked until it lands within range (Black and Rogaway, 2002).
    """
    if not 0 <= place < size:
        raise ValueError(f"place must be within 0 and {size}, got {place}")
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = place >> half, place & mask
        for number in range(_ROUNDS):
            left, right = right, left ^ (_hash(f"{key}/{number}/{right}") & mask)
        place = left << half | right
        if place < size:
            return place


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
