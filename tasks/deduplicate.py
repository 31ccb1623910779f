"""Exchange: who shows the same photograph as whom. Reads hashes and embeddings, writes one group per image."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from filters._nearest import close_pairs
from filters.duplicate import Duplicate, groups

Row = Mapping[str, Any]


def group_alike(rows: Sequence[Row], duplicate: Duplicate) -> dict[str, tuple[str, int]]:
    """Return key -> (key of the group's first member, rank in the group) for images that are near copies.

    rows: `key`, `width`, `height`, `scores` with what `duplicate` measured, and where it has a similarity the
    `embedding` of the `clip` filter or None. Two images are near copies when their hashes differ in at most its
    `distance` bits, or when their embeddings have a cosine of at least its `similarity`; images flatter than its
    `min_contrast` have no hash. The first member is the largest image, then the smallest key, so it does not depend on
    the order of the rows. Rank 0 is kept.
    """
    ordered = sorted(rows, key=lambda row: (-row["width"] * row["height"], row["key"]))
    labels = groups([_hash_of(row["scores"], duplicate) for row in ordered], duplicate.distance)
    if duplicate.similarity is not None:
        labels = _joined(labels, close_pairs([row["embedding"] for row in ordered], duplicate.similarity))
    first: dict[int, str] = {}
    ranks: dict[int, int] = {}
    found = {}
    for row, label in zip(ordered, labels, strict=True):
        first.setdefault(label, row["key"])
        found[row["key"]] = (first[label], ranks.get(label, 0))
        ranks[label] = ranks.get(label, 0) + 1
    return found


def identity_of(row: Row, *, embedded: bool) -> dict[str, Any]:
    """Return what the exchanges between images need of a row: a tenth of it, because they hold those of all images.

    embedded: with its embedding, a kilobyte or two, None where there is none.
    """
    hashes = {name: value for name, value in row["scores"].items() if name.startswith("duplicate.")}
    known = {name: row[name] for name in ("key", "sha256", "reason", "width", "height")}
    return {**known, "scores": hashes, **({"embedding": row.get("embedding")} if embedded else {})}


def _joined(labels: Sequence[int], pairs: Sequence[tuple[int, int]]) -> list[int]:
    """Return the labels of the groups that come of joining rows of one label and rows of a pair."""
    edges = np.array([*enumerate(labels), *pairs], dtype=np.intp).reshape(-1, 2)
    size = (len(labels), len(labels))
    graph = coo_array((np.ones(len(edges), dtype=np.int8), (edges[:, 0], edges[:, 1])), shape=size)
    return [int(label) for label in connected_components(graph, directed=False)[1]]


def _hash_of(scores: Mapping[str, float], duplicate: Duplicate) -> int | None:
    return duplicate.hash_of({name.removeprefix("duplicate."): value for name, value in scores.items()})
