"""What is trained on when, over a whole stage: one plan, or one after the other.

balanced       all tasks equally often, or as often as `shares` says, from the first step to the last
incremental    isolated degradations first, then those that are coupled too (FoundIR, arXiv:2412.01427)
equilibrium    shares follow progress: tasks that gained less come more often (FoundIR-v2, arXiv:2512.09282)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from numpy.typing import NDArray

from training.data.index import Index
from training.data.plan import Origin, Plan, Share, equilibrium, seated


@dataclass(frozen=True, slots=True, kw_only=True)
class Curriculum:
    """Which tasks come when.

    synthetic: share of synthetic pairs where a task has both kinds, falling evenly to it from `synthetic_start` over
    the first `ramp` of the stage. isolated: part of the stage that `incremental` begins with; FoundIR trains a fifth
    on isolated degradations. shares: how often a task comes, where not once, as often as others; not of `equilibrium`,
    which moves shares of its own. every: steps between two moves of `equilibrium`; limit: how far a share moves at
    most, of itself; seats: of a round, among which shares are rounded.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    kind: Literal["balanced", "incremental", "equilibrium"] = "balanced"
    synthetic: float = 1.0
    synthetic_start: float = 1.0
    ramp: float = 0.0
    isolated: float = 0.2
    shares: Mapping[str, float] = field(default_factory=dict)
    every: int = 250
    alpha: float = 1.0
    limit: float = 0.1
    seats: int = 72

    def __post_init__(self) -> None:
        """Raise ValueError for shares that are none."""
        parts = (self.synthetic, self.synthetic_start, self.ramp, self.isolated, self.limit)
        if not all(0 <= part <= 1 for part in parts):
            raise ValueError("synthetic, synthetic_start, ramp, isolated and limit must be within 0 and 1")
        if not all(0 < part <= 100 for part in self.shares.values()):
            raise ValueError(f"shares must be above 0, 100 at most, got {dict(self.shares)}")
        if self.shares and self.kind == "equilibrium":
            raise ValueError("shares cannot be given to equilibrium, which moves them; choose balanced or incremental")
        if self.every < 1 or self.seats < 1:
            raise ValueError(f"every and seats must be at least 1, got {self.every} and {self.seats}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """Steps that share one plan, and the records its pools are made of."""

    steps: range
    plan: Plan
    pools: Mapping[tuple[str, Origin], NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The length of a stage and what it is keyed by."""

    seed: int
    name: str
    steps: int
    batch: int


def leg(curriculum: Curriculum, index: Index, stage: Stage, step: int, shares: Mapping[str, float]) -> Leg:
    """Return the leg that begins at `step` or has begun before it.

    shares: of the tasks, for `equilibrium`. Positions count over the whole stage, so the mixture goes on where the leg
    before left it; only the order of the pools begins anew.
    """
    pools, first, last, name, seats = index.pools(), step, stage.steps, stage.name, dict[str, int]()
    if curriculum.kind == "incremental":
        change = round(curriculum.isolated * stage.steps)
        if step < change:
            isolated = index.isolated()
            pools = {pool: rows for pool, rows in pools.items() if pool[0] in isolated} or pools
            last, name = change, f"{stage.name}/isolated"
    if curriculum.kind == "equilibrium":
        number = step // curriculum.every
        last, name = min(stage.steps, (number + 1) * curriculum.every), f"{stage.name}/{number}"
        seats = seated(shares, max(curriculum.seats, len(shares)))
    elif curriculum.shares:
        wanted = {task: curriculum.shares.get(task, 1.0) for task, _ in pools}
        seats = seated(wanted, max(curriculum.seats, len(wanted)))
    share = Share(
        start=curriculum.synthetic_start if curriculum.ramp else curriculum.synthetic,
        end=curriculum.synthetic,
        ramp=round(curriculum.ramp * stage.steps * stage.batch),
    )
    sizes = {pool: len(rows) for pool, rows in pools.items()}
    return Leg(
        steps=range(first, last),
        plan=Plan(seed=stage.seed, stage=name, pools=sizes, share=share, seats=seats),
        pools=pools,
    )


def equal_shares(index: Index) -> dict[str, float]:
    """Return the shares that a stage begins with."""
    return dict.fromkeys(index.tasks, 1 / len(index.tasks))


def moved_shares(
    curriculum: Curriculum, shares: Mapping[str, float], before: Mapping[str, float], now: Mapping[str, float]
) -> dict[str, float]:
    """Return the shares after scores, in which more is better, went from `before` to `now`."""
    gains = {task: now[task] - before[task] if task in before and task in now else 0.0 for task in shares}
    return equilibrium(shares, gains, alpha=curriculum.alpha, limit=curriculum.limit)
