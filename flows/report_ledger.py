"""What the report counts in the ledger, a row group in memory at a time: the funnels, and which rows to show.

Rows are chosen by the hash of their key, so the same dataset always shows the same pictures.
"""

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

import filters
from flows.dataset import Dataset
from storage.errors import ShardError

Row = dict[str, Any]

LEVELS = range(1, 6)
MAX_NAMES = 24  # degradations with a row of their own
MAX_REASONS = 64  # told apart; what comes later is counted with "other"
MAX_LICENCES = 256
REJECTS = 12  # shown of each kind
BEFORE_FILTERS = ("crawl", "clean", "annotate", "mixture", "degrade", "measure")

_LOST = {"dropped", "failed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What one stage dropped, or failed on, for one reason. before: how many had come so far."""

    stage: str
    status: str
    reason: str
    count: int
    before: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Funnel:
    """Every one considered and what became of it: `total` = `kept` + `dropped` + `failed`, always."""

    total: int
    kept: int
    dropped: int
    failed: int
    losses: Sequence[Loss]


@dataclass(frozen=True, slots=True, kw_only=True)
class Photographs:
    """What the images' ledger says. rejects: rows of a sample of those that were not kept."""

    funnel: Funnel
    licences: Mapping[str, int]
    rejects: Sequence[Row]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """What the pairs' ledger says. levels: kept pairs by name and level. shown: a row of each name and level."""

    funnel: Funnel
    levels: Mapping[str, Mapping[int, int]]
    shown: Mapping[str, Sequence[Row]]
    more_names: int
    rejects: Sequence[Row]


def photographs(dataset: Dataset) -> Photographs:
    """Count the photographs; ShardError when a row says neither kept nor why not."""
    lost, licences, sample = Counter[tuple[str, str, str]](), Counter[str](), Sample()
    kept = 0
    for row in dataset.rows("images"):
        if _is_kept(row):
            kept += 1
            _count(licences, row["licence"] or "unknown", MAX_LICENCES)
        else:
            _lose(lost, row)
            sample.offer((row["stage"], row["reason"]), f"{row['uri']} {row['sha256']}", row, size=REJECTS)
    total = _count_rows(dataset.ledger("images"))
    funnel = _funnel(total, kept, lost)
    return Photographs(funnel=funnel, licences=dict(licences.most_common()), rejects=sample.spread(REJECTS))


def pairs(dataset: Dataset) -> Pairs:
    """Count the pairs; ShardError when the ledger does not add up or keeps others than the shards hold."""
    promised = sum((Counter(entry.counts) for entry in dataset.manifest.shards), Counter[str]())
    names = sorted(name for name, _ in sorted(promised.items(), key=lambda item: (-item[1], item[0]))[:MAX_NAMES])
    lost, found, levels = Counter[tuple[str, str, str]](), Counter[str](), Counter[tuple[str, int]]()
    shown, rejects = Sample(), Sample()
    for row in dataset.rows("pairs", ("key", "source_key", "name", "level", "status", "stage", "reason")):
        if not _is_kept(row):
            _lose(lost, row)
            rejects.offer((row["stage"], row["reason"]), row["key"], row, size=REJECTS)
        else:
            found[row["name"] if row["name"] in promised else "(others)"] += 1
            levels[row["name"], row["level"]] += row["name"] in names
            if row["name"] in names:
                shown.offer((row["name"], row["level"]), row["key"], row, size=len(LEVELS))
    if found != promised:
        raise ShardError(f"{dataset.root}: the ledger keeps other pairs than the manifest; verify the dataset")
    varied = {name: _varied([shown.rows((name, level)) for level in LEVELS]) for name in names}
    lost_rows = rejects.spread(REJECTS)
    whole = _whole_rows(dataset, {row["key"] for row in chain(lost_rows, *varied.values())})
    return Pairs(
        funnel=_funnel(_count_rows(dataset.ledger("pairs")), sum(found.values()), lost),
        levels={name: {level: levels[name, level] for level in LEVELS} for name in names},
        shown={name: [whole[row["key"]] for row in rows] for name, rows in varied.items()},
        more_names=len(promised) - len(names),
        rejects=[whole[row["key"]] for row in lost_rows],
    )


class Sample:
    """Of each group the few rows whose name hashes lowest, whatever order they come in."""

    def __init__(self) -> None:
        self._heaps: dict[Any, list[tuple[int, str, int, Row]]] = {}
        self._seen = 0

    def offer(self, group: Any, name: str, row: Row, *, size: int) -> None:
        """Consider `row`; a group holds `size` rows at most, and there are at most a few hundred groups."""
        if group not in self._heaps and len(self._heaps) >= MAX_REASONS + MAX_NAMES * len(LEVELS):
            return
        self._seen += 1
        heap = self._heaps.setdefault(group, [])
        rank = -int.from_bytes(hashlib.sha256(name.encode(errors="replace")).digest()[:8])
        add = heapq.heappush if len(heap) < size else heapq.heappushpop
        add(heap, (rank, name, self._seen, row))

    def groups(self) -> list[Any]:
        """Return the groups, sorted."""
        return sorted(self._heaps, key=str)

    def rows(self, group: Any) -> list[Row]:
        """Return the rows of a group, lowest hash first."""
        return [row for *_, row in sorted(self._heaps.get(group, ()), key=lambda item: (-item[0], item[1], item[2]))]

    def spread(self, count: int) -> list[Row]:
        """Return `count` rows at most, from as many groups as possible, group by group."""
        ranked = sorted(
            ((place, number, row) for number, group in enumerate(self.groups()) for place, row in self._placed(group)),
            key=lambda item: item[:2],
        )
        return [row for _, _, row in sorted(ranked[:count], key=lambda item: (item[1], item[0]))]

    def _placed(self, group: Any) -> Iterable[tuple[int, Row]]:
        return enumerate(self.rows(group))


def stage_order() -> list[str]:
    """Return the stages in the order in which they may lose an image or a pair: filters last, cheapest first."""
    return [*BEFORE_FILTERS, *sorted(filters.names(), key=lambda name: (filters.load(name).cost, name))]


def _varied(levels: Sequence[Sequence[Row]]) -> list[Row]:
    """Return one row of each level that has any, of another photograph each as far as there are."""
    chosen: list[Row] = []
    for rows in levels:
        used = {row["source_key"] for row in chosen}
        chosen.extend([*(row for row in rows if row["source_key"] not in used), *rows][:1])
    return chosen


def _is_kept(row: Row) -> bool:
    kept = bool(row["status"] == "kept")
    if kept == bool(row["reason"]) or (not kept and row["status"] not in _LOST):
        name = row.get("uri") or row["key"]
        raise ShardError(f"the ledger is damaged: {name!r} is {row['status']!r} for the reason {row['reason']!r}")
    return kept


def _lose(lost: Counter[tuple[str, str, str]], row: Row) -> None:
    _count(lost, (row["stage"], row["status"], row["reason"]), MAX_REASONS, (row["stage"], row["status"], "other"))


def _count(counts: Counter[Any], item: Any, most: int, other: Any = "(others)") -> None:
    counts[item if item in counts or len(counts) < most else other] += 1


def _funnel(total: int, kept: int, lost: Counter[tuple[str, str, str]]) -> Funnel:
    by_status = Counter[str]()
    for (_, status, _), count in lost.items():
        by_status[status] += count
    funnel = Funnel(
        total=total,
        kept=kept,
        dropped=by_status["dropped"],
        failed=by_status["failed"],
        losses=list(_losses(total, lost)),
    )
    if funnel.total != funnel.kept + funnel.dropped + funnel.failed:
        raise ShardError(f"the ledger does not add up: {funnel}")
    return funnel


def _losses(total: int, lost: Counter[tuple[str, str, str]]) -> Iterator[Loss]:
    places = {stage: place for place, stage in enumerate(stage_order())}
    before = total
    for (stage, status, reason), count in sorted(
        lost.items(), key=lambda item: (places.get(item[0][0], len(places)), item[0][0], -item[1], item[0])
    ):
        yield Loss(stage=stage, status=status, reason=reason, count=count, before=before)
        before -= count


def _count_rows(parts: Sequence[Path]) -> int:
    return sum(pq.read_metadata(part).num_rows for part in parts)


def _whole_rows(dataset: Dataset, keys: set[str]) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for part in dataset.ledger("pairs"):
        table = pq.read_table(part, filters=[("key", "in", sorted(keys))]) if keys else None
        rows = table.to_pylist(maps_as_pydicts="strict") if table else []
        found.update((row["key"], row) for row in rows)
    return found
