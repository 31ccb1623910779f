"""`pairforge verify`: are the files what the manifest says, and do recipes still make the same bytes?"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from flows.console import Console
from flows.dataset import Dataset, StoredPair
from flows.staging import code
from storage import samples
from storage.errors import PairForgeError
from storage.files import sha256_of
from storage.records import PublishedFile
from tasks.mixture import order

Chosen = tuple[str, str, str]  # name, key and shard of a pair


def verify_command(root: Path, *, replay: int, as_json: bool) -> int:
    """Check every hash and replay up to `replay` pairs, evenly over the degradations; returns the exit status."""
    console = Console(as_json=as_json)
    dataset = Dataset(root)
    errors = list(_hash_errors(dataset, console))
    chosen = _chosen(dataset, replay) if replay else []
    different = list(_different(dataset, chosen, console))
    data: dict[str, Any] = {
        "version": dataset.manifest.dataset_version,
        "shards": len(dataset.manifest.shards),
        "files": len(dataset.manifest.files),
        "hash_errors": len(errors),
        "replayed": len(chosen),
        "identical": len(chosen) - len(different),
        "replayed_by_degradation": dict(sorted(Counter(name for name, _, _ in chosen).items())),
        "same_code": dataset.manifest.code_version == code(),
        "problems": [*errors, *different],
    }
    console.result(data, _text(data))
    return 1 if data["problems"] else 0


def _hash_errors(dataset: Dataset, console: Console) -> Iterator[str]:
    entries = (*dataset.manifest.shards, *dataset.manifest.files)
    for number, entry in enumerate(entries, start=1):
        console.progress(f"hashing {number} of {len(entries)} files", final=number == len(entries))
        if problem := _problem(dataset.root / entry.name, entry):
            yield f"{entry.name}: {problem}"


def _problem(path: Path, entry: PublishedFile) -> str:
    if not path.is_file():
        return "is missing"
    if path.stat().st_size != entry.bytes:
        return f"has {path.stat().st_size} bytes, the manifest says {entry.bytes}"
    return "" if sha256_of(path) == entry.sha256 else "has another sha256 than the manifest says"


def _different(dataset: Dataset, chosen: Sequence[Chosen], console: Console) -> Iterator[str]:
    for number, (_, key, shard) in enumerate(chosen, start=1):
        console.progress(f"replaying {number} of {len(chosen)} pairs", final=number == len(chosen))
        try:
            problem = difference(dataset.stored(key, shard))
        except (PairForgeError, OSError, ValueError) as error:  # damaged files, or recipes of another version
            problem = f"cannot be replayed: {error}"
        if problem:
            yield f"{key}: {problem}"


def _chosen(dataset: Dataset, count: int) -> list[Chosen]:
    """Return the pairs to replay: in turn one of each degradation, in the order of their hashes."""
    by_name: dict[str, list[Chosen]] = {}
    for row in dataset.rows("pairs", ("key", "name", "shard", "status")):
        if row["status"] == "kept":
            by_name.setdefault(row["name"], []).append((row["name"], row["key"], row["shard"]))
    queues = [sorted(pairs, key=lambda item: order(item[1])) for _, pairs in sorted(by_name.items())]
    turns = (queue[turn] for turn in range(count) for queue in queues if turn < len(queue))
    return [pair for _, pair in zip(range(count), turns, strict=False)]


def difference(stored: StoredPair) -> str:
    """Return how what the recipe makes now differs from what is stored, or an empty string: byte for byte the same."""
    from degradations.pairs.render import replay

    scene, inputs = stored.replayable()
    made = replay(scene, stored.pair.recipe, inputs)
    for side, image in (("clean", made.clean), ("degraded", made.degraded)):
        kept = stored.image(side)
        if image.shape != kept.shape:
            return f"{side} is {image.shape}, stored {kept.shape}"
        if largest := int(abs(image.astype(int) - kept.astype(int)).max(initial=0)):
            return f"{side} differs by up to {largest} codes"
        if samples.pixels_sha256(image) != getattr(stored.pair, side):
            return f"the record's hash of {side} is not that of its pixels"
    return ""


def _text(data: dict[str, Any]) -> str:
    lines = [
        f"version {data['version']}: {data['shards']} shards and {data['files']} other files, "
        f"{data['hash_errors']} hash errors",
    ]
    if data["replayed"]:
        lines.append(f"{data['identical']} of {data['replayed']} replayed pairs are identical, byte for byte")
    if data["identical"] < data["replayed"] and not data["same_code"]:
        lines.append("other code made this dataset: its recipes may mean other pixels to this one")
    return "\n".join([*lines, *(f"  {problem}" for problem in data["problems"][:20])])
