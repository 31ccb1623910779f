"""Pairs of embeddings that nearly agree: exact up to 200,000 of them, by a graph of neighbours (HNSW) among more.

The index of usearch is filled by one thread in the order of the rows, so the same rows give the same pairs whatever the
machine's number of cores; whether a candidate is close enough is decided in double precision.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_EXACT = 200_000  # rows up to which comparing all takes some minutes, less than filling the graph (`EXPERIMENTS.md`)
_BLOCK = 256
_NEIGHBOURS = 16  # of one row; groups are joined over their members, so larger ones are found too
_SLACK = 2e-3  # candidates are found in single precision, of embeddings stored in half

Vectors = NDArray[np.float32]
Indices = NDArray[np.intp]


def close_pairs(embeddings: Sequence[bytes | None], similarity: float, *, exact: int = _EXACT) -> list[tuple[int, int]]:
    """Return the pairs of rows (smaller index first, sorted) whose cosine is at least `similarity`.

    embeddings: unit vectors of half precision, all of one length; None is close to nothing. exact: number of rows up to
    which all are compared; beyond it one pair in ten may be missed.
    """
    usable = np.array([index for index, one in enumerate(embeddings) if one is not None], dtype=np.intp)
    if len(usable) < 2:
        return []
    content = b"".join(one for one in embeddings if one is not None)
    stored = np.frombuffer(content, dtype="<f2").reshape(len(usable), -1)
    vectors = stored.astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    find = _compared if len(usable) <= exact else _searched
    rows, columns = find(vectors, similarity - _SLACK)
    found = _confirmed(stored, rows, columns, similarity)
    return sorted((int(usable[row]), int(usable[column])) for row, column in found)


def _compared(vectors: Vectors, least: float) -> tuple[Indices, Indices]:
    rows, columns = [], []
    for start in range(0, len(vectors), _BLOCK):
        cosines = vectors[start : start + _BLOCK] @ vectors[start:].T
        row, column = np.nonzero(cosines >= least)
        later = column > row
        rows.append(row[later] + start)
        columns.append(column[later] + start)
    return np.concatenate(rows), np.concatenate(columns)


def _searched(vectors: Vectors, least: float) -> tuple[Indices, Indices]:
    from usearch.index import Index

    index = Index(
        ndim=vectors.shape[1], metric="cos", dtype="f32", connectivity=16, expansion_add=96, expansion_search=96
    )
    index.add(np.arange(len(vectors), dtype=np.uint64), vectors, threads=1)
    found = index.search(vectors, _NEIGHBOURS, threads=0)
    near = np.asarray(found.distances) <= 1 - least
    rows = np.repeat(np.arange(len(vectors)), near.sum(1))
    columns = np.asarray(found.keys)[near].astype(np.intp)
    return rows[rows != columns], columns[rows != columns]


def _confirmed(stored: NDArray[np.float16], rows: Indices, columns: Indices, similarity: float) -> set[tuple[int, int]]:
    found = set()
    for row, column in zip(np.minimum(rows, columns).tolist(), np.maximum(rows, columns).tolist(), strict=True):
        one, other = stored[row].astype(np.float64), stored[column].astype(np.float64)
        if np.dot(one, other) >= similarity * np.sqrt(np.dot(one, one) * np.dot(other, other)):
            found.add((row, column))
    return found
