"""Does the degraded image lie on the clean one: no global shift, no local warp, beyond what a blur asked for.

See `filters/_registration.py` for the measurement. Where haze, darkness or noise leave too little signal the
confidence is low and the pair is kept: doubt is no evidence of a shift. A long blur splits the peak of the correlation
towards both ends of its kernel, so the limits widen by the kernel's length, which the recipe states.
"""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from filters._contract import Filter, Measure, Sample, Scores, verdict
from filters._registration import register
from storage.records import Recipe, Verdict

_LENGTHS = {"length": 1.0, "radius": 2.0, "sigma": 4.0}  # of the kernel that a param of this name spreads light over
_LONGEST = 60.0  # px at 1024, of a blur of severity 1 that states no length (a turned camera, a clip)


class Alignment(Filter, frozen=True):
    """Limits in pixels. min_confidence: standard deviations by which the correlation peak must stand out."""

    subject: ClassVar[Literal["image", "pair"]] = "pair"
    cost: ClassVar[int] = 3

    max_shift: float = Field(default=0.5, gt=0)
    max_warp: float = Field(default=1.0, gt=0)
    min_confidence: float = Field(default=6.0, ge=0)

    def open(self, device: str) -> Measure:
        """Return the measure: `shift_px`, `local_px`, `confidence`, and `scale`, min(H, W) / 1024."""
        return _measure

    def judge(self, scores: Scores, recipe: Recipe | None = None) -> Verdict:
        """Drop what is `shifted` or `warped`."""
        if scores["confidence"] < self.min_confidence:
            return verdict("alignment", scores)
        kernel = _kernel(recipe) * scores["scale"]
        if scores["shift_px"] > self.max_shift + kernel / 2:
            return verdict("alignment", scores, "shifted")
        return verdict("alignment", scores, "warped" if scores["local_px"] > self.max_warp + kernel else "")


def _kernel(recipe: Recipe | None) -> float:
    """Return the length, in pixels at 1024, of the longest kernel that the recipe asked for; 0 without a blur."""
    if recipe is None:
        return 0.0
    stated = [max(_lengths(step.params), default=0.0) for step in recipe.steps]
    silent = any(step.degradation == "blur" and not length for step, length in zip(recipe.steps, stated, strict=True))
    return max([*stated, _LONGEST * recipe.severity if silent else 0.0])


def _lengths(params: Any) -> Iterator[float]:  # Any: the JSON of a recipe, nested
    for name, value in params.items():
        if hasattr(value, "items"):
            yield from _lengths(value)
        elif name in _LENGTHS and isinstance(value, int | float):
            yield _LENGTHS[name] * value


def _measure(samples: Sequence[Sample]) -> list[Scores]:
    return [_scores(sample) for sample in samples]


def _scores(sample: Sample) -> Scores:
    assert sample.degraded is not None
    found = register(sample.clean, sample.degraded)
    return {
        "shift_px": found.shift_px,
        "local_px": found.local_px,
        "confidence": found.confidence,
        "scale": min(sample.clean.shape[:2]) / 1024,
    }


FILTER = Alignment
