"""Near copies by embedding: the pairs of a comparison of all, and groups that no order changes."""

import numpy as np
import pytest

pytest.importorskip("usearch")

from filters._nearest import close_pairs
from filters.duplicate import Duplicate
from tasks.deduplicate import group_alike

SIMILARITY = 0.95


def embeddings(families, members, *, dimensions=64, seed=0):
    """Unit vectors in families: members of one are close, others are not."""
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(families, 1, dimensions))
    near = (middles + 0.1 * rng.normal(size=(families, members, dimensions))).reshape(-1, dimensions)
    return [(one / np.linalg.norm(one)).astype("<f2").tobytes() for one in near]


def by_comparing_all(rows, similarity):
    found = []
    for index, one in enumerate(rows):
        for other in range(index):
            a, b = (np.frombuffer(rows[k], "<f2").astype(np.float64) for k in (other, index))
            if one and a @ b / np.sqrt((a @ a) * (b @ b)) >= similarity:
                found.append((other, index))
    return sorted(found)


@pytest.mark.parametrize("similarity", [0.5, 0.95, 0.99, 0.9999])
def test_pairs_are_those_of_comparing_all(similarity):
    rows = embeddings(40, 3)
    assert close_pairs(rows, similarity) == by_comparing_all(rows, similarity)


def test_the_graph_of_neighbours_finds_nearly_all_and_always_the_same():
    rows = embeddings(500, 4, dimensions=32)
    exact, found = set(close_pairs(rows, SIMILARITY)), close_pairs(rows, SIMILARITY, exact=0)
    assert len(exact) > 2000
    assert set(found) <= exact
    assert len(found) >= 0.98 * len(exact)
    assert found == close_pairs(rows, SIMILARITY, exact=0)


def test_images_without_an_embedding_stay_alone():
    one, other = embeddings(2, 1)
    assert close_pairs([None, one, None, one, other], SIMILARITY) == [(1, 3)]
    assert close_pairs([None, one], SIMILARITY) == []


def row(key, *, width=100, bits=0, contrast=40.0, embedding=None):
    scores = {"duplicate.phash_high": float(bits >> 32), "duplicate.phash_low": float(bits & 0xFFFFFFFF)}
    scores["duplicate.contrast"] = contrast
    return {"key": key, "width": width, "height": 100, "scores": scores, "embedding": embedding}


def test_a_copy_by_hash_and_a_copy_by_embedding_are_one_group():
    one, other = embeddings(2, 1)
    rows = [row("a", bits=1, embedding=one), row("b", bits=2**40 - 1, width=300, embedding=one)]
    rows += [row("c", bits=3, embedding=other), row("d", bits=2**63 - 1)]
    found = group_alike(rows, Duplicate(distance=2, similarity=SIMILARITY))
    assert found == {"b": ("b", 0), "a": ("b", 1), "c": ("b", 2), "d": ("d", 0)}


def test_without_a_similarity_only_hashes_count():
    (one,) = embeddings(1, 1)
    rows = [row("a", bits=7, embedding=one), row("b", bits=7), row("c", bits=2**60 - 1, embedding=one)]
    assert group_alike(rows, Duplicate(distance=0)) == {"a": ("a", 0), "b": ("a", 1), "c": ("c", 0)}


@pytest.mark.parametrize(("least", "rank"), [(3.0, 0), (1.0, 1)])
def test_images_flatter_than_the_option_have_no_copies_by_hash(least, rank):
    rows = [row("a", bits=7, contrast=2.0), row("b", bits=7, contrast=2.0)]
    assert group_alike(rows, Duplicate(min_contrast=least))["b"][1] == rank


def test_groups_do_not_depend_on_the_order_of_rows():
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 2**62, 120).tolist()
    rows = [row(f"k{i}", bits=b, embedding=e) for i, (b, e) in enumerate(zip(bits, embeddings(40, 3), strict=True))]
    shuffled = [rows[index] for index in rng.permutation(len(rows))]
    first = group_alike(rows, Duplicate(similarity=SIMILARITY))
    assert first == group_alike(shuffled, Duplicate(similarity=SIMILARITY))
    assert len({group for group, _ in first.values()}) == 40
