"""Does the degraded image still show what the clean one shows: the cosine of their CLIP embeddings."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from filters._clip import Clip, Model, open_clip_model
from filters._contract import Filter, Measure, Sample, Scores, verdict
from storage.records import Recipe, Verdict


class PairSimilarity(Filter, Model, frozen=True):
    """min_similarity: least cosine; none is published, so it keeps all until it is set. Model: see `filters._clip`."""

    subject: ClassVar[Literal["image", "pair"]] = "pair"
    cost: ClassVar[int] = 20
    measures_with: ClassVar[frozenset[str]] = frozenset(Model.model_fields)
    needs_weights: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("torch", "torchvision", "open_clip", "safetensors")

    min_similarity: Annotated[float, Field(ge=-1, le=1)] = -1.0

    def open(self, device: str) -> Measure:
        """Load the model and return the measure: `similarity`, 1 for equal images."""
        clip = open_clip_model(self, device)
        return lambda samples: _measure(samples, clip)

    def judge(self, scores: Scores, recipe: Recipe | None = None) -> Verdict:
        """Drop as `other_content` what is less similar."""
        return verdict("pair_similarity", scores, "other_content" if scores["similarity"] < self.min_similarity else "")


def _measure(samples: Sequence[Sample], clip: Clip) -> list[Scores]:
    degraded = [sample.degraded for sample in samples if sample.degraded is not None]
    assert len(degraded) == len(samples)
    found = clip.images([*(sample.clean for sample in samples), *degraded])
    cosines = (found[: len(samples)] * found[len(samples) :]).sum(1)
    return [{"similarity": float(cosine)} for cosine in cosines]


FILTER = PairSimilarity
