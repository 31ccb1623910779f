"""From a few photographs that were probed to what a whole build takes, each figure with its 80 % band.

A two-level Bayesian bootstrap (Rubin, Annals of Statistics 1981): photographs that were not probed are like those that
were, in unknown proportions, and so are the pairs of one photograph. What share is kept has Jeffreys' prior, so that
twelve kept of twelve do not promise that all will be.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.mixture import Options as MixtureOptions
from tasks.probe import Probe

DRAWS = 2000
BAND = (0.1, 0.9)
LEDGER_BYTES = 1000  # of a pair in ledger and indexes: 700 to 1,300 in small datasets
OVERHEAD = (1.0, 1.4)  # CPU of a build over that of its stages as probed: commits, packing, cores that share caches
FIXED_SECONDS = (1.0, 3.0)  # CPU of the exchanges and the report
REPORT_BYTES = 2.5e6
STARTUP_SECONDS = (12.0, 30.0)  # of Prefect's server and Ray, and their end

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A quantity: its median, and the band that holds it four times in five."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a build comes to.

    images, pairs: kept. bytes: of the dataset; disk_bytes: with the work folder. cpu_hours: of one core; hours: until
    it is done. by_degradation: kept pairs of each name.
    """

    images: Figure
    pairs: Figure
    bytes: Figure
    disk_bytes: Figure
    cpu_hours: Figure
    hours: Figure
    by_degradation: Mapping[str, int]


def estimate(probes: Sequence[Probe], *, files: int, options: MixtureOptions | None, workers: int) -> Estimate:
    """Return what a build of `files` files takes, of which `probes` were tried: at least one.

    options: None for a collection, which publishes the photographs it keeps and makes no pairs.
    """
    rng = np.random.Generator(np.random.PCG64(0))
    kept = [probe for probe in probes if not probe.reason]
    tried = [pair for probe in kept for pair in probe.pairs]
    unseen = files - len(probes)
    images = len(kept) + _kept_of(unseen, len(kept), len(probes), rng)
    by_name = {name: _planned(images, name, options) for name in options.shares()} if options else {}
    planned = np.sum([np.zeros(DRAWS), *by_name.values()], axis=0, dtype=np.float64)
    passed = sum(not pair.reason for pair in tried)
    # The pairs that were tried are like those of the build, but none of them: their seeds differ.
    pairs = _kept_of(planned.astype(np.int64), passed, len(tried), rng)

    weights = _weights([len(probe.pairs) for probe in kept], images - len(kept), rng)
    a_pair = {
        name: weights @ np.array([getattr(pair, name) for pair in tried]) for name in ("seconds", "published", "work")
    }
    photographs = {
        name: _total(np.array([getattr(probe, name) for probe in probes]), unseen, rng) for name in ("seconds", "work")
    }
    size = pairs * (a_pair["published"] + LEDGER_BYTES)
    if options is None:
        size = _total(np.array([0 if probe.reason else probe.work for probe in probes]), unseen, rng)
    work = photographs["work"] + planned * a_pair["work"]
    stages = photographs["seconds"] + planned * a_pair["seconds"]
    seconds = rng.uniform(*FIXED_SECONDS, DRAWS) + stages * rng.uniform(*OVERHEAD, DRAWS)
    return Estimate(
        images=_figure(images),
        pairs=_figure(pairs),
        bytes=_figure(size),
        disk_bytes=_figure(size + work + REPORT_BYTES),
        cpu_hours=_figure(seconds / 3600),
        hours=_figure((rng.uniform(*STARTUP_SECONDS, DRAWS) + seconds / workers) / 3600),
        by_degradation={
            name: round(float(np.median(count * pairs / np.maximum(planned, 1))))
            for name, count in sorted(by_name.items())
        },
    )


def _planned(images: Array, name: str, options: MixtureOptions) -> Array:
    wanted = images * options.variants * options.shares()[name]
    return np.minimum(wanted, options.quotas.get(name, np.inf))


def _kept_of(unseen: int | np.int64 | NDArray[np.int64], kept: int, tried: int, rng: np.random.Generator) -> Array:
    share = rng.beta(kept + 0.5, tried - kept + 0.5, DRAWS)
    return rng.binomial(unseen, share, DRAWS).astype(np.float64)


def _weights(pairs: Sequence[int], unseen: Array, rng: np.random.Generator) -> Array:
    """Return the weight of each probed pair in each draw, (DRAWS, pairs): of its photograph, and within it."""
    if not sum(pairs):
        return np.zeros((DRAWS, 0))
    photographs = 1 + _like(unseen, len(pairs), rng)
    within = [photographs[:, [at]] * _shares(count, rng) for at, count in enumerate(pairs) if count]
    weights = np.concatenate(within, axis=1)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _like(unseen: Array, probed: int, rng: np.random.Generator) -> Array:
    """Return how many of the `unseen` are like each of the `probed`, (DRAWS, probed)."""
    return rng.multinomial(unseen.astype(np.int64), _shares(probed, rng)).astype(np.float64)


def _shares(count: int, rng: np.random.Generator) -> Array:
    """Return shares, (DRAWS, count), by which a mean varies as that of `count` samples does: s^2 / count, unbiased."""
    return rng.dirichlet(np.full(count, max(count - 2, 0.5) / count), DRAWS)


def _total(values: Array, unseen: int, rng: np.random.Generator) -> Array:
    return np.asarray(values.sum() + _like(np.full(DRAWS, unseen), len(values), rng) @ values)


def _figure(draws: Array) -> Figure:
    low, high = np.quantile(draws, BAND)
    return Figure(value=float(np.median(draws)), low=float(low), high=float(high))
