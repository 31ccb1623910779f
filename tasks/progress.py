"""Where a work shard is, in files beside its output, so that what kills a worker can be found and left out.

`<output>.on` holds the key that is being worked on; `<output>.alone` is there once a worker has died on the shard: its
images then go through a model one by one; `<output>.quarantine.json`, a JSON list, holds the keys that killed their
worker twice. `tasks.retries` writes the last two. The stage counts those keys as rejects with the reason "crash".
"""

import json
from pathlib import Path

from storage.records import WorkShard


def working_on(shard: WorkShard, key: str) -> None:
    """Note that the work on `key` begins. Not flushed to disk: it need only survive this process."""
    path = Path(f"{shard.output}.on")
    try:
        path.write_text(key)
    except FileNotFoundError:  # the first unit of a stage, before it has published anything
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(key)


def may_work_together(shard: WorkShard) -> bool:
    """Return whether images of `shard` may go through a model together.

    Not once a worker has died on it: one by one the image that kills is known. An interrupted run changes nothing.
    """
    return not Path(f"{shard.output}.alone").exists()


def finished(shard: WorkShard) -> None:
    """Note that `shard` is on no key any more."""
    for suffix in ("on", "alone"):
        Path(f"{shard.output}.{suffix}").unlink(missing_ok=True)


def quarantined(shard: WorkShard) -> frozenset[str]:
    """Return the keys of `shard` that killed their worker twice."""
    path = Path(f"{shard.output}.quarantine.json")
    return frozenset(json.loads(path.read_bytes())) if path.exists() else frozenset()
