"""Which sample is trained on when: a pure function of (seed, stage, position), with exact counts.

Position k is the global number of a sample, counted over all ranks and steps; what is drawn for it depends on nothing
else, so ranks, workers and restarts change nothing. Every round holds each task once, or as often as it has seats;
seats can follow the progress of the tasks (`equilibrium`), and an incremental schedule is two plans, the first with the
pools of isolated degradations only (FoundIR, arXiv:2412.01427). Within a task the share of synthetic samples is kept to
within one sample at the end of every round, after Bresenham, and each pool is passed through in a new order before any
of its samples comes again.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
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

    def sum(self, samples: float) -> float:
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
    """The order of one stage.

    pools: how many samples there are of each (task, origin). seats: how often a task comes in a round, else once.
    """

    seed: int
    stage: str
    pools: Mapping[tuple[str, Origin], int]
    share: Share
    seats: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise ValueError when nothing can be drawn."""
        if not any(self.pools.values()):
            raise ValueError("a plan needs at least one sample")
        if any(number < 1 for number in self.seats.values()):
            raise ValueError(f"a task has at least one seat, got {dict(self.seats)}")

    @property
    def round(self) -> list[tuple[str, int]]:
        """Return the seats of a round: each task of which there are samples, with the number of its seat."""
        tasks = sorted({task for (task, _), size in self.pools.items() if size})
        return [(task, seat) for task in tasks for seat in range(self.seats.get(task, 1))]

    def pick(self, position: int) -> Pick:
        """Return what is trained on at `position`."""
        seats = self.round
        turn, place = divmod(position, len(seats))
        task, seat = seats[permuted(place, len(seats), f"{self.seed}/{self.stage}/turn/{turn}")]
        own, phase = self.seats.get(task, 1), seats.index((task, 0)) / len(seats)
        origin, count = self._origin(task, turn * own + seat, every=len(seats) / own, phase=phase)
        size = self.pools[task, origin]
        epoch, place = divmod(count, size)
        key = f"{self.seed}/{self.stage}/{task}/{origin}/{epoch}"
        return Pick(task=task, origin=origin, index=permuted(place, size, key))

    def _origin(self, task: str, number: int, *, every: float, phase: float) -> tuple[Origin, int]:
        """Return the origin of a task's sample `number`, and how many of that origin come before it.

        every: positions between two samples of the task. phase: lets the tasks change their origin at different turns,
        so that no batch is all of one.
        """
        if not self.pools.get((task, "real")):
            return "synthetic", number
        if not self.pools.get((task, "synthetic")):
            return "real", number
        before, after = (int(self.share.sum(count * every) / every + phase) for count in (number, number + 1))
        return ("synthetic", before) if after > before else ("real", number - before)


def equilibrium(
    shares: Mapping[str, float], gains: Mapping[str, float], *, alpha: float = 1.0, limit: float = 0.1
) -> dict[str, float]:
    """Return task shares moved towards tasks that gained less since the last time (FoundIR-v2, arXiv:2512.09282).

    share <- share exp(-alpha gain) over the sum, and no share moves by more than `limit` of itself. gains: of a score
    in which more is better, such as PSNR in dB on a few reference pairs. The shares start equal.
    """
    wanted = {task: share * math.exp(-alpha * gains[task]) for task, share in shares.items()}
    total = sum(wanted.values())
    moves = {task: wanted[task] / total - share for task, share in shares.items()}
    # One factor for all moves keeps both the sum and the direction.
    largest = max(abs(move) / shares[task] for task, move in moves.items())
    factor = min(1.0, limit / largest) if largest else 0.0
    return {task: share + factor * moves[task] for task, share in shares.items()}


def seated(shares: Mapping[str, float], seats: int) -> dict[str, int]:
    """Return whole seats in proportion to `shares`, one at least for each task, by largest remainders."""
    if seats < len(shares):
        raise ValueError(f"{len(shares)} tasks need as many seats, got {seats}")
    total = sum(shares.values())
    free = seats - len(shares)
    exact = {task: share / total * free for task, share in shares.items()}
    given = {task: 1 + int(part) for task, part in exact.items()}
    by_remainder = sorted(shares, key=lambda task: (int(exact[task]) - exact[task], task))
    for task in by_remainder[: seats - sum(given.values())]:
        given[task] += 1
    return given


def generator(seed: int, stage: str, position: int, purpose: str) -> torch.Generator:
    """Return the generator, on the CPU, of one position's noise, level, crop or dropout."""
    return torch.Generator().manual_seed(_hash(f"{seed}/{stage}/{position}/{purpose}") >> 1)


def uniform(key: str) -> float:
    """Return a number within [0, 1) that is a function of `key` alone: for one draw, where a generator costs more."""
    return (_hash(key) >> 11) / 2**53


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
