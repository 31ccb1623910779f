"""Which photographs a build is made from: what lies in the folder, what each file is, and which bucket it falls into.

The number of buckets is fixed when a dataset is made, and a source belongs to one by its hash; so photographs that are
added later change only the buckets they fall into.
"""

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from flows.work import Units
from storage.canonical import digest, encode
from storage.files import publish_bytes
from storage.ledger import read_table
from storage.records import ShardReport
from tasks import crawl
from tasks.crawl import Listing
from tasks.footage import sequence_of, with_sequences
from tasks.units import Unit

Row = dict[str, Any]


class Photographs:
    """The files below the source folder of one build."""

    def __init__(self, units: Units) -> None:
        self._units, self._settings = units, units.settings

    @cached_property
    def listing(self) -> list[Listing]:
        """Every file of the folder, or as many as the limit lets through, in the order of their uris."""
        found = list(crawl.list_folder(Path(self._settings.source.folder)))
        limit = self._settings.source.limit or len(found)
        units = {item.uri: sequence_of(item.uri) or item.uri for item in found}  # a sequence comes whole
        chosen = set(sorted(set(units.values()), key=digest)[:limit])
        return sorted((item for item in found if units[item.uri] in chosen), key=lambda item: item.uri)

    @cached_property
    def buckets(self) -> int:
        """The number of buckets: fixed when the dataset is made, from the files there were then."""
        layout = self._units.folder / "layout.json"
        if layout.exists():
            return int(json.loads(layout.read_bytes())["buckets"])
        published = Path(self._settings.output) / "manifest.json"
        if published.exists():
            return int(json.loads(published.read_bytes())["layout"]["buckets"])
        return max(1, -(-len(self.listing) // self._settings.dataset.images_per_bucket))

    def fix_buckets(self) -> None:
        """Write the number of buckets down, so that photographs added later do not change it."""
        publish_bytes(self._units.folder / "layout.json", encode({"buckets": self.buckets}), kind="commit")

    def digest(self) -> str:
        """Return a digest of the folder: what is there, and size, time and inode of each file."""
        return digest(_known_by(self.listing))

    def crawl(self) -> list[ShardReport]:
        """List the folder and hash every file; files whose size, time and inode are known are not read again."""
        rights = crawl.rights_digest(Path(self._settings.source.folder))
        return self._units.run(
            "crawl", [self._unit(part, rows, rights) for part, rows in enumerate(self._parts()) if rows]
        )

    def by_bucket(self, reports: Iterable[ShardReport]) -> tuple[dict[int, Path], Path]:
        """Return the table of readable sources of each bucket, and the table of those that could not be read."""
        buckets: dict[int, list[Row]] = {}
        failed, found = list[Row](), list[Row]()
        for report in reports:
            for row in read_table(Path(report.shard.output + ".parquet")):
                (failed if row["status"] == "failed" else found).append(row)
        for row in with_sequences(found):
            buckets.setdefault(crawl.bucket_of(row["sha256"], self.buckets), []).append(row)
        tables = {
            bucket: self._units.table(f"sources/b{bucket:06d}", _by_uri(rows), crawl.SOURCES)
            for bucket, rows in sorted(buckets.items())
        }
        return tables, self._units.table("sources/failed", _by_uri(failed), crawl.SCHEMA)

    def _parts(self) -> list[list[Listing]]:
        parts: list[list[Listing]] = [[] for _ in range(self.buckets)]
        for item in self.listing:
            parts[int(digest(item.uri)[:8], 16) % self.buckets].append(item)
        return parts

    def _unit(self, part: int, rows: Sequence[Listing], rights: str) -> Unit:
        source = self._settings.source
        options = crawl.Options(licence=source.licence, author=source.author)
        table = self._units.content(f"listing/p{part:06d}", encode(_known_by(rows)))
        return self._units.make("crawl", f"p{part:06d}", options, (source.folder, str(table)), [table.stem, rights])


def _known_by(rows: Iterable[Listing]) -> list[tuple[str, int, int, int]]:
    """Return what tells whether a file is the one that was read before."""
    return [(item.uri, item.size, item.mtime_ns, item.inode) for item in rows]


def _by_uri(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: str(row["uri"]))
