"""Do people hold the same pose in both images: the displacement of their joints.

A reading of the "skeleton-shift-based" removal of misaligned pairs of RealRestorer (arXiv 2603.25502, appendix A.2),
which neither defines it nor gives a threshold; ours is unproved. People are looked for in the clean image, and their
joints in the same boxes of both. For what is no person see the skeletons of edges in `filters/alignment.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from filters._contract import Filter, Prepare, Sample, Scores, Split, verdict
from filters._poses import Box, Crop, Crops, Look, Pose, Poses, open_crop, open_look, open_people, open_poses, whole
from storage.records import Image, Recipe, Verdict

_LEAST_JOINTS = 5  # of a person; the median of fewer says little


class Skeleton(Filter, frozen=True):
    """weights: ViTPose. detector: of people, empty takes the whole image as one. people: at most, a picture.

    max_shift: of the most displaced person, the median of the joints, as a share of the height of the box; one cell of
    ViTPose's heat maps is 1/64. min_joint: the least peak of a joint that counts, in both images. min_person: the least
    probability of a person.
    """

    subject: ClassVar[Literal["image", "pair"]] = "pair"
    cost: ClassVar[int] = 30
    measures_with: ClassVar[frozenset[str]] = frozenset(
        {"weights", "detector", "people", "min_joint", "min_person", "dtype"}
    )
    needs_weights: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("torch", "torchvision", "transformers", "safetensors", "scipy")
    checkpoint: ClassVar[tuple[str, tuple[str, ...]]] = ("config.json", ("vitpose",))

    weights: str = ""
    detector: str = ""
    people: Annotated[int, Field(ge=1, le=100)] = 8
    min_joint: Annotated[float, Field(ge=0, le=1)] = 0.3
    min_person: Annotated[float, Field(ge=0, le=1)] = 0.5
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    max_shift: Annotated[float, Field(gt=0)] = 0.03

    def models(self) -> dict[str, str]:
        """Return the references of the two models."""
        named = {"weights": self.weights, "detector": self.detector}
        return {name: reference for name, reference in named.items() if reference}

    def prepare(self) -> Prepare:
        """Return what makes of a pair the detector's input or, without a detector, at once that of ViTPose."""
        if not self.detector:
            crop = open_crop(self.weights)
            return lambda sample: _cropped(*_sides(sample), whole(sample.clean), crop)
        look = open_look(self.detector)
        return lambda sample: Unseen(sample=sample, look=look(sample.clean))

    def open(self, device: str) -> Split:
        """Load the models and return the measure: `people` and, of the most displaced, `shift` and `shift_px`.

        What is cut out depends on the boxes, so with a detector it is cut out beside the models.
        """
        poses = open_poses(self.weights, device=device, dtype=self.dtype)
        if not self.detector:
            return Split(self.prepare(), lambda ready: [_scores(one, poses, self.min_joint) for one in ready])
        people = open_people(
            self.detector, threshold=self.min_person, most=self.people, device=device, dtype=self.dtype
        )
        crop = open_crop(self.weights)

        def score(ready: Sequence[Unseen]) -> list[Scores]:
            seen = (_cropped(*_sides(one.sample), people(one.look), crop) for one in ready)
            return [_scores(one, poses, self.min_joint) for one in seen]

        return Split(self.prepare(), score)

    def judge(self, scores: Scores, recipe: Recipe | None = None) -> Verdict:
        """Drop as `skeleton_shifted`; a picture without people, or whose joints are not seen, is kept."""
        return verdict("skeleton", scores, "skeleton_shifted" if scores["shift"] > self.max_shift else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """A pair in which people are still to be looked for. look: its clean image, made ready for the detector."""

    sample: Sample
    look: Look


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A pair as ViTPose sees it: the boxes of people, and what is in them on both sides."""

    boxes: Sequence[Box]
    clean: Crops
    degraded: Crops


def displacement(clean: Pose, degraded: Pose, *, least: float) -> float:
    """Return the median displacement, in pixels, of the joints that peak above `least` in both; 0 if these are few."""
    seen = np.minimum(clean.scores, degraded.scores) > least
    if np.count_nonzero(seen) < _LEAST_JOINTS:
        return 0.0
    return float(np.median(np.linalg.norm(degraded.points[seen] - clean.points[seen], axis=1)))


def _sides(sample: Sample) -> tuple[Image, Image]:
    assert sample.degraded is not None
    return sample.clean, sample.degraded


def _cropped(clean: Image, degraded: Image, boxes: Sequence[Box], crop: Crop) -> Seen | None:
    return Seen(boxes=boxes, clean=crop(clean, boxes), degraded=crop(degraded, boxes)) if boxes else None


def _scores(seen: Seen | None, poses: Poses, least: float) -> Scores:
    if seen is None:
        return {"people": 0.0, "shift": 0.0, "shift_px": 0.0}
    boxes = seen.boxes
    both = zip(poses(seen.clean, boxes), poses(seen.degraded, boxes), boxes, strict=True)
    shifts = [(displacement(clean, degraded, least=least), box[3]) for clean, degraded, box in both]
    pixels, height = max(shifts, key=lambda shift: shift[0] / shift[1])
    return {"people": float(len(boxes)), "shift": pixels / height, "shift_px": pixels}


FILTER = Skeleton
