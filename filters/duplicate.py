"""Is the photograph a near copy of one already kept: resized, recompressed, slightly recoloured.

The measure hashes; the deduplicate exchange groups the hashes of the whole dataset (`groups`) and adds each image's
`rank` in its group; the judgement drops all but rank 0. With the `clip` filter, embeddings that nearly agree join a
group as well: they find crops, mirrored copies and other versions that no such hash shows.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from filters._contract import Filter, Measure, Sample, Scores, verdict
from filters._phash import groups, phash
from storage.records import Recipe, Verdict

__all__ = ["FILTER", "Duplicate", "groups"]


class Duplicate(Filter, frozen=True):
    """distance: bits of 64 in which near copies may differ. min_contrast: below it, a flat image is never compared.

    similarity: least cosine of the embeddings of near copies; unset, only hashes count. None is published for copies.
    """

    subject: ClassVar[Literal["image", "pair"]] = "image"
    cost: ClassVar[int] = 1

    distance: int = Field(default=6, ge=0, le=16)
    min_contrast: float = Field(default=3.0, ge=0)
    similarity: Annotated[float, Field(gt=0, le=1)] | None = None

    def open(self, device: str) -> Measure:
        """Return the measure: the hash as two 32-bit halves, exact in a float, and the `contrast` in levels."""
        return _measure

    def hash_of(self, scores: Scores) -> int | None:
        """Return the 64-bit hash, or None where the image is so flat that its hash is noise."""
        if scores["contrast"] < self.min_contrast:
            return None
        return int(scores["phash_high"]) << 32 | int(scores["phash_low"])

    def judge(self, scores: Scores, recipe: Recipe | None = None) -> Verdict:
        """Drop as `near_duplicate` what is not first in its group; without a rank, keep."""
        return verdict("duplicate", scores, "near_duplicate" if scores.get("rank", 0) > 0 else "")


def _measure(samples: Sequence[Sample]) -> list[Scores]:
    return [_scores(sample) for sample in samples]


def _scores(sample: Sample) -> Scores:
    value, contrast = phash(sample.clean)
    return {"phash_high": float(value >> 32), "phash_low": float(value & 0xFFFFFFFF), "contrast": contrast}


FILTER = Duplicate
