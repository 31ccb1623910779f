"""Random numbers that are the same on every machine and in every NumPy version.

NumPy keeps the streams of its bit generators stable but not its distributions (NEP 19), so only raw bits are drawn
here, and turned into uniforms and Gaussians by our own arithmetic. A recipe stores what was drawn, and an integer seed
for fields of one number per pixel. Fields come from a counter (`counter`), not from
a stream: every number is a function of its place alone, so that `batched.fields` makes the same ones on a GPU.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import TypeVar

import numpy as np
from scipy.special import ndtri

from degradations.numerics.counter import GOLDEN, MULTIPLIERS, WORD, key
from degradations.pairs.contract import Light

T = TypeVar("T")


def generator(seed: int, *path: int) -> np.random.Generator:
    """Return the generator of the substream `path` of `seed`."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=path)))


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw from [low, high)."""
    bits = int(rng.bit_generator.random_raw()) >> 11
    return low + (high - low) * (bits * 2.0**-53)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw from [low, high), evenly in the logarithm; both positive."""
    return math.exp(uniform(rng, math.log(low), math.log(high)))


def integer(rng: np.random.Generator, low: int, high: int) -> int:
    """Draw an integer from low to high, both included."""
    return min(high, low + int(uniform(rng, 0, high - low + 1)))


def normal(rng: np.random.Generator, mean: float = 0.0, sigma: float = 1.0) -> float:
    """Draw from a Gaussian, by the inverse of its distribution function."""
    return mean + sigma * float(ndtri(uniform(rng, 2.0**-53, 1.0)))


def chance(rng: np.random.Generator, probability: float) -> bool:
    """Draw True with `probability`."""
    return uniform(rng, 0, 1) < probability


def choice(rng: np.random.Generator, items: Sequence[T], weights: Sequence[float] | None = None) -> T:
    """Draw one of `items`, by `weights` (which need not add up to one) when given."""
    weights = weights or [1.0] * len(items)
    point = uniform(rng, 0, sum(weights))
    for item, weight in zip(items, weights, strict=True):
        point -= weight
        if point < 0:
            return item
    return items[-1]


def seed(rng: np.random.Generator) -> int:
    """Draw the seed of a field: an integer below 2^32."""
    return int(rng.bit_generator.random_raw()) >> 32


def bits(
    shape: tuple[int, ...], seed: int, *, stream: int = 0, rows: slice | None = None
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint16]]:
    """Return uint16 of `shape`, evenly distributed, a pure function of the arguments.

    The n-th 64 bits, of which each holds four numbers, lowest first, are mix(key + n G), n from 1. rows: the only ones
    of the field to return; they begin at a multiple of four.
    """
    from degradations.kernels.counter import fill

    first_row, last_row = (0, shape[0]) if rows is None else (rows.start, rows.stop)
    shape = (last_row - first_row, *shape[1:])
    count = math.prod(shape)
    words = np.empty((count + 3) // 4, np.uint64)
    start = key(seed, stream) + first_row * math.prod(shape[1:]) // 4 * GOLDEN
    fill(start & WORD, GOLDEN, *MULTIPLIERS, words)
    return words.astype("<u8", copy=False).view("<u2")[:count].reshape(shape)


def uniform_field(shape: tuple[int, ...], seed: int, *, stream: int = 0) -> Light:
    """Return float32 of `shape` in (0, 1), in steps of 2^-16."""
    return (bits(shape, seed, stream=stream).astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-16)


def gaussian_field(shape: tuple[int, ...], seed: int, *, stream: int = 0, rows: slice | None = None) -> Light:
    """Return float32 of `shape`, white, mean 0 and variance 1, within 4.3 sigma: 16 bits through the inverse CDF.

    rows: as `bits`.
    """
    from degradations.kernels.codes import look_up

    codes = bits(shape, seed, stream=stream, rows=rows)
    out = np.empty(codes.shape, np.float32)
    look_up(codes.reshape(-1), _gaussian_table(), out.reshape(-1))
    return out


@cache
def _gaussian_table() -> Light:
    table = ndtri((np.arange(65536) + 0.5) / 65536)
    return np.asarray(table / table.std(), dtype=np.float32)
