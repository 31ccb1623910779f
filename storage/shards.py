"""WebDataset shards: plain USTAR with one form for one content, so that the same pairs make the same bytes.

A member is `<key>.<suffix>`; the members of a key lie together, sorted by suffix. The reader accepts what the writer
writes and nothing else: a header must equal, byte for byte, the one that its name and size give. So links, devices,
paths, PAX and GNU extensions, and whatever a tar may grow next are refused without a list of them.
"""

import hashlib
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from storage.errors import ShardError
from storage.files import Kind, publish

KEY = re.compile(r"[a-z0-9][a-z0-9_-]*")
SUFFIX = re.compile(r"[a-z0-9][a-z0-9_-]*(\.[a-z0-9][a-z0-9_-]*)*")
CODE_SUFFIXES = frozenset({"pickle", "pkl", "pyd", "pth", "pt", "py"})  # some readers run what is in these
MAX_MEMBER = 2**30
MAX_MEMBERS = 64  # of one key
MAX_NAME = 100  # of a member: the name field of USTAR, without its prefix field

_BLOCK = 512
_RECORD = 20 * _BLOCK  # tar files end at a multiple of this
_END = 2 * _BLOCK  # of zeros, at least


class ShardWriter(AbstractContextManager["ShardWriter"]):
    """Writes a shard sample by sample; the file appears, whole, when the block ends without an exception.

    `sha256` and `bytes` are those of the whole file, `index` holds its samples for `dali_index`; read them after the
    block.
    """

    def __init__(self, path: Path, *, kind: Kind = "data") -> None:
        self.path = path
        self.bytes = 0
        self.index: dict[str, list[tuple[str, int, int]]] = {}
        self._sha256 = hashlib.sha256()
        self._publication = publish(path, kind=kind)
        self._file: BinaryIO | None = None

    @property
    def sha256(self) -> str:
        """The sha256, in hex, of what is written so far; of the file once the block has ended."""
        return self._sha256.hexdigest()

    def __enter__(self) -> "ShardWriter":
        self._file = self._publication.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            try:
                self._write(bytes(_tail(self.bytes)))
            except BaseException as failure:
                self._publication.__exit__(type(failure), failure, failure.__traceback__)
                raise
        self._publication.__exit__(kind, error, traceback)

    def add(self, key: str, members: Mapping[str, bytes]) -> dict[str, tuple[int, int]]:
        """Write the sample `key`; return where each member's data lies, (offset, size) by suffix.

        members: bytes by suffix, without a leading dot ("clean.webp", "json"). Raises ValueError for an illegal or
        repeated key and for an illegal, oversized or missing member, before anything of the sample is written.
        """
        if not KEY.fullmatch(key):
            raise ValueError(f"a key starts with a-z or 0-9 and goes on with these, _ and -; got {key!r}")
        if key in self.index:
            raise ValueError(f"key {key} is in the shard already")
        if not 0 < len(members) <= MAX_MEMBERS:
            raise ValueError(f"a key has 1 to {MAX_MEMBERS} members, {key} has {len(members)}")
        headers = {suffix: _header(f"{key}.{suffix}", len(members[suffix])) for suffix in sorted(members)}
        self.index[key] = [(suffix, *self._member(headers[suffix], members[suffix])) for suffix in headers]
        return {suffix: (offset, size) for suffix, offset, size in self.index[key]}

    def _member(self, header: bytes, data: bytes) -> tuple[int, int]:
        self._write(header)
        offset = self.bytes
        self._write(data)
        self._write(bytes(-len(data) % _BLOCK))
        return offset, len(data)

    def _write(self, data: bytes) -> None:
        assert self._file is not None, "a ShardWriter writes inside its with block"
        self._file.write(data)
        self._sha256.update(data)
        self.bytes += len(data)


def dali_index(writer: ShardWriter) -> bytes:
    """Return the index, version 1.2, by which NVIDIA DALI finds samples: `<suffix> <offset> <size> <name>` of each."""
    lines = (
        " ".join(f"{suffix} {offset} {size} {key}.{suffix}" for suffix, offset, size in members)
        for key, members in writer.index.items()
    )
    return "\n".join([f"v1.2 {len(writer.index)}", *lines, ""]).encode()


