"""Commits: "this work shard is done", written last, under a key that changes with whatever could change the bytes."""

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from storage.canonical import decode, digest, encode
from storage.closure import closure
from storage.errors import ShardError
from storage.files import publish_bytes, sha256_of
from storage.records import FORMAT_VERSION, ShardReport

OUTPUT_SUFFIXES = (".parquet", ".tar")
ROOT = Path(__file__).resolve().parent.parent


def commit_key(
    *, stage: str, code: str, options: Any, inputs: Sequence[str], seed: int, models: Sequence[str] = ()
) -> str:
    """Return the sha256, in hex, of all that decides what a work shard publishes.

    code: `code_version` of the stage's module. options: any record or JSON value. inputs: the sha256 of each input, in
    the order in which the stage reads them. models: name and revision of each model.
    """
    content = {
        "format": FORMAT_VERSION,
        "stage": stage,
        "code": code,
        "options": options,
        "inputs": list(inputs),
        "seed": seed,
        "models": list(models),
    }
    return digest(content)


@cache
def code_version(module: str, *, root: Path = ROOT) -> str:
    """Return the sha256, in hex, of what `module` and all modules of ours that it may import do.

    Comments, layout and docstrings do not count. root: the folder that holds our packages. Cached, because a process
    runs the code it started with. Raises ValueError if there is no such module.
    """
    return digest(closure(module, root))


def commit_path(output: str) -> Path:
    """Return the file whose presence says that the work shard with stem `output` is done."""
    return Path(f"{output}.json")


def write_commit(report: ShardReport) -> None:
    """Publish the commit of a work shard, after all its data; the same work writes the same bytes."""
    publish_bytes(commit_path(report.shard.output), encode(report), kind="commit")


def read_commit(output: str) -> ShardReport | None:
    """Return the commit of stem `output`, None when the work is not done; raises ShardError when it is not readable."""
    path = commit_path(output)
    try:
        return decode(ShardReport, path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ShardError(f"{path} is not a commit; remove it to have the work done again") from error


def sha256_of_output(stem: str) -> tuple[str, int]:
    """Return one sha256, in hex, of the data files that stem has, and their bytes together."""
    files = [path for suffix in OUTPUT_SUFFIXES if (path := Path(stem + suffix)).exists()]
    combined = hashlib.sha256(encode([(path.suffix, sha256_of(path)) for path in files]))
    return combined.hexdigest(), sum(path.stat().st_size for path in files)
