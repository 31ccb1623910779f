"""Does the degraded image still show what the clean one shows: the cosine of their CLIP embeddings."""

from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from filters._clip import Clip, Model, Pixels, open_clip_model, open_pixels
from filters._contract import Filter, Prepare, Sample, Scores, Split, verdict
from storage.records import Image, Recipe, Verdict


class PairSimilarity(Filter, Model, frozen=True):
    """min_similarity: least cosine; none is published, so it keeps all until it is set. Model: see `filters._clip`."""

    subject: ClassVar[Literal["image", "pair"]] = "pair"
    cost: ClassVar[int] = 20
    measures_with: ClassVar[frozenset[str]] = frozenset(Model.model_fields)
    needs_weights: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("torch", "torchvision", "open_clip", "safetensors")
    checkpoint: ClassVar[tuple[str, tuple[str, ...]]] = ("open_clip_config.json", ())

    min_similarity: Annotated[float, Field(ge=-1, le=1)] = -1.0

    def prepare(self) -> Prepare:
        """Return what makes of both images of a pair the network's input."""
        pixels = open_pixels(self)
        return lambda sample: _both(sample, pixels)

    def open(self, device: str) -> Split:
        """Load the model and return the measure: `similarity`, 1 for equal images."""
        clip = open_clip_model(self, device)
        return Split(self.prepare(), lambda pairs: _score(pairs, clip))

    def judge(self, scores: Scores, recipe: Recipe | None = None) -> Verdict:
        """Drop as `other_content` what is less similar."""
        return verdict("pair_similarity", scores, "other_content" if scores["similarity"] < self.min_similarity else "")


def _both(sample: Sample, pixels: Callable[[Image], Pixels]) -> tuple[Pixels, Pixels]:
    assert sample.degraded is not None
    return pixels(sample.clean), pixels(sample.degraded)


def _score(pairs: Sequence[tuple[Pixels, Pixels]], clip: Clip) -> list[Scores]:
    found = clip.images([*(clean for clean, _ in pairs), *(degraded for _, degraded in pairs)])
    cosines = (found[: len(pairs)] * found[len(pairs) :]).sum(1)
    return [{"similarity": float(cosine)} for cosine in cosines]


FILTER = PairSimilarity
