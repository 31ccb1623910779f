"""What a filter is: options, a measure that looks at pixels once, and a judgement that can be repeated for ever."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel

from storage.records import Image, Recipe, Verdict

Scores = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What a measure looks at: a clean image, and for pairs the degraded one and its recipe. Images uint8 (H, W, 3)."""

    key: str
    clean: Image
    degraded: Image | None = None
    recipe: Recipe | None = None
    annotations: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """Scores and the embedding they were read from: the bytes of float16 (D,), little endian, of unit length."""

    scores: Scores
    embedding: bytes


Measure = Callable[[Sequence[Sample]], Sequence[Scores | Embedded]]
Prepare = Callable[[Sample], Any]  # Any: arrays or pictures, whatever the filter's own `score` takes


@dataclass(frozen=True, slots=True)
class Split:
    """A measure in two steps: `prepare` runs on any CPU, `score` where the weights are."""

    prepare: Prepare
    score: Callable[[Sequence[Any]], Sequence[Scores | Embedded]]

    def __call__(self, samples: Sequence[Sample]) -> Sequence[Scores | Embedded]:
        """Measure `samples` in this process."""
        return self.score([self.prepare(sample) for sample in samples])


def scores_in(found: Scores | Embedded) -> Scores:
    """Return the scores of what a measure found."""
    return found.scores if isinstance(found, Embedded) else found


class Filter(BaseModel, frozen=True, extra="forbid"):
    """Base of the options of a filter; a file of `filters/` exports its class as FILTER.

    subject: whether it looks at clean images or at pairs. cost: order of evaluation, cheapest first. measures_with: the
    options that change what is measured, such as a model; all others are thresholds and cost nothing to change.
    needs_weights: it loads a model, runs on long-lived workers and is off unless the settings have its table.
    on_survivors: it is so dear that it measures only what all other filters keep; see `is_last`. libraries: what it
    imports when it opens, beyond the core. by_default: whether it is on where the settings do not have its table, and
    needs no weights.
    """

    subject: ClassVar[Literal["image", "pair"]]
    cost: ClassVar[int] = 1
    measures_with: ClassVar[frozenset[str]] = frozenset()
    needs_weights: ClassVar[bool] = False
    on_survivors: ClassVar[bool] = False
    by_default: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ()
    checkpoint: ClassVar[tuple[str, tuple[str, ...]]] = ("", ())

    @property
    def looks_at(self) -> Literal["image", "pair"]:
        """What it looks at with these options."""
        return self.subject

    def measuring(self) -> Self:
        """Return this filter with its thresholds at their defaults: what decides the scores and nothing else."""
        return type(self)(**{name: getattr(self, name) for name in self.measures_with})

    def is_last(self) -> bool:
        """Return whether it measures only what all other filters keep; options may make it so dear."""
        return self.on_survivors

    def models(self) -> dict[str, str]:
        """Return what it loads, by the option that names it: references that `storage.weights` locates, or other names.

        Their identity is part of what a score depends on, and stands in the manifest.
        """
        found = {"weights": getattr(self, "weights", "")}
        return {option: reference for option, reference in found.items() if reference}

    def lacks(self) -> str:
        """Return the option that must name a model before this opens and does not, empty where nothing is missing."""
        own, second = self if self.needs_weights else None, getattr(self, "second", None)
        for place, prefix in ((own, ""), (second, "second.")):
            if place is not None and not (getattr(place, "weights", "") or getattr(place, "url", "")):
                return f"{prefix}url" if hasattr(place, "url") else f"{prefix}weights"
        return ""

    def prepare(self) -> Prepare | None:
        """Return the first step of the measure, loaded without its weights; None where the measure is no `Split`.

        It runs beside the model, in another process: decoded pictures in, what goes through the network out.
        """
        return None

    def open(self, device: str) -> Measure:
        """Load what is needed on the worker and return the measure: samples to scores, in order.

        Where `prepare` returns one, a `Split` with the same first step.
        """
        raise TypeError(f"{type(self).__name__} does not measure")

    def judge(self, scores: Scores, recipe: Recipe | None = None) -> Verdict:
        """Return the verdict on stored scores; pure, so a dataset can be judged again without its pixels."""
        raise TypeError(f"{type(self).__name__} does not judge")


def verdict(name: str, scores: Scores, reason: str = "") -> Verdict:
    """Return the verdict of filter `name`: kept when `reason` is empty, else dropped for it."""
    return Verdict(filter=name, keep=not reason, reason=reason, scores=dict(scores))