def shard_list(name: str, entries: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the shard list of dataset `name` in wids form; each entry has url, nsamples and, better, filesize."""
    shards = [dict(entry) for entry in entries]
    if missing := [entry for entry in shards if not {"url", "nsamples"} <= set(entry)]:
        raise ValueError(f"an entry of a shard list needs url and nsamples, got {missing[0]}")
    return {"__kind__": "wids-shard-index-v1", "wids_version": 1, "name": name, "shardlist": shards}


def read_shard(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield the samples of a shard in order: key, and bytes by suffix.

    Raises ShardError, naming the file, at the first byte that no ShardWriter writes: whatever is no regular file, an
    illegal or repeated name, a key that comes back, a file cut short or followed by others.
    """
    seen: set[str] = set()
    key, members = "", dict[str, bytes]()
    for name, data in _members(path):
        owner, _, suffix = name.partition(".")
        if owner != key:
            if key:
                yield key, members
            if owner in seen:
                raise ShardError(f"{path}: key {owner} comes back after others")
            seen.add(owner)
            key, members = owner, {}
        if members and suffix <= next(reversed(members)):
            raise ShardError(f"{path}: {name} is repeated or out of order")
        if len(members) == MAX_MEMBERS:
            raise ShardError(f"{path}: key {key} has more than {MAX_MEMBERS} members")
        members[suffix] = data
    if key:
        yield key, members


def read_member(path: Path, offset: int, size: int) -> bytes:
    """Return the `size` bytes at `offset`, as `ShardWriter.add` returned them; raises ShardError if there are fewer."""
    with path.open("rb", buffering=0) as file:
        data = os.pread(file.fileno(), size, offset)
    if len(data) != size:
        raise ShardError(f"{path} has {len(data)} of {size} bytes at {offset}; it was cut short")
    return data


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    with path.open("rb") as file:
        total = os.fstat(file.fileno()).st_size
        position = 0
        while any(header := file.read(_BLOCK)):
            name, size = _parse(header, path)
            position += _BLOCK + size + -size % _BLOCK
            if position + _END > total:
                raise ShardError(f"{path}: {name} ends after the file")
            data = file.read(size)
            if any(file.read(-size % _BLOCK)):
                raise ShardError(f"{path}: {name} is padded with other bytes than zeros")
            yield name, data
        rest = len(header) + _count_zeros(file)
        if rest != _tail(position) or position + rest != total:
            raise ShardError(f"{path} is cut short or followed by other bytes")


def _parse(header: bytes, path: Path) -> tuple[str, int]:
    """Return name and size of a member whose header is the one that `_header` makes of them."""
    try:
        name = header[:MAX_NAME].rstrip(b"\0").decode("ascii")
        size = int(header[124:135].decode("ascii"), 8)
        expected = _header(name, size)
    except ValueError as error:
        raise ShardError(f"{path} holds what is no member of a shard: {error}") from error
    if header != expected:
        raise ShardError(f"{path}: {name} is no plain member: its header says more than a name and a size")
    return name, size


def _header(name: str, size: int) -> bytes:
    """Return the USTAR header of a regular file: time 0, owner 0 without a name, read-only."""
    key, _, suffix = name.partition(".")
    if not KEY.fullmatch(key) or not SUFFIX.fullmatch(suffix) or len(name) > MAX_NAME:
        raise ValueError(f"{name!r} is not <key>.<suffix> in a-z, 0-9, _ and -, up to {MAX_NAME} characters")
    if suffix.rpartition(".")[2] in CODE_SUFFIXES:
        raise ValueError(f"{name!r} may hold code, which no shard may")
    if not 0 <= size <= MAX_MEMBER:
        raise ValueError(f"{name!r} must be 0 to {MAX_MEMBER} bytes, got {size}")
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o444
    return member.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


def _tail(position: int) -> int:
    """Return how many zeros end a file whose members end at `position`."""
    return _END + -(position + _END) % _RECORD


def _count_zeros(file: BinaryIO) -> int:
    rest = file.read(_RECORD)
    return len(rest) if not any(rest) else -1
