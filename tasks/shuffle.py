"""Exchange: which pair goes into which shard. Shards are equal slices of the hash, so a new pair moves no other.

Kept pairs are spooled to one file for each slice, so that memory does not grow with the dataset.
"""

import json
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from tasks.mixture import order

Row = Mapping[str, Any]
Slot = tuple[str, int]  # split and number of the slice

WAITING = 500  # rows held in memory before they are appended to their slices


def shard_bits(pairs: int, pairs_per_shard: int) -> int:
    """Return how many leading bits of the hash name the slice: the fewest that keep the mean below the target."""
    return max(0, -(-pairs // pairs_per_shard) - 1).bit_length()


def slice_of(key: str, bits: int) -> int:
    """Return the slice, from 0 to 2^bits - 1, that the pair `key` falls into."""
    return int(order(key)[:8], 16) >> (32 - bits) if bits else 0


class Spool:
    """Rows of kept pairs on their way to shards, in `folder`; bits: split -> bits of its slices."""

    def __init__(self, folder: Path, bits: Mapping[str, int]) -> None:
        self._folder, self._bits = folder, bits
        self._waiting: list[tuple[Slot, str]] = []
        self._used: set[Slot] = set()

    def add(self, split: str, row: Row) -> Slot:
        """Take in one row with its `key` and JSON values; return where it goes."""
        slot = split, slice_of(row["key"], self._bits[split])
        self._used.add(slot)
        self._waiting.append((slot, json.dumps(row)))
        if len(self._waiting) >= WAITING:
            self.flush()
        return slot

    def flush(self) -> None:
        """Append what waits to the files of its slices."""
        for slot, rows in groupby(sorted(self._waiting), key=lambda item: item[0]):
            with self._file(slot).open("a", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for _, line in rows)
        self._waiting = []

    def names(self) -> dict[Slot, str]:
        """Return the shard name of each slice that holds pairs, numbered without gaps in each split."""
        by_split = groupby(sorted(self._used), key=lambda slot: slot[0])
        return {slot: f"{split}-{number:06d}" for split, slots in by_split for number, slot in enumerate(slots)}

    def read(self, slot: Slot) -> list[dict[str, Any]]:
        """Return the rows of one slice in the order they are written: by hash."""
        with self._file(slot).open(encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        return sorted(rows, key=lambda row: order(row["key"]))

    def _file(self, slot: Slot) -> Path:
        return self._folder / f"{slot[0]}-{slot[1]}.jsonl"
