"""Read a published dataset: ledger rows and pairs by key, and what replay needs, without sources or work files."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from numpy.typing import NDArray

from storage import samples
from storage.canonical import decode
from storage.errors import SettingsError, ShardError
from storage.ledger import iter_rows
from storage.manifest import read_manifest
from storage.records import Image, Manifest, Pair
from storage.shards import read_member

Row = dict[str, Any]
Places = Mapping[str, tuple[int, int]]  # suffix -> offset and size


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPair:
    """One pair as it is stored. pixels and annotations: encoded members by suffix. record: its JSON."""

    shard: str
    record: Mapping[str, Any]
    pixels: Mapping[str, bytes]
    annotations: Mapping[str, bytes]

    @property
    def pair(self) -> Pair:
        """The pair's record."""
        content = {name: value for name, value in self.record.items() if name != "scores"}
        return decode(Pair, json.dumps(content).encode())

    def image(self, side: str) -> Image:
        """Return the "clean" or "degraded" image, uint8 (H, W, 3), or the "original" that a step changed."""
        return samples.decode_image(_one(self.pixels, side) or _one(self.annotations, side) or b"")

    def replayable(self) -> tuple[Image, dict[str, NDArray[Any]]]:
        """Return what `replay` needs: the scene's image, and the inputs by name."""
        original = _one(self.annotations, "original")
        scene = samples.decode_image(original) if original else self.image("clean")
        inputs: dict[str, NDArray[Any]] = {}
        for suffix, data in self.annotations.items():
            name = suffix.split(".")[0]
            if name == "depth":
                inputs[name] = samples.decode_depth(data)
            elif name == "segments":
                inputs[name] = samples.decode_labels(data)
            elif name == "frames":
                inputs[name] = samples.decode_frames(data, samples.count_frames(data, len(scene)))
            elif name.startswith("overlay-"):
                inputs[name] = samples.decode_image(data)
        return scene, inputs


class Dataset:
    """The dataset at `root`; ShardError when there is none or it is newer than this program."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest of the current version."""
        return read_manifest(self.root)

    def ledger(self, kind: str) -> list[Path]:
        """Return the parts of the ledger of "images" or "pairs"."""
        return sorted((self.root / "ledger").glob(f"{kind}-*.parquet"))

    def rows(self, kind: str, columns: tuple[str, ...] | None = None) -> Iterator[Row]:
        """Yield the rows of the ledger of "images" or "pairs"."""
        return iter_rows(self.ledger(kind), columns)

    def find(self, kind: str, **wanted: str) -> list[Row]:
        """Return the ledger's rows whose columns have these values."""
        filters = [(name, "=", value) for name, value in wanted.items()]
        found = []
        for part in self.ledger(kind):
            found.extend(pq.read_table(part, filters=filters).to_pylist(maps_as_pydicts="strict"))
        return found

    def names(self) -> list[str]:
        """Return the names of the shards, without folder and suffix."""
        return [Path(entry.name).stem for entry in self.manifest.shards]

    def keys(self, shard: str) -> list[str]:
        """Return the keys of a shard in their order."""
        return list(self._index("shards", shard))

    def stored(self, key: str, shard: str | None = None) -> StoredPair:
        """Return the pair `key`; SettingsError when the dataset holds no such pair."""
        name = shard or self._shard_of(key)
        pixels = self._members("shards", name, key)
        record = json.loads(pixels.pop("json"))
        beside = self._members("annotations", name, key)
        beside.pop("json", None)
        return StoredPair(shard=name, record=record, pixels=pixels, annotations=beside)

    def places(self, folder: str, shard: str, key: str) -> dict[str, tuple[str, int, int]]:
        """Return where the members of `key` lie: suffix -> file, offset and size. folder: shards or annotations."""
        tar = str(self.root / folder / f"{shard}.tar")
        return {suffix: (tar, *place) for suffix, place in self._index(folder, shard)[key].items()}

    def record(self, shard: str, key: str) -> str:
        """Return the JSON of the pair `key`, as it is stored."""
        tar, offset, size = self.places("shards", shard, key)["json"]
        return read_member(Path(tar), offset, size).decode()

    def _shard_of(self, key: str) -> str:
        rows = self.find("pairs", key=key)
        if not rows or not rows[0]["shard"]:
            raise SettingsError(f"{self.root} holds no pair {key}; `pairforge explain` says whether it was dropped")
        return str(rows[0]["shard"])

    def _members(self, folder: str, shard: str, key: str) -> dict[str, bytes]:
        places = self._index(folder, shard).get(key)
        if places is None:
            raise ShardError(f"{folder}/{shard}.tar holds no {key}, though the ledger says so; verify the dataset")
        tar = self.root / folder / f"{shard}.tar"
        return {suffix: read_member(tar, offset, size) for suffix, (offset, size) in places.items()}

    @lru_cache(maxsize=8)  # noqa: B019  a dataset lives as long as the command
    def _index(self, folder: str, shard: str) -> dict[str, Places]:
        path = self.root / folder / f"{shard}.idx"
        found: dict[str, Places] = {}
        for line in path.read_text().splitlines()[1:]:
            words = line.split(" ")
            members = [words[at : at + 4] for at in range(0, len(words), 4)]
            key = members[0][3].split(".", 1)[0]
            found[key] = {suffix: (int(offset), int(size)) for suffix, offset, size, _ in members}
        return found


def _one(members: Mapping[str, bytes], side: str) -> bytes | None:
    return next((data for suffix, data in members.items() if suffix.split(".")[0] == side), None)
