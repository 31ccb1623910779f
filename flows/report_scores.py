"""Histograms of every score in the ledger, in bounded memory: one pass finds the ranges, a second one counts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from storage.errors import ShardError
from storage.ledger import ROW_GROUP

BINS = 32  # shown
FINE = 4096  # counted, so that a few far values do not squeeze the rest into one bar
MAX_SCORES = 48
FATES = ("kept", "dropped here", "dropped elsewhere")
TAIL = 0.002  # of the values may lie beyond either end of a histogram; they are counted in its last bar
CLOSER_LOOKS = 2  # more passes, if a few far values left all others in a handful of the fine bins
LARGEST = 1e300  # what is larger, or no number, is not counted
NOT_MEASURES = ("duplicate.phash_high", "duplicate.phash_low")  # a hash has no order

Counts = NDArray[np.float64]  # a row of each fate, and a last one of the sums of what was kept
Range = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """One score. bars: counts by fate, `BINS` of each. typical: the median of what was kept. cut: ends hold tails."""

    name: str
    low: float
    high: float
    bars: Mapping[str, Sequence[int]]
    total: int
    typical: float
    cut: bool


def histograms(parts: Sequence[Path]) -> list[Histogram]:
    """Return the histogram of every score in the parts of a ledger, by name; ShardError if one cannot be read."""
    try:
        whole = _ranges(parts)
        ranges, fine = whole, _counted(parts, whole)
        for _ in range(CLOSER_LOOKS):
            crowded = {name: _closer(ranges[name], counts) for name, counts in fine.items() if _is_crowded(counts)}
            ranges, fine = ranges | crowded, fine | (_counted(parts, crowded) if crowded else {})
        return [_shown(name, ranges[name], fine[name], cut=ranges[name] != whole[name]) for name in sorted(fine)]
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ShardError(f"the ledger's scores cannot be read: {error}") from error


def _ranges(parts: Sequence[Path]) -> dict[str, Range]:
    found: dict[str, Range] = {}
    for name, values, _ in _scores(parts):
        low, high = found.get(name, (np.inf, -np.inf))
        found[name] = min(low, float(values.min())), max(high, float(values.max()))
    return {name: _widened(*found[name]) for name in sorted(found)[:MAX_SCORES]}


def _widened(low: float, high: float) -> Range:
    """Return the range, or one around its only value."""
    margin = 0.0 if high - low > 1e-9 * max(abs(low), abs(high)) else max(0.5, abs(low) / 2)
    return low - margin, high + margin


def _counted(parts: Sequence[Path], ranges: Mapping[str, Range]) -> dict[str, Counts]:
    fine = {name: np.zeros((len(FATES) + 1, FINE)) for name in ranges}
    for name, values, fates in _scores(parts):
        if name in ranges:
            low, high = ranges[name]
            places = np.clip((values - low) / (high - low) * FINE, 0, FINE - 1).astype(np.int64)
            np.add.at(fine[name], (fates, places), 1)
            np.add.at(fine[name][-1], places[fates == 0], values[fates == 0])
    return fine


def _scores(parts: Sequence[Path]) -> Iterator[tuple[str, NDArray[np.float64], NDArray[np.int64]]]:
    """Yield, for each score in each row group: its name, its values and the fate of the row of each."""
    for part in parts:
        with pq.ParquetFile(part) as file:
            for batch in file.iter_batches(ROW_GROUP, columns=["status", "stage", "scores"]):
                yield from _batch_scores(batch)


def _batch_scores(batch: pa.RecordBatch) -> Iterator[tuple[str, NDArray[np.float64], NDArray[np.int64]]]:
    maps = batch.column("scores")
    offsets = maps.offsets.to_numpy()
    names = pc.dictionary_encode(maps.keys.slice(offsets[0], offsets[-1] - offsets[0]))
    values = maps.items.slice(offsets[0], offsets[-1] - offsets[0]).to_numpy(zero_copy_only=False)
    owners = np.repeat(np.arange(len(batch)), np.diff(offsets))
    kept = pc.equal(batch.column("status"), "kept").fill_null(False).to_numpy(zero_copy_only=False)
    stages = np.asarray(batch.column("stage").to_pylist(), dtype=object)
    codes = names.indices.to_numpy()
    for code, name in enumerate(names.dictionary.to_pylist()):
        here = (codes == code) & (np.abs(values) < LARGEST)  # which NaN is not either
        if name in NOT_MEASURES or not here.any():
            continue
        rows = owners[here]
        fates = np.where(kept[rows], 0, np.where(stages[rows] == name.partition(".")[0], 1, 2))
        yield name, values[here], fates


def _bulk(fine: Counts) -> tuple[int, int]:
    """Return the first and the last place of what is left without the tails."""
    summed = fine[:-1].sum(0).cumsum()
    first = int(np.searchsorted(summed, TAIL * summed[-1], side="right"))
    return first, int(np.searchsorted(summed, (1 - TAIL) * summed[-1]))


def _is_crowded(fine: Counts) -> bool:
    first, last = _bulk(fine)
    return last + 1 - first < BINS and int(np.count_nonzero(fine[:-1].sum(0))) > 1


def _closer(limits: Range, fine: Counts) -> Range:
    low, width = limits[0], (limits[1] - limits[0]) / FINE
    first, last = _bulk(fine)
    return low + first * width, low + (last + 1) * width


def _shown(name: str, limits: Range, fine: Counts, *, cut: bool) -> Histogram:
    low, high = limits
    width = (high - low) / FINE
    first, last = _bulk(fine)
    if first == last or 2 * (last + 1 - first) > FINE:  # one value, or cutting would win little
        first, last = 0, FINE - 1
    places = np.clip((np.arange(FINE) - first) * BINS // (last + 1 - first), 0, BINS - 1)
    bars = {
        fate: np.bincount(places, weights=row, minlength=BINS).astype(int).tolist()
        for fate, row in zip(FATES, fine[:-1], strict=True)
    }
    return Histogram(
        name=name,
        low=low + first * width,
        high=low + (last + 1) * width,
        bars=bars,
        total=int(fine[:-1].sum()),
        typical=_median(fine[0], fine[-1]),
        cut=cut or (first, last) != (0, FINE - 1),
    )


def _median(counts: NDArray[np.float64], sums: NDArray[np.float64]) -> float:
    """Return the mean of the values in the fine bin that holds the median; 0 if there are none."""
    summed = counts.cumsum()
    place = int(np.searchsorted(summed, summed[-1] / 2))
    return float(sums[place] / max(1, counts[place]))
