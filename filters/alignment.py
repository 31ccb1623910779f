"""Does the degraded image lie on the clean one: no shift, no warp, no other view of the scene.

Four measurements, because no one of them withstands all nine degradations: the phase of blocks (`_registration.py`),
sharpest wherever the image is; local least squares with a blur term (`_flow.py`), which a blur of any length hardly
fools; a homography of matched corners (`_features.py`), for what is turned, scaled or far away; and the skeletons of
edges (`_edges.py`). What each of them reads of pairs that do lie on each other differs by type, so `_shifts.json` holds
limits at which less than 1 % of rendered pairs of a name, of photographs left out, raise an alarm
(`tests/benchmarks/fit_alignment.py`); the limit is that or, if it is larger, the option. A long kernel splits the peak
of a correlation and widens edges: limits widen by a share of its length, which the recipe states. Doubt is no evidence
of a shift.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from filters._contract import Filter, Measure, Sample, Scores, verdict
from filters._edges import skeleton_shift
from filters._features import frame_shift
from filters._flow import flow
from filters._registration import register
from storage.records import Recipe, Verdict

REASONS = {  # what a score above its limit says
    "shift_px": "shifted",
    "flow_px": "shifted",
    "skeleton_px": "shifted",
    "local_px": "warped",
    "warp_px": "warped",
    "bend_px": "warped",
    "frame_px": "distorted",
}
_WIDENS = {  # by this share of a kernel; of flow the little that its ends, and what they cover, still do
    "shift_px": 0.5,
    "local_px": 1.0,
    "skeleton_px": 0.5,
    "bend_px": 1.0,
    "flow_px": 0.02,
    "warp_px": 0.04,
    "frame_px": 0.2,
}
_OF_PHASE = frozenset({"shift_px", "local_px"})
_REDUCED = frozenset({"flow_px", "warp_px"})  # measured on a copy, so that a limit grows with its pixels
_LENGTHS = {"length": 1.0, "radius": 2.0, "sigma": 4.0}  # of the kernel that a param of this name spreads light over
_LONGEST = 60.0  # px at 1024, of a blur of severity 1 that states no length (a turned camera, a clip)
_COUPLED, _OTHER = "coupled", "other"  # several steps; names that were not measured


class Alignment(Filter, frozen=True):
    """Limits in pixels. min_confidence: standard deviations by which the correlation peak must stand out.

    calibrated: whether the limits measured for the type are heeded; without them the options alone decide.
    """

    subject: ClassVar[Literal["image", "pair"]] = "pair"
    cost: ClassVar[int] = 3

    max_shift: float = Field(default=0.5, gt=0)
    max_warp: float = Field(default=0.1, gt=0)
    max_distortion: float = Field(default=2.0, gt=0)
    min_confidence: float = Field(default=6.0, ge=0)
    calibrated: bool = True

    def open(self, device: str) -> Measure:
        """Return the measure: the seven of REASONS in pixels, `confidence`, `scale` (min(H, W) / 1024) and `pixel`."""
        return _measure

    def judge(self, scores: Scores, recipe: Recipe | None = None) -> Verdict:
        """Drop what is `shifted`, `warped` or `distorted`."""
        limits = self._limits(recipe)
        for name, reason in REASONS.items():
            limit = limits[name] * (scores.get("pixel", 1.0) if name in _REDUCED else 1.0)
            if self.excess(name, scores, recipe) > limit:
                return verdict("alignment", scores, reason)
        return verdict("alignment", scores)

    def excess(self, name: str, scores: Scores, recipe: Recipe | None) -> float:
        """Return what score `name` reads beyond what the recipe's kernel explains; 0 where it says nothing.

        A phase without confidence says nothing. The flow of the whole image is heard only where phase is not to be
        relied on, of blurred and of doubtful pairs: dense streaks lead it astray, not the phase. Scores that older
        ledgers lack say nothing.
        """
        is_certain = scores["confidence"] >= self.min_confidence
        if name in _OF_PHASE and not is_certain:
            return 0.0
        if name == "flow_px" and is_certain and recipe is not None and kernel(recipe) == 0:
            return 0.0
        return scores.get(name, 0.0) - _WIDENS.get(name, 0.0) * kernel(recipe) * scores["scale"]

    def _limits(self, recipe: Recipe | None) -> Mapping[str, float]:
        wanted = {"shifted": self.max_shift, "warped": self.max_warp, "distorted": self.max_distortion}
        measured = _measured(recipe) if self.calibrated else {}
        return {name: max(wanted[reason], measured.get(name, 0.0)) for name, reason in REASONS.items()}


def kernel(recipe: Recipe | None) -> float:
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


def _measured(recipe: Recipe | None) -> Mapping[str, float]:
    """Return the largest limits of the recipe's steps and, of several, of combinations; without a recipe of any."""
    table = _table()
    names = [step.degradation for step in recipe.steps] if recipe else [_OTHER]
    names += [_COUPLED] * (len(names) > 1)
    rows = [table.get(name, table.get(_OTHER, {})) for name in names]
    return {score: max(row.get(score, 0.0) for row in rows) for score in REASONS}


@cache
def _table() -> Mapping[str, Mapping[str, float]]:
    file = Path(__file__).with_name("_shifts.json")
    table: Mapping[str, Mapping[str, float]] = json.loads(file.read_text()) if file.exists() else {}
    return table


def _measure(samples: Sequence[Sample]) -> list[Scores]:
    return [_scores(sample) for sample in samples]


def _scores(sample: Sample) -> Scores:
    clean, degraded = sample.clean, sample.degraded
    assert degraded is not None
    blocks, windows, edges = register(clean, degraded), flow(clean, degraded), skeleton_shift(clean, degraded)
    return {
        "shift_px": blocks.shift_px,
        "local_px": blocks.local_px,
        "confidence": blocks.confidence,
        "flow_px": windows.shift_px,
        "warp_px": windows.warp_px,
        "skeleton_px": edges.shift_px,
        "bend_px": edges.local_px,
        "frame_px": frame_shift(clean, degraded),
        "scale": min(clean.shape[:2]) / 1024,
        "pixel": windows.pixel,
    }


FILTER = Alignment
