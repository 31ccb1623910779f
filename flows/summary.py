"""What a dataset holds, counted from its manifest and its ledger; what `inspect` and the end of a build show."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.ledger import iter_rows
from storage.manifest import read_manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Counts of a dataset. images, pairs: what became of every one considered. rejected: pairs by reason.

    shows: what the photographs of a collection, which has no pairs, really show.
    """

    version: int
    shards: int
    bytes: int
    pairs: int
    by_degradation: Mapping[str, int]
    by_severity_level: Mapping[str, int]
    by_split: Mapping[str, int]
    rejected: Mapping[str, int]
    images: Mapping[str, int]
    images_rejected: Mapping[str, int]
    shows: str = ""

    def data(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return {name: _plain(getattr(self, name)) for name in self.__slots__}

    def text(self) -> str:
        """Return the counts for a person: one screen."""
        if self.shows:
            return self._collection()
        lines = [
            f"{self.pairs} pairs in {self.shards} shards, {size_text(self.bytes)}, version {self.version}",
            f"files         {_counts(self.images)}",
            f"dropped       {_counts(self.images_rejected) or 'none'}",
            f"splits        {_counts(self.by_split)}",
            f"levels 1-5    {' '.join(str(count) for count in self.by_severity_level.values())}",
            f"rejected      {_counts(self.rejected) or 'none'}",
        ]
        width = max((len(name) for name in self.by_degradation), default=0)
        most = max(self.by_degradation.values(), default=1)
        bars = [
            f"  {name:{width}}  {count:>6}  {'#' * round(30 * count / most)}"
            for name, count in self.by_degradation.items()
        ]
        none = [] if self.pairs else ["no pair was kept; `pairforge explain DATASET PHOTOGRAPH` says why"]
        return "\n".join([*lines, *bars, *none])

    def _collection(self) -> str:
        kept = self.images.get("kept", 0)
        lines = [
            f"{kept} photographs that show {self.shows}, {size_text(self.bytes)}, version {self.version}",
            f"photographs   {_counts(self.images)}",
            f"dropped       {_counts(self.images_rejected) or 'none'}",
        ]
        return "\n".join([*lines, *([] if kept else ["`pairforge explain DATASET PHOTOGRAPH` says why"])])


def summarise(root: Path) -> Summary:
    """Return the counts of the dataset at `root`; ShardError when there is none."""
    manifest = read_manifest(root)
    names, levels, splits = Counter[str](), Counter[int](), Counter[str]()
    rejected = Counter[str]()
    for row in iter_rows(_parts(root, "pairs"), columns=("name", "level", "split", "status", "reason")):
        if row["status"] != "kept":
            rejected[row["reason"]] += 1
            continue
        names[row["name"]] += 1
        levels[row["level"]] += 1
        splits[row["split"]] += 1
    images, images_rejected = Counter[str](), Counter[str]()
    for row in iter_rows(_parts(root, "images"), columns=("status", "reason")):
        images[row["status"]] += 1
        if row["status"] != "kept":
            images_rejected[row["reason"]] += 1
    return Summary(
        version=manifest.dataset_version,
        shards=len(manifest.shards),
        bytes=sum(entry.bytes for entry in (*manifest.shards, *manifest.files)),
        pairs=sum(entry.pairs for entry in manifest.shards),
        by_degradation=dict(sorted(names.items())),
        by_severity_level={str(number): levels[number] for number in range(1, 6)},
        by_split=dict(sorted(splits.items())),
        rejected=dict(rejected.most_common()),
        images=dict(sorted(images.items())),
        images_rejected=dict(images_rejected.most_common()),
        shows=_shows(root / "settings.json"),
    )


def _shows(settings: Path) -> str:
    return str(json.loads(settings.read_bytes())["source"].get("shows", "")) if settings.exists() else ""


def _parts(root: Path, kind: str) -> list[Path]:
    return sorted((root / "ledger").glob(f"{kind}-*.parquet"))


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def size_text(size: float) -> str:
    """Return a number of bytes for a person, three digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.4g} TB"
