"""Map: list a folder of any size and hash every file in it. Every file gets a row, whatever becomes of it.

A uri is the path below the folder, "/" between its parts. Names are bytes, and hostile ones survive: a byte that is not
UTF-8, a control character and "%" itself stand percent-encoded, so that a uri is one line of text and `path_of` finds
the file again. Linked folders are listed, not entered: a link may lead anywhere, also back.

Rights: a table `licences.tsv`, `LICENSES.tsv` or `MANIFEST.tsv` with the columns path, licence and, if known, author in
the folder or in any below it speaks for the files it names, the nearest table first; `Options` speak for the rest.
"""

import csv
import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote_to_bytes

import pyarrow as pa
from pydantic import BaseModel, Field

from storage.canonical import decode, digest
from storage.commits import sha256_of_output
from storage.errors import ShardError
from storage.ledger import write_table
from storage.records import ShardReport, WorkShard
from tasks.progress import finished, quarantined, working_on

SCHEMA = pa.schema(
    [
        ("uri", pa.string()),
        ("sha256", pa.string()),
        ("bytes", pa.int64()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("licence", pa.string()),
        ("author", pa.string()),
    ]
)
SOURCES = SCHEMA.append(pa.field("frames", pa.string()))  # of a sequence: JSON of uri, sha256 and bytes of each
RIGHTS_TABLES = ("licences.tsv", "LICENSES.tsv", "MANIFEST.tsv")

_CHUNK = 1 << 20

Row = dict[str, Any]
Terms = tuple[str, str]


class Options(BaseModel, frozen=True, extra="forbid"):
    """licence, author: of files no rights table names. max_bytes: of one file, larger ones are not read."""

    licence: str = "unknown"
    author: str = "unknown"
    max_bytes: Annotated[int, Field(gt=0)] = 512 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One entry of the folder. Size, time and inode tell, without reading it, whether a file has changed."""

    uri: str
    size: int
    mtime_ns: int
    inode: int


class _Unusable(Exception):  # noqa: N818  (it carries a reason from where it is found to the row)
    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail


def run(shard: WorkShard, options: Options) -> ShardReport:
    """Hash the files of one part of the listing.

    inputs: the folder, and a JSON list of [uri, size, mtime_ns, inode]. Publishes `<output>.parquet`, one row per
    entry, status "found", or "failed" with the reason unreadable, vanished, not_a_file, empty, too_many_bytes or crash.
    """
    folder, part = Path(shard.inputs[0]), Path(shard.inputs[1])
    rights, lost = _Rights(folder, options), quarantined(shard)
    rows = []
    for uri, *_ in decode(list[tuple[str, int, int, int]], part.read_bytes()):
        working_on(shard, uri)
        rows.append(_row(folder, uri, rights, options, crashed=uri in lost))
    write_table(Path(shard.output + ".parquet"), sorted(rows, key=lambda row: str(row["uri"])), SCHEMA)
    finished(shard)
    rejected = Counter(row["reason"] for row in rows if row["reason"])
    sha256, size = sha256_of_output(shard.output)
    kept = len(rows) - sum(rejected.values())
    return ShardReport(shard=shard, kept=kept, rejected=dict(rejected), bytes=size, sha256=sha256)


def list_folder(folder: Path) -> Iterator[Listing]:
    """Yield an entry for everything below `folder` that is no folder, and for folders that cannot be read or are links.

    In order of the paths' bytes, the same on every machine. One folder's names are held in memory at a time. Raises
    OSError if `folder` itself cannot be read.
    """
    pending = [_names(folder, "")]
    while pending:
        path = next(pending[-1], None)
        if path is None:
            pending.pop()
        elif not path.endswith("/"):
            yield _listing(folder, path)
        else:
            try:
                pending.append(_names(folder, path))
            except OSError:
                yield Listing(uri=uri_of(path), size=0, mtime_ns=0, inode=0)


def uri_of(path: str) -> str:
    """Return the uri of a relative path, bytes that are not UTF-8 as surrogates, as `os.fsdecode` has them."""
    return "".join(_quoted(letter) if _is_hostile(letter) else letter for letter in path)


def path_of(folder: Path, uri: str) -> Path:
    """Return the path of a uri below `folder`; raises ValueError if it leads out of the folder."""
    path = os.fsdecode(unquote_to_bytes(uri))
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"{uri} leads out of the folder")
    return folder / path


def bucket_of(sha256: str, buckets: int) -> int:
    """Return the bucket, below `buckets`, of a source by the first 64 bits of its hash."""
    return int(sha256[:16], 16) % buckets


def rights_digest(folder: Path) -> str:
    """Return a digest of all rights tables below `folder`: a changed licence is a changed input."""
    tables = [item for item in list_folder(folder) if item.uri.rpartition("/")[2] in RIGHTS_TABLES]
    return digest([(item.uri, item.size, item.mtime_ns) for item in tables])


def _names(root: Path, folder: str) -> Iterator[str]:
    with os.scandir(root / folder) as entries:
        names = [entry.name + "/" * entry.is_dir(follow_symlinks=False) for entry in entries]
    return iter([folder + name for name in sorted(names, key=os.fsencode)])


def _listing(root: Path, path: str) -> Listing:
    try:
        found = (root / path).stat()
    except OSError:
        return Listing(uri=uri_of(path), size=0, mtime_ns=0, inode=0)
    return Listing(uri=uri_of(path), size=found.st_size, mtime_ns=found.st_mtime_ns, inode=found.st_ino)


def _is_hostile(letter: str) -> bool:
    return letter < " " or "\x7f" <= letter < "\xa0" or letter in "%\u2028\u2029" or "\ud800" <= letter <= "\udfff"


def _quoted(letter: str) -> str:
    return "".join(f"%{byte:02X}" for byte in letter.encode("utf-8", "surrogateescape"))


def _row(folder: Path, uri: str, rights: "_Rights", options: Options, *, crashed: bool) -> Row:
    licence, author = rights.of(uri)
    row = {"uri": uri, "sha256": "", "bytes": 0, "licence": licence, "author": author}
    try:
        if crashed:
            raise _Unusable("crash", "the worker died on this file twice")
        sha256, size = _hashed(path_of(folder, uri), options.max_bytes)
    except _Unusable as error:
        return {**row, "status": "failed", "reason": error.reason, "detail": error.detail}
    except FileNotFoundError:
        return {**row, "status": "failed", "reason": "vanished", "detail": "it was listed but is not there"}
    except IsADirectoryError:
        return {**row, "status": "failed", "reason": "not_a_file", "detail": "a folder behind a link"}
    except OSError as error:
        return {**row, "status": "failed", "reason": "unreadable", "detail": error.strerror or type(error).__name__}
    return {**row, "status": "found", "reason": "", "detail": "", "sha256": sha256, "bytes": size}


def _hashed(path: Path, max_bytes: int) -> tuple[str, int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe must not keep us waiting
    with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123  (of a descriptor)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _Unusable("not_a_file", "a pipe, a socket or a device")
        if found.st_size > max_bytes:
            raise _Unusable("too_many_bytes", f"{found.st_size} bytes are more than {max_bytes}")
        sha256, size = hashlib.sha256(), 0
        while data := file.read(_CHUNK):
            sha256.update(data)
            size += len(data)
            if size > max_bytes:
                raise _Unusable("too_many_bytes", f"it grew beyond {max_bytes} bytes while it was read")
    if not size:
        raise _Unusable("empty", "the file has no bytes")
    return sha256.hexdigest(), size


class _Rights:
    """Licence and author of files, from the tables beside and above them; each table is read once."""

    def __init__(self, folder: Path, options: Options) -> None:
        self._folder, self._default = folder, (options.licence, options.author)
        self._tables: dict[str, Mapping[str, Terms]] = {}

    def of(self, uri: str) -> Terms:
        below = uri.split("/")
        for depth in range(len(below) - 1, -1, -1):
            found = self._table("/".join(below[:depth])).get("/".join(below[depth:]))
            if found:
                return found[0] or self._default[0], found[1] or self._default[1]
        return self._default

    def _table(self, uri: str) -> Mapping[str, Terms]:
        if uri not in self._tables:
            folder = path_of(self._folder, uri)
            paths = [folder / name for name in reversed(RIGHTS_TABLES)]
            self._tables[uri] = {name: terms for path in paths for name, terms in _read_rights(path)}
        return self._tables[uri]


def _read_rights(path: Path) -> Iterator[tuple[str, Terms]]:
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                licence = row.get("licence") or row.get("license") or ""
                if name := row.get("path"):
                    yield uri_of(name.removeprefix("./")), (_text(licence), _text(row.get("author") or ""))
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, csv.Error) as error:  # silence would strip the rights from all the files it names
        raise ShardError(f"the rights table {str(path)!r} cannot be read: {error}") from error


def _text(value: str) -> str:
    return value.encode("utf-8", "replace").decode().strip()
