"""Shards of others, in WebDataset form: read as a stream, because they have no index that says what stands where.

Our own shards are the better way: of these no restart repeats the order. A run that goes on draws anew from all shards,
so over many steps every sample comes equally often, but which one stands at a position is not known beforehand.
"""

import hashlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from storage.errors import SettingsError, ShardError
from storage.samples import MAX_PIXELS
from training.data.examples import Pair
from training.data.index import RECORD, Index

SHUFFLED = 200  # samples held, encoded, from which the next is drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """Which shards, and what their members are. clean and degraded: suffixes such as "gt.png". All are one task."""

    shards: tuple[Path, ...]
    clean: str
    degraded: str
    task: str
    instruction: str

    def index(self) -> Index:
        """Return an index without records: the task, and a digest of the files' names and sizes.

        Raises SettingsError when a file is missing; only files are read, no address and no command.
        """
        missing = [path for path in self.shards if not path.is_file()]
        if missing or not self.shards:
            raise SettingsError(f"data.foreign: {missing[0] if missing else 'shards'} is no file; name tar files")
        known = "".join(f"{path.name} {path.stat().st_size}\n" for path in self.shards)
        return Index(
            shards=self.shards,
            tasks=(self.task,),
            instructions=(self.instruction,),
            records=np.zeros(0, RECORD),
            digest=hashlib.sha256(known.encode()).hexdigest(),
        )


class ForeignPairs:
    """A source of pairs that ignores positions: whoever asks is given the next of the stream.

    rank: ranks draw differently. begun: the step a run starts at, so that one that goes on does not begin as before.
    """

    def __init__(self, foreign: Foreign, *, seed: int, rank: int = 0, begun: int = 0) -> None:
        self._foreign, self._key = foreign, (seed, rank, begun)
        self._lock = threading.Lock()
        self._stream: Iterator[Mapping[str, Any]] | None = None

    def pair(self, position: int) -> Pair:
        """Return the next pair; raises ShardError, naming file and key, when it is none."""
        with self._lock:
            if self._stream is None:
                self._stream = _opened(self._foreign, self._key)
            try:
                sample = next(self._stream)
            except (OSError, ValueError) as error:
                raise ShardError(f"a foreign shard cannot be read: {error}") from error
        where = f"{sample['__url__']}: {sample['__key__']}"
        clean, degraded = (_image(sample, suffix, where) for suffix in (self._foreign.clean, self._foreign.degraded))
        if clean.shape != degraded.shape:
            raise ShardError(f"{where}: the clean image is {clean.shape}, the degraded one {degraded.shape}")
        return Pair(
            key=str(sample["__key__"]),
            task=self._foreign.task,
            instruction=self._foreign.instruction,
            clean=clean,
            degraded=degraded,
        )


def _opened(foreign: Foreign, key: tuple[int, int, int]) -> Iterator[Mapping[str, Any]]:
    try:
        import webdataset
        from webdataset.shardlists import ResampledShards
        from webdataset.tariterators import group_by_keys, tar_file_expander
    except ImportError as error:
        raise SettingsError("data.foreign needs webdataset: install it, or convert to shards of ours") from error
    seed = int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=4).digest(), "big")
    files = [str(path) for path in foreign.shards]
    stream: Iterator[Mapping[str, Any]] = iter(
        webdataset.DataPipeline(
            ResampledShards(files, seed=seed, worker_seed=lambda: 0, deterministic=True),
            _streams,
            tar_file_expander,
            group_by_keys,  # members stay bytes: nothing in a shard is run or unpickled
            webdataset.detshuffle(SHUFFLED, seed=seed),
        )
    )
    return stream


def _streams(shards: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Open each shard and close it again, which webdataset's own opener leaves to chance; nor does it run commands."""
    for shard in shards:
        with Path(shard["url"]).open("rb") as file:
            yield {**shard, "stream": file}


def _image(sample: Mapping[str, Any], suffix: str, where: str) -> NDArray[np.uint8]:
    """Return a member as uint8 (H, W, 3) RGB, whatever codec it is in."""
    import io

    from PIL import Image, UnidentifiedImageError

    if suffix not in sample:
        held = ", ".join(name for name in sample if not name.startswith("__"))
        raise ShardError(f"{where} has no member {suffix}, only {held}")
    data = sample[suffix]
    try:
        with Image.open(io.BytesIO(data)) as header:
            pixels = header.width * header.height
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise ShardError(f"{where}: {suffix} is no image") from error
    if pixels > MAX_PIXELS:
        raise ShardError(f"{where}: {suffix} has {pixels} pixels, more than {MAX_PIXELS}")
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if decoded is None:
        raise ShardError(f"{where}: {suffix} is no whole image")
    return np.asarray(decoded, dtype=np.uint8)
