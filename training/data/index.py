"""Where every pair of our datasets lies: read from the shards' own indexes, one record of some bytes a pair.

The shards of a split are those the manifest lists; their `.idx` says where each member stands, and the pair's JSON,
read in place, what it is. The records of a pool (task, origin) are ordered by key, so that neither the order of the
shards nor their number decides what the plan picks.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import SettingsError, ShardError
from storage.manifest import read_manifest
from storage.records import Manifest
from storage.shards import read_member
from training.data.plan import Origin

ORIGINS: tuple[Origin, ...] = ("synthetic", "real")
_ORIGIN_OF: dict[str, Origin] = {"synthetic": "synthetic", "generated": "real", "captured": "real"}

RECORD = np.dtype(
    [
        ("key", "S32"),
        ("shard", "<u4"),
        ("clean_at", "<u8"),
        ("clean_size", "<u4"),
        ("degraded_at", "<u8"),
        ("degraded_size", "<u4"),
        ("height", "<u2"),
        ("width", "<u2"),
        ("task", "<u2"),
        ("origin", "u1"),
        ("isolated", "?"),
        ("instruction", "<u2"),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """The pairs of one split of one or more datasets. records: of type RECORD, ordered by task, origin and key.

    task, origin, shard and instruction of a record are numbers within the tuples of that name. digest: of what the
    manifests say, so that a run can tell whether it goes on with the same data.
    """

    shards: tuple[Path, ...]
    tasks: tuple[str, ...]
    instructions: tuple[str, ...]
    records: NDArray[Any]
    digest: str

    def pools(self) -> dict[tuple[str, Origin], NDArray[Any]]:
        """Return the records of each (task, origin) that has some."""
        found = {}
        for number, task in enumerate(self.tasks):
            own = self.records[self.records["task"] == number]
            for code, origin in enumerate(ORIGINS):
                if (chosen := own["origin"] == code).any():
                    found[task, origin] = own[chosen]
        return found

    def isolated(self) -> set[str]:
        """Return the tasks that are one degradation, not several at once."""
        return {self.tasks[number] for number in np.unique(self.records["task"][self.records["isolated"]])}

    def sizes(self) -> Counter[tuple[int, int]]:
        """Return how many pairs there are of each (height, width)."""
        sides, counts = np.unique(self.records[["height", "width"]], return_counts=True)
        return Counter({(int(h), int(w)): int(n) for (h, w), n in zip(sides.tolist(), counts.tolist(), strict=True)})


def read_index(roots: Sequence[Path], split: str, tasks: Sequence[str] = ()) -> Index:
    """Return the index of `split` of the datasets at `roots`; `tasks`, when there are some, are all that is taken.

    Raises SettingsError when nothing is left or a task is unknown, ShardError when a dataset is not what its manifest
    promises.
    """
    shards: list[Path] = []
    rows: list[tuple[Any, ...]] = []
    names, instructions = dict[str, int](), dict[str, int]()
    seen, content = set[str](), hashlib.sha256()
    for root in roots:
        for path, entry in _shards(root, split):
            content.update(entry.sha256.encode())
            for row in _rows(path, len(shards)):
                seen.add(row["task"])
                if not tasks or row["task"] in tasks:
                    row["task"] = names.setdefault(row["task"], len(names))
                    row["instruction"] = instructions.setdefault(row["instruction"], len(instructions))
                    rows.append(tuple(row[name] for name in RECORD.names or ()))
            shards.append(path)
    _check(roots, split, tasks, seen)
    records = np.array(rows, dtype=RECORD)
    ranked = sorted(names)
    records["task"] = np.array([ranked.index(name) for name in names], dtype="<u2")[records["task"]]
    records = records[np.argsort(records, order=("task", "origin", "key"), kind="stable")]
    return Index(
        shards=tuple(shards),
        tasks=tuple(ranked),
        instructions=tuple(instructions),
        records=records,
        digest=content.hexdigest(),
    )


def _check(roots: Sequence[Path], split: str, tasks: Sequence[str], names: set[str]) -> None:
    where = ", ".join(map(str, roots))
    if missing := sorted(set(tasks) - names):
        raise SettingsError(
            f"{where}: no pair of {split} is of task {missing[0]}; there are {', '.join(sorted(names))}"
        )
    if not names:
        without = ", or set run.rhythm.validate to 0" if split == "validation" else ""
        raise SettingsError(f"{where} holds no pairs in split {split}; build one, or name another dataset{without}")


def _shards(root: Path, split: str) -> Iterator[tuple[Path, Any]]:
    """Yield the shards of a split with their entries in the manifest, sizes and indexes checked."""
    manifest = read_manifest(root)
    indexes = {entry.name: entry.sha256 for entry in manifest.files}
    for entry in manifest.shards:
        if Path(entry.name).name.rsplit("-", 1)[0] != split or not entry.pairs:
            continue
        path = root / entry.name
        _check_shard(path, entry.bytes, indexes.get(str(Path(entry.name).with_suffix(".idx"))), manifest)
        yield path, entry


def _check_shard(path: Path, size: int, index_sha256: str | None, manifest: Manifest) -> None:
    index = path.with_suffix(".idx")
    try:
        found, digest = path.stat().st_size, hashlib.sha256(index.read_bytes()).hexdigest()
    except OSError as error:
        raise ShardError(f"{error.filename} cannot be read ({error.strerror}), the manifest lists it") from error
    if found != size or digest != index_sha256:
        what = f"{path} has {found} bytes, expected {size}" if found != size else f"{index} has another hash"
        raise ShardError(f"{what}: not what the manifest of version {manifest.dataset_version} promises")


def _rows(shard: Path, number: int) -> Iterator[dict[str, Any]]:
    """Yield the fields of a record for every pair of a shard; task and instruction are texts."""
    for key, members in _members(shard):
        try:
            pair = json.loads(read_member(shard, *members["json"]))
            (clean_at, clean_size), (degraded_at, degraded_size) = (
                _image_member(members, side) for side in ("clean", "degraded")
            )
            yield {
                "key": key.encode(),
                "shard": number,
                "clean_at": clean_at,
                "clean_size": clean_size,
                "degraded_at": degraded_at,
                "degraded_size": degraded_size,
                "height": pair["height"],
                "width": pair["width"],
                "task": pair["recipe"]["name"],
                "origin": ORIGINS.index(_ORIGIN_OF[pair["origin"]]),
                "isolated": len(pair["recipe"]["steps"]) == 1,
                "instruction": pair["instruction"],
            }
        except (KeyError, ValueError, StopIteration) as error:
            raise ShardError(f"{shard}: {key} is no pair of a dataset ({error!r})") from error


def _image_member(members: Mapping[str, tuple[int, int]], side: str) -> tuple[int, int]:
    return next(place for suffix, place in members.items() if suffix.startswith(f"{side}."))


def _members(shard: Path) -> Iterator[tuple[str, dict[str, tuple[int, int]]]]:
    """Yield the key and, by suffix, the place of each member, (offset, size), that a DALI index lists: a line a key."""
    first, *lines = shard.with_suffix(".idx").read_text(encoding="ascii").splitlines()
    if first != f"v1.2 {len(lines)}":
        raise ShardError(f"{shard.with_suffix('.idx')} holds {len(lines)} samples, its first line says {first!r}")
    for line in lines:
        words = line.split(" ")
        members = zip(words[0::4], words[1::4], words[2::4], strict=True)
        yield words[3].partition(".")[0], {suffix: (int(offset), int(size)) for suffix, offset, size in members}
