"""`pairforge inspect`: what a dataset holds, or one of its pairs with its recipe, verdicts and picture."""

from pathlib import Path

import cv2
import numpy as np

from flows.commands.explain import pair_text
from flows.console import Console
from flows.dataset import Dataset
from flows.summary import summarise
from storage.canonical import plain
from storage.files import publish_bytes
from storage.records import Image
from storage.samples import encode_image


def inspect_command(root: Path, key: str | None, *, picture: Path | None, as_json: bool) -> int:
    """Print the counts of a dataset, or one pair; `picture` takes the pair as one PNG, clean beside degraded."""
    console = Console(as_json=as_json)
    if key is None:
        summary = summarise(root)
        console.result(summary.data(), summary.text())
        return 0
    dataset = Dataset(root)
    stored = dataset.stored(key)
    row = dataset.find("pairs", key=key)[0]
    file = picture or Path(f"{key}.png")
    both = np.concatenate([stored.image("clean"), stored.image("degraded")], axis=1)
    publish_bytes(file, encode_image(_within(both, 3000), "png"))
    data = {"record": plain(stored.record), "shard": stored.shard, "ledger": plain(row), "picture": str(file)}
    console.result(data, f"{pair_text(row)}\n  picture      {file} (clean, degraded)")
    return 0


def _within(image: Image, width: int) -> Image:
    if image.shape[1] <= width:
        return np.ascontiguousarray(image)
    size = (width, max(1, image.shape[0] * width // image.shape[1]))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
