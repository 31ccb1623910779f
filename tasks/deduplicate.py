"""Exchange: who shows the same photograph as whom. Reads perceptual hashes, writes one group per image."""

from collections.abc import Mapping, Sequence
from typing import Any

from filters.duplicate import groups

Row = Mapping[str, Any]


def group_by_hash(rows: Sequence[Row], *, distance: int) -> dict[str, tuple[str, int]]:
    """Return key -> (key of the group's first member, rank in the group) for images whose hashes nearly agree.

    rows: `key` and `scores` with the two halves of the 64-bit hash that the `duplicate` filter measured. The first
    member is the largest image, then the smallest key, so it does not depend on the order of the rows. Rank 0 is kept.
    """
    ordered = sorted(rows, key=lambda row: (-row["width"] * row["height"], row["key"]))
    labels = groups([_hash_of(row["scores"]) for row in ordered], distance)
    first: dict[int, str] = {}
    ranks: dict[int, int] = {}
    found = {}
    for row, label in zip(ordered, labels, strict=True):
        first.setdefault(label, row["key"])
        found[row["key"]] = (first[label], ranks.get(label, 0))
        ranks[label] = ranks.get(label, 0) + 1
    return found


def _hash_of(scores: Mapping[str, float]) -> int:
    return int(scores["duplicate.phash_high"]) << 32 | int(scores["duplicate.phash_low"])
