"""Do people hold the same pose in both images: the displacement of their joints.

A reading of the "skeleton-shift-based" removal of misaligned pairs of RealRestorer (arXiv 2603.25502, appendix A.2),
which neither defines it nor gives a threshold; ours is unproved. People are looked for in the clean image, and their
joints in the same boxes of both. For what is no person see the skeletons of edges in `filters/alignment.py`.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from filters._contract import Filter, Measure, Sample, Scores, verdict
from filters._poses import Box, People, Pose, Poses, open_people, open_poses, whole
from storage.records import Recipe, Verdict

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

    def open(self, device: str) -> Measure:
        """Load the models and return the measure: `people` and, of the most displaced, `shift` and `shift_px`."""
        people: People = whole
        if self.detector:
            people = open_people(
                self.detector, threshold=self.min_person, most=self.people, device=device, dtype=self.dtype
            )
        poses = open_poses(self.weights, device=device, dtype=self.dtype)
        return lambda samples: _measure(samples, people, poses, self.min_joint)

    def judge(self, scores: Scores, recipe: Recipe | None = None) -> Verdict:
        """Drop as `skeleton_shifted`; a picture without people, or whose joints are not seen, is kept."""
        return verdict("skeleton", scores, "skeleton_shifted" if scores["shift"] > self.max_shift else "")


def displacement(clean: Pose, degraded: Pose, *, least: float) -> float:
    """Return the median displacement, in pixels, of the joints that peak above `least` in both; 0 if these are few."""
    seen = np.minimum(clean.scores, degraded.scores) > least
    if np.count_nonzero(seen) < _LEAST_JOINTS:
        return 0.0
    return float(np.median(np.linalg.norm(degraded.points[seen] - clean.points[seen], axis=1)))


def _measure(samples: Sequence[Sample], people: People, poses: Poses, least: float) -> list[Scores]:
    found = people([sample.clean for sample in samples])
    return [_scores(sample, boxes, poses, least) for sample, boxes in zip(samples, found, strict=True)]


def _scores(sample: Sample, boxes: Sequence[Box], poses: Poses, least: float) -> Scores:
    assert sample.degraded is not None
    both = zip(poses(sample.clean, boxes), poses(sample.degraded, boxes), boxes, strict=True)
    shifts = [(displacement(clean, degraded, least=least), box[3]) for clean, degraded, box in both]
    pixels, height = max(shifts, key=lambda shift: shift[0] / shift[1], default=(0.0, 1.0))
    return {"people": float(len(boxes)), "shift": pixels / height, "shift_px": pixels}


FILTER = Skeleton
