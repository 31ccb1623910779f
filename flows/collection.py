"""A collection: photographs that really show a degradation, kept as they are; nothing is made of them.

RealRestorer collects real images so (arXiv 2603.25502, section 3.1 and appendix A.2): CLIP keeps those of a type, a
detector drops watermarks, a vision-language model those that are not degraded enough. What is kept is published as
decoded by the clean stage, without metadata: `photographs/<degradation>/<key>.webp`, a folder that `pairforge evaluate`
and `pairforge restore` take as it stands. The ledger says of every photograph why it was kept or dropped.
"""

from collections.abc import Mapping
from pathlib import Path

from storage.files import publish_bytes
from storage.ledger import read_table
from storage.records import ShardReport
from storage.shards import read_member

FOLDER = "photographs"


def kept_photographs(
    cleaned: Mapping[int, ShardReport], scenes: Mapping[int, Path], *, shows: str, codec: str, work: Path
) -> dict[str, Path]:
    """Write the photographs that were kept below `work`; return the file of each by the name it is published under."""
    files = {}
    for bucket, report in cleaned.items():
        kept = {row["key"] for row in read_table(scenes[bucket], columns=("key", "keep")) if row["keep"]}
        for row in read_table(Path(report.shard.output + ".parquet")):
            if row["key"] in kept and row["status"] == "kept":
                name = f"{FOLDER}/{shows}/{row['key']}.{codec}"
                files[name] = work / name
                publish_bytes(files[name], read_member(Path(report.shard.output + ".tar"), row["offset"], row["size"]))
    return files
