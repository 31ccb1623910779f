"""`pairforge verify`: are the files what the manifest says, and do recipes still make the same bytes?"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flows.console import Console
from flows.dataset import Dataset, StoredPair
from storage import samples
from storage.files import sha256_of
from storage.records import PublishedFile
from tasks.mixture import order


def verify_command(root: Path, *, replay: int, as_json: bool) -> int:
    """Check every hash and replay up to `replay` pairs, evenly over the degradations; returns the exit status."""
    console = Console(as_json=as_json)
    dataset = Dataset(root)
    errors = list(_hash_errors(dataset, console))
    replayed, different = _replay(dataset, replay, console)
    data: dict[str, Any] = {
        "version": dataset.manifest.dataset_version,
        "shards": len(dataset.manifest.shards),
        "files": len(dataset.manifest.files),
        "hash_errors": len(errors),
        "replayed": replayed,
        "identical": replayed - len(different),
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


def _replay(dataset: Dataset, count: int, console: Console) -> tuple[int, list[str]]:
    chosen = _chosen(dataset, count) if count else []
    different = []
    for number, (key, shard) in enumerate(chosen, start=1):
        console.progress(f"replaying {number} of {len(chosen)} pairs", final=number == len(chosen))
        if problem := difference(dataset.stored(key, shard)):
            different.append(f"{key}: {problem}")
    return len(chosen), different


def _chosen(dataset: Dataset, count: int) -> list[tuple[str, str]]:
    """Return (key, shard) of pairs to replay: in turn one of each degradation, in the order of their hashes."""
    by_name: dict[str, list[tuple[str, str]]] = {}
    for row in dataset.rows("pairs", ("key", "name", "shard", "status")):
        if row["status"] == "kept":
            by_name.setdefault(row["name"], []).append((row["key"], row["shard"]))
    queues = [sorted(pairs, key=lambda item: order(item[0])) for _, pairs in sorted(by_name.items())]
    turns = (queue[turn] for turn in range(count) for queue in queues if turn < len(queue))
    return [pair for _, pair in zip(range(count), turns, strict=False)]


def difference(stored: StoredPair) -> str:
    """Return how what the recipe makes now differs from what is stored, or an empty string: byte for byte the same."""
    from degradations._render import replay

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
    return "\n".join([*lines, *(f"  {problem}" for problem in data["problems"][:20])])
