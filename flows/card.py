"""The dataset card: what a person, and the Hugging Face hub, reads first. It has no date: one dataset, one card."""

from collections import Counter
from collections.abc import Mapping, Sequence

from flows.settings import Settings
from storage.records import PublishedFile

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))


def dataset_card(settings: Settings, shards: Sequence[PublishedFile], licences: Mapping[str, int]) -> str:
    """Return the card, Markdown with a YAML head. licences: licence -> kept photographs under it."""
    about = _collection(settings, licences) if settings.source.shows else _pairs(settings, shards)
    samples = sum(licences.values()) if settings.source.shows else sum(entry.pairs for entry in shards)
    return "\n".join(
        [
            *_head(settings, shards, samples, licences),
            f"# {settings.dataset.name}",
            "",
            *about,
            "",
            "## Licences of the photographs",
            "",
            "| licence | photographs |",
            "|---|---:|",
            *(f"| {_cell(licence)} | {count} |" for licence, count in sorted(licences.items())),
            "",
        ]
    )


def _pairs(settings: Settings, shards: Sequence[PublishedFile]) -> list[str]:
    codec, pairs = settings.pack.codec, sum(entry.pairs for entry in shards)
    by_name = sum((Counter(entry.counts) for entry in shards), Counter[str]())
    return [
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
    ]


def _collection(settings: Settings, licences: Mapping[str, int]) -> list[str]:
    shows, codec = settings.source.shows, settings.pack.codec
    return [
        f"{sum(licences.values())} photographs that really show {shows}, collected by PairForge. There are no pairs.",
        "",
        f"`photographs/{shows}/<key>.{codec}`: as decoded to sRGB, lossless, without metadata.",
        "",
        "`ledger/` says where each comes from, what was measured and why every other photograph was dropped.",
        "`manifest.json` has the sha256 of every file.",
    ]


def _head(settings: Settings, shards: Sequence[PublishedFile], samples: int, licences: Mapping[str, int]) -> list[str]:
    splits = sorted({entry.name.removeprefix("shards/").rsplit("-", 1)[0] for entry in shards})
    files = [f"      - split: {split}\n        path: shards/{split}-*.tar" for split in splits]
    if settings.source.shows:
        files = [f"      - split: test\n        path: photographs/{settings.source.shows}/*"]
    return [
        "---",
        f"license: {_licence(licences)}",
        f"pretty_name: {settings.dataset.name}",
        "task_categories:",
        "  - image-to-image",
        "size_categories:",
        f"  - {size_category(samples)}",
        "tags:",
        "  - image-restoration",
        "  - imagefolder" if settings.source.shows else "  - webdataset",
        "configs:",
        "  - config_name: default",
        "    data_files:",
        *files,
        "---",
        "",
    ]


def size_category(samples: int) -> str:
    """Return the hub's name for a dataset of that many samples."""
    return next((name for limit, name in SIZES if samples < limit), "n>10M")


def _licence(licences: Mapping[str, int]) -> str:
    names = {name.lower() for name in licences}
    return names.pop() if len(names) == 1 and names <= {"cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "mit"} else "other"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
