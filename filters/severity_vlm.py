"""Does a vision-language model see the named degradation, as strong as it was asked for, and not in the clean image.

Both images of a pair are graded by RealIR-Bench's rubric for every degradation of the recipe: `degraded_<name>` and
`clean_<name>`, 1 (more than 80 % of the area) to 5 (none), 0 where the answer was not a grade. Local degradations are
rendered to the area of their level, so that a level has its grade: 1 and 2 (to 20 %) 4, 3 3, 4 2, 5 1. RealRestorer
drops real images that are not severe enough and pairs whose grades are inconsistent or too close (arXiv 2603.25502
section 3.1 and appendix A.2); its thresholds are not published, these are ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from filters import _rubric
from filters._contract import Filter, Prepare, Sample, Scores, Split, verdict
from filters._vlm import Vlm, open_vlm, shown
from filters._vlm_patches import Cut, Patches, open_patches
from filters._vlm_questions import Ask, Question
from storage.records import Image, Recipe, Verdict, level

LOCAL = frozenset({"flare", "moire", "rain", "reflection"})
GRADE_OF_LEVEL = {1: 4, 2: 4, 3: 3, 4: 2, 5: 1}

Grade = Annotated[int, Field(ge=1, le=5)]


class SeverityVlm(Filter, Vlm, frozen=True):
    """Bounds on grades; the model and how it is reached stand beside them, see `filters._vlm.Vlm`.

    asked: the degradation that photographs really show, which are then looked at instead of pairs; a build takes it
    from `source.shows`. visible: best grade at which a synthetic degradation counts as seen. tolerance: how far the
    grade of a local degradation may lie from its level's; the model agrees with people only weakly (arXiv 2603.25502
    section 4). severe: best grade of a real image that is degraded enough. clean: least grade of the clean side.
    difference: least number of grades between the sides.
    """

    subject: ClassVar[Literal["image", "pair"]] = "pair"
    cost: ClassVar[int] = 1000  # seconds where others take milliseconds
    needs_weights: ClassVar[bool] = True
    on_survivors: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("httpx", "torch", "transformers")
    checkpoint: ClassVar[tuple[str, tuple[str, ...]]] = ("config.json", ("qwen3_vl",))
    measures_with: ClassVar[frozenset[str]] = frozenset({*Vlm.model_fields, "asked"})

    asked: str = ""
    visible: Grade = 4
    tolerance: Annotated[int, Field(ge=0, le=4)] = 1
    severe: Grade = 3
    clean: Grade = 4
    difference: Annotated[int, Field(ge=0, le=4)] = 1

    @property
    def looks_at(self) -> Literal["image", "pair"]:
        """Photographs where it is asked about what they really show, else pairs."""
        return "image" if self.asked else self.subject

    def models(self) -> dict[str, str]:
        """Return the checkpoint, or the name that a server knows the model by."""
        return {"weights": self.weights} if self.weights else {"model": self.model}

    def prepare(self) -> Prepare:
        """Return what makes of a sample the pictures the model is shown and the degradations it is asked about."""
        cut = open_patches(self.weights) if self.weights else None
        return lambda sample: asked_of(sample, self.asked, cut)

    def open(self, device: str) -> Split:
        """Reach or load the model and return the measure: the grades of both sides for each degradation."""
        ask = open_vlm(self, device)
        return Split(self.prepare(), lambda wanted: grades(ask, wanted))

    def judge(self, scores: Scores, recipe: Recipe | None = None) -> Verdict:
        """Drop as unreadable, clean_shows_<type>, invisible_<type>, mild_<type>, close_grades or off_level."""
        for name in _names(recipe, self.asked):
            if reason := self._reason(scores, name, recipe):
                return verdict("severity_vlm", scores, reason)
        return verdict("severity_vlm", scores)

    def _reason(self, scores: Scores, name: str, recipe: Recipe | None) -> str:
        degraded, clean = scores[f"degraded_{name}"], scores.get(f"clean_{name}")
        if _rubric.UNREADABLE in (degraded, clean):
            return "unreadable"
        if clean is not None and clean < self.clean:
            return f"clean_shows_{name}"
        if degraded > (self.visible if recipe else self.severe):
            return f"invisible_{name}" if recipe else f"mild_{name}"
        if clean is not None and clean - degraded < self.difference:
            return "close_grades"
        return "off_level" if recipe and self._is_off_level(degraded, recipe) else ""

    def _is_off_level(self, degraded: float, recipe: Recipe) -> bool:
        """A coupled recipe is not held to its level: several degradations share it."""
        if len(recipe.steps) != 1 or recipe.steps[0].degradation not in LOCAL:
            return False
        return abs(degraded - GRADE_OF_LEVEL[level(recipe.severity)]) > self.tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked about one sample: the grade of each picture, as the model is shown it, for each name.

    patches: of each picture, where the model is a local one.
    """

    names: tuple[str, ...]
    pictures: Mapping[str, Image]
    patches: Mapping[str, Patches]


def asked_of(sample: Sample, asked: str = "", cut: Cut | None = None) -> Asked:
    """Return what is asked about a sample; one without a degraded side is itself the image in question."""
    names = tuple(_names(sample.recipe, asked))
    sides = _sides(sample) if names else {}
    pictures = {side: shown(image) for side, image in sides.items()}
    patches = {side: cut(picture) for side, picture in pictures.items()} if cut else {}
    return Asked(names=names, pictures=pictures, patches=patches)


def grades(ask: Ask, wanted: Sequence[Asked]) -> list[Scores]:
    """Return the grades of each sample, `<side>_<name>`; all questions are asked at once."""
    places = [(number, side, name) for number, one in enumerate(wanted) for name in one.names for side in one.pictures]
    questions = [_question(wanted[number], side, name) for number, side, name in places]
    found: list[dict[str, float]] = [{} for _ in wanted]
    for (number, side, name), answer in zip(places, ask(questions), strict=True):
        found[number][f"{side}_{name}"] = float(_rubric.grade(answer))
    return list(found)


def _question(asked: Asked, side: str, name: str) -> Question:
    patches = (asked.patches[side],) if side in asked.patches else ()
    return Question(images=(asked.pictures[side],), prompt=_rubric.prompt(name), patches=patches)


def _names(recipe: Recipe | None, asked: str) -> list[str]:
    if recipe is None:
        return [asked] if asked else []
    return list(dict.fromkeys(step.degradation for step in recipe.steps))


def _sides(sample: Sample) -> Mapping[str, Image]:
    if sample.degraded is None:
        return {"degraded": sample.clean}
    return {"degraded": sample.degraded, "clean": sample.clean}


FILTER = SeverityVlm
