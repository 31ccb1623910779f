"""The dataset card: what a person, and the Hugging Face hub, reads first. It has no date: one dataset, one card."""

from collections import Counter
from collections.abc import Mapping, Sequence

from flows.settings import Settings
from storage.records import PublishedFile

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))


def dataset_card(settings: Settings, shards: Sequence[PublishedFile], licences: Mapping[str, int]) -> str:
    """Return the card, Markdown with a YAML head. licences: licence -> kept photographs under it."""
    codec, pairs = settings.pack.codec, sum(entry.pairs for entry in shards)
    by_name = sum((Counter(entry.counts) for entry in shards), Counter[str]())
    return "\n".join(
        [
            *_head(settings, shards, pairs, licences),
            f"# {settings.dataset.name}",
            "",
            f"{pairs} aligned (clean, degraded) image pairs for training image restoration, made by PairForge.",
            "",
            "| degradation | pairs |",
            "|---|---:|",
            *(f"| {name} | {count} |" for name, count in sorted(by_name.items())),
            "",
            "## What a sample holds",
            "",
            f"`<key>.clean.{codec}` and `<key>.degraded.{codec}`: lossless, of one size, aligned.",
            "",
            "`<key>.json`: the source and its licence, the recipe (every parameter that was drawn, so that the",
            "degraded image can be made again byte for byte), the instruction and what the filters measured.",
            "",
            "`annotations/` holds, under the same keys, what replay reads beside the clean image. `ledger/` says why",
            "every photograph and every pair was kept or dropped. `manifest.json` has the sha256 of every file.",
            "",
            "## Licences of the photographs",
            "",
            "| licence | photographs |",
            "|---|---:|",
            *(f"| {_cell(licence)} | {count} |" for licence, count in sorted(licences.items())),
            "",
        ]
    )


def _head(settings: Settings, shards: Sequence[PublishedFile], pairs: int, licences: Mapping[str, int]) -> list[str]:
    splits = sorted({entry.name.removeprefix("shards/").rsplit("-", 1)[0] for entry in shards})
    files = [f"      - split: {split}\n        path: shards/{split}-*.tar" for split in splits]
    return [
        "---",
        f"license: {_licence(licences)}",
        f"pretty_name: {settings.dataset.name}",
        "task_categories:",
        "  - image-to-image",
        "size_categories:",
        f"  - {size_category(pairs)}",
        "tags:",
        "  - image-restoration",
        "  - webdataset",
        "configs:",
        "  - config_name: default",
        "    data_files:",
        *files,
        "---",
        "",
    ]


def size_category(pairs: int) -> str:
    """Return the hub's name for a dataset of that many samples."""
    return next((name for limit, name in SIZES if pairs < limit), "n>10M")


def _licence(licences: Mapping[str, int]) -> str:
    names = {name.lower() for name in licences}
    return names.pop() if len(names) == 1 and names <= {"cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "mit"} else "other"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
