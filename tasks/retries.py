"""What follows a failed attempt at a work shard: another try, a quarantined image or an error.

The only layer that retries: Ray and Prefect are told not to. A shard is idempotent, so trying again is always safe.
`tasks.progress` writes the image a shard is on into `<output>.on`; after a death images are worked on one by one;
when a worker died twice on one image, the image is quarantined: added to `<output>.quarantine.json`, which the stage
reads and counts as rejects with the reason "crash".
"""

import json
import logging
from collections import Counter
from pathlib import Path

from storage.errors import ShardError, TransientError
from storage.records import WorkShard

log = logging.getLogger(__name__)

TRIES = 3  # of a shard that meets a TransientError, and of one whose worker dies before it names an image
BACKOFF = 4.0  # the delays are 1 s and 4 s
MOST_QUARANTINED = 8  # of one shard in one run: beyond it is not the images that are broken


class Retries:
    """The failures of one run, by shard."""

    def __init__(self) -> None:
        self._transient: Counter[str] = Counter()
        self._deaths: Counter[tuple[str, str]] = Counter()
        self._quarantined: Counter[str] = Counter()

    def delay(self, shard: WorkShard, error: TransientError) -> float:
        """Return the seconds to wait before the next try of `shard`; raises `error` when it was the last."""
        self._transient[shard.output] += 1
        if self._transient[shard.output] == TRIES:
            raise error
        return BACKOFF ** (self._transient[shard.output] - 1)

    def died(self, shard: WorkShard, error: Exception) -> None:
        """Note that the worker on `shard` died; raises ShardError when another try cannot help."""
        key = take_key(shard)
        self._deaths[shard.output, key] += 1
        deaths = self._deaths[shard.output, key]
        alone = Path(f"{shard.output}.alone")
        alone.parent.mkdir(parents=True, exist_ok=True)
        alone.touch()
        log.warning("worker died stage=%s bucket=%s key=%s deaths=%d", shard.stage, shard.bucket, key or "-", deaths)
        if not key and deaths == TRIES:
            message = f"{shard.stage} {shard.bucket}: its worker died {deaths} times before the first image"
            raise ShardError(message) from error
        if key and deaths == 2:
            self._quarantine(shard, key, error)

    def _quarantine(self, shard: WorkShard, key: str, error: Exception) -> None:
        self._quarantined[shard.output] += 1
        if self._quarantined[shard.output] > MOST_QUARANTINED:
            raise ShardError(f"{shard.stage} {shard.bucket}: its worker dies on every image, last on {key}") from error
        path = Path(f"{shard.output}.quarantine.json")
        keys = set(json.loads(path.read_bytes())) if path.exists() else set()
        aside = path.with_name(f"{path.name}.part")
        aside.write_text(json.dumps(sorted(keys | {key})))
        aside.replace(path)


def take_key(shard: WorkShard) -> str:
    """Return and forget the image `shard` was on, empty when it was on none."""
    path = Path(f"{shard.output}.on")
    key = path.read_text().strip() if path.exists() else ""
    path.unlink(missing_ok=True)
    return key
