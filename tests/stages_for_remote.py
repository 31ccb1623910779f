"""A stage for test_remote.py, in a module of its own because workers must be able to import it."""

import errno
import os
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from storage.errors import SourceError, TransientError
from storage.records import ShardReport, WorkShard
from tasks.preparing import Beside, Group, grouped
from tasks.progress import finished, quarantined, working_on


class Options(BaseModel, frozen=True, extra="forbid"):
    """What befalls whom: keys are inputs of the work shard."""

    dies: tuple[str, ...] = ()  # the worker is killed at these keys
    dies_once: tuple[str, ...] = ()  # only the first time
    raises: str = ""
    seconds: float = 0.0  # per key
    prepare_dies_once: tuple[str, ...] = ()  # what prepares these keys is killed, the first time
    prepare_raises: tuple[str, ...] = ()
    prepare_seconds: float = 0.0  # per key
    finish_dies_once: tuple[str, ...] = ()  # and what finishes these
    finish_raises: tuple[str, ...] = ()
    finish_seconds: float = 0.0  # per key


def run(shard: WorkShard, options: Options) -> ShardReport:
    """Write the kept keys of `shard` and a line about this process."""
    note(shard, f"{os.getpid()} {cv2.getNumThreads()} {os.environ.get('OMP_NUM_THREADS')} {__file__} {time.time()}")
    fail(shard, options.raises)
    rejected = quarantined(shard)
    kept = [key for key in shard.inputs if key not in rejected]
    for key in kept:
        working_on(shard, key)
        once = Path(f"{shard.output}.{key}.died")
        if key in options.dies or (key in options.dies_once and not once.exists()):
            once.touch()
            os._exit(1)
        time.sleep(options.seconds)
    text = " ".join(kept).encode()
    Path(f"{shard.output}.txt").write_bytes(text)
    finished(shard)
    crashes = {"crash": len(shard.inputs) - len(kept)} if len(kept) < len(shard.inputs) else {}
    return ShardReport(shard=shard, kept=len(kept), rejected=crashes, bytes=len(text), sha256=sha256(text).hexdigest())


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A key made ready: by which process, and something large."""

    key: str
    process: int
    pixels: NDArray[np.uint8]


class Model:
    """The stage with weights: notes each loading."""

    def __init__(self, options: Options, device: str) -> None:
        self._options = options
        self._name = f"{os.getpid()}-{time.monotonic_ns()}-{device}"

    def run(self, shard: WorkShard, beside: Beside | None = None) -> ShardReport:
        """Do `shard`, noting which model did, and of what was prepared elsewhere when it computed on it."""
        note(shard, self._name, suffix="model")
        if beside is None:
            return run(shard, self._options)
        for key in beside.finished(self._computed(shard, ready) for ready in beside.prepared):
            note(shard, key, suffix="taken")
        return run(shard, self._options.model_copy(update={"seconds": 0.0}))

    def _computed(self, shard: WorkShard, ready: Ready) -> tuple[str, str]:
        begun = time.time()
        time.sleep(self._options.seconds)
        note(shard, f"{ready.key} {begun} {time.time()} {ready.process} {ready.pixels.sum()}", suffix="computed")
        return ready.key, shard.output


def groups(shard: WorkShard, options: Options) -> list[Group]:
    """Return each key of `shard` as a group of its own."""
    return grouped([{"key": key, "output": shard.output} for key in shard.inputs], 1)


def prepare(group: Group, options: Options) -> Ready:
    """Take the time that preparing takes, and note when."""
    ((key,), (row,)) = group.keys, group.rows
    begun, died = time.time(), Path(f"{row['output']}.{key}.died")
    time.sleep(options.prepare_seconds)
    if key in options.prepare_raises:
        raise SourceError("not_an_image", f"{key} is not an image")
    if key in options.prepare_dies_once and not died.exists():
        died.touch()
        os._exit(1)
    with Path(f"{row['output']}.prepared").open("a") as file:
        file.write(f"{key} {begun} {time.time()}\n")
    return Ready(key=key, process=os.getpid(), pixels=np.full((512, 512, 3), int(key[:-1]), np.uint8))


def finish(found: tuple[str, str], options: Options) -> str:
    """Take the time that finishing takes, and note when and where."""
    (key, output), begun = found, time.time()
    time.sleep(options.finish_seconds)
    died = Path(f"{output}.{key}.died")
    if key in options.finish_dies_once and not died.exists():
        died.touch()
        os._exit(1)
    if key in options.finish_raises:
        raise SourceError("not_finished", f"{key} cannot be finished")
    with Path(f"{output}.finished").open("a") as file:
        file.write(f"{key} {begun} {time.time()} {os.getpid()}\n")
    return key


def open(options: Options, device: str) -> Model:  # noqa: A001 (the contract)
    """Load the "weights"."""
    if options.raises == "load":
        raise SourceError("no_weights", "there are no weights")
    return Model(options, device)


def note(shard: WorkShard, line: str, suffix: str = "notes") -> None:
    """Append `line` to the shard's notes."""
    with Path(f"{shard.output}.{suffix}").open("a") as file:
        file.write(f"{line}\n")


def fail(shard: WorkShard, how: str) -> None:
    """Raise what `how` says."""
    tries = len(Path(f"{shard.output}.notes").read_text().splitlines())
    if how == "source":
        raise SourceError("not_an_image", "cat.jpg is not an image")
    if how == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), shard.output)
    if how == "value":
        raise ValueError("severity must be in [0, 1], got 1.4")
    if how == "network once" and tries == 1:
        raise TransientError("no answer")
    if how == "memory" or (how == "memory once" and tries == 1):
        raise MemoryError("no room for 8 GiB")
