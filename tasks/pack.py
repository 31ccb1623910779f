"""Map: write one shard of the published dataset, and beside it what replay needs, by copying encoded bytes."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
from pydantic import BaseModel, Field

from storage import samples
from storage.canonical import digest, encode
from storage.files import publish_bytes
from storage.ledger import read_table
from storage.records import PublishedFile, ShardReport, WorkShard
from storage.shards import ShardWriter, dali_index, read_member
from tasks.progress import finished

Row = Mapping[str, Any]

# What goes where: one row per pair of a shard. places: JSON, member -> [file, offset, size], in either tar.
PLAN = pa.schema([("key", pa.string()), ("pair", pa.string()), ("pixels", pa.string()), ("annotations", pa.string())])


class Options(BaseModel, frozen=True, extra="forbid"):
    """codec: of the pixels, lossless either way. pairs_per_shard: upper end; shards hold between half of it and it."""

    codec: samples.Codec = "webp"
    pairs_per_shard: Annotated[int, Field(ge=1)] = 1000


def run(shard: WorkShard, options: Options) -> ShardReport:
    """Write a shard, the annotations beside it, their indexes and `<output>.files.json`, which says what they hold."""
    plan, stem = read_table(Path(shard.inputs[0])), shard.output
    with ShardWriter(Path(f"{stem}.tar")) as pixels, ShardWriter(Path(f"{stem}.annotations.tar")) as beside:
        for row in plan:
            pixels.add(row["key"], {**_copied(row["pixels"]), "json": row["pair"].encode()})
            beside.add(row["key"], {**_copied(row["annotations"]), "json": _inputs(row["pair"])})
    publish_bytes(Path(f"{stem}.idx"), dali_index(pixels))
    publish_bytes(Path(f"{stem}.annotations.idx"), dali_index(beside))
    counts = Counter(json.loads(row["pair"])["recipe"]["name"] for row in plan)
    files = {
        "shards": PublishedFile(
            name=f"shards/{shard.bucket}.tar", pairs=len(plan), bytes=pixels.bytes, sha256=pixels.sha256, counts=counts
        ),
        "annotations": PublishedFile(
            name=f"annotations/{shard.bucket}.tar", pairs=len(plan), bytes=beside.bytes, sha256=beside.sha256, counts={}
        ),
    }
    publish_bytes(Path(f"{stem}.files.json"), encode(files))
    finished(shard)
    size = pixels.bytes + beside.bytes
    return ShardReport(shard=shard, kept=len(plan), rejected={}, bytes=size, sha256=digest(files))


def _copied(places: str) -> dict[str, bytes]:
    return {
        suffix: read_member(Path(file), offset, size) for suffix, (file, offset, size) in json.loads(places).items()
    }


def _inputs(pair: str) -> bytes:
    steps = json.loads(pair)["recipe"]["steps"]
    return encode({step["degradation"]: step["inputs"] for step in steps})
