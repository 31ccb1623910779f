"""The report of a dataset: one HTML file that needs nothing else, bounded in size whatever the dataset.

It is drawn from what stands in the dataset, so it can be written again at any time; the pictures of rejects and the
times are in the work folder only, and are left out once that is gone.
"""

import base64
import hashlib
import json
import platform
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from flows.dataset import Dataset
from flows.report_ledger import LEVELS, Pairs, Row, pairs, photographs
from flows.report_pictures import Picture, Pictures
from flows.report_rejects import Reject, rejects
from flows.report_scores import BINS, FATES, Histogram, histograms
from storage.files import publish_bytes

NAME = "report.html"
LONGEST = 200  # characters of a name that are shown
LONGEST_SETTINGS = 60_000
MAX_RIGHTS = 20  # licences with a row of their own
LIBRARIES = ("numpy", "opencv-python-headless", "pillow", "prefect", "ray")

_HERE = Path(__file__).parent
_HIDDEN = frozenset({"Cc", "Cs", "Co", "Cn", "Zl", "Zp"})  # Unicode categories nobody can read
_TURNING = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slide:
    """One pair to compare: both sides and what is said below them."""

    key: str
    level: int
    severity: float
    clean: Picture
    degraded: Picture
    psnr: float | None
    ssim: float | None
    source: Mapping[str, Any]


def write_report(root: Path) -> Path:
    """Write `report.html` of the dataset at `root` and return its path; ShardError when there is no whole dataset."""
    dataset = Dataset(root)
    path = root / NAME
    publish_bytes(path, render(content(dataset)).encode())
    return path


def content(dataset: Dataset) -> dict[str, Any]:
    """Return what the template shows."""
    images, made = photographs(dataset), pairs(dataset)
    scores = {kind: histograms(dataset.ledger(kind)) for kind in ("images", "pairs")}
    settings = _json(dataset.root / "settings.json")
    typical = {item.name: item.typical for item in chain(*scores.values())}
    lost = len(images.rejects) + 2 * len(made.rejects)
    pictures = Pictures(lost + 2 * sum(map(len, made.shown.values())))
    refused = {
        "photographs": rejects(dataset.root, images.rejects, settings, typical, pictures),
        "pairs": rejects(dataset.root, made.rejects, settings, typical, pictures),
    }
    slides = {name: [_slide(dataset, row, pictures) for row in rows] for name, rows in made.shown.items()}
    manifest = dataset.manifest
    return {
        "name": settings.get("dataset", {}).get("name", "dataset"),
        "manifest": manifest,
        "bytes": sum(entry.bytes for entry in (*manifest.shards, *manifest.files)),
        "funnels": {"Photographs": images.funnel, "Pairs": made.funnel},
        "levels": made.levels,
        "slides": slides,
        "more_names": made.more_names,
        "scores": {"Photographs": scores["images"], "Pairs": scores["pairs"]},
        "rejects": refused,
        "settings": _settings_text(settings),
        "versions": _versions(),
        "stages": _stages(_json(dataset.root / ".work" / "timings.json")),
        "licences": _licences(images.licences),
        "shown": _attributions(slides, refused),
        "examples": _examples(made, refused),
    }


def render(what: Mapping[str, Any], template: str = NAME) -> str:
    """Return the HTML that one of our templates makes of `what`.

    Scripts and styles stand in it and are allowed by their hash, everything else by nothing.
    """
    style, script = ((_HERE / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    policy = "; ".join(
        [
            "default-src 'none'",
            "img-src data:",
            f"style-src '{_csp_hash(style)}'",
            f"script-src '{_csp_hash(script)}'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"shown": shown, "count": _count, "size": _size, "figure": _figure, "seconds": _seconds}
    environment.globals |= {"bars": _bars, "fates": FATES, "policy": policy, "level_numbers": LEVELS}
    page = environment.get_template(template)
    return page.render(what, style=Markup(style), script=Markup(script))  # noqa: S704  our own two files


def shown(text: str, longest: int = LONGEST) -> str:
    """Return `text`, cut in the middle, with escapes for what nobody can see and what turns the writing round."""
    visible = "".join(f"\\u{ord(letter):04x}" if _is_hidden(letter) else letter for letter in text)
    return visible if len(visible) <= longest else f"{visible[: longest // 2]} ... {visible[-longest // 2 :]}"


def _is_hidden(letter: str) -> bool:
    return letter in _TURNING or unicodedata.category(letter) in _HIDDEN


def _csp_hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _slide(dataset: Dataset, row: Row, pictures: Pictures) -> Slide:
    stored = dataset.stored(row["key"], row["shard"])
    clean, degraded = pictures.pair(stored.image("clean"), stored.image("degraded"))
    scores = row["scores"] or {}
    return Slide(
        key=row["key"],
        level=row["level"],
        severity=row["severity"],
        clean=clean,
        degraded=degraded,
        psnr=scores.get("strength.psnr"),
        ssim=scores.get("strength.ssim"),
        source=stored.record["source"],
    )


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {}
    return found


def _settings_text(settings: Mapping[str, Any]) -> str:
    lines = json.dumps(settings, indent=2, sort_keys=True, ensure_ascii=False).split("\n")
    text = "\n".join(shown(line, LONGEST_SETTINGS) for line in lines)
    return text if len(text) <= LONGEST_SETTINGS else f"{text[:LONGEST_SETTINGS]}\n... the rest stands in settings.json"


def _versions() -> dict[str, str]:
    return {"pairforge": _version("pairforge"), "python": platform.python_version()} | {
        name.removesuffix("-python-headless"): _version(name) for name in LIBRARIES
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _stages(timings: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    longest = max((stage["seconds"] for stage in timings.values()), default=0) or 1
    return [
        {"stage": name, "share": stage["seconds"] / longest, "seconds": stage["seconds"], "items": stage["items"]}
        for name, stage in timings.items()
    ]


def _licences(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(count for _, count in ordered[MAX_RIGHTS:])
    return [*ordered[:MAX_RIGHTS], *([(f"{len(ordered) - MAX_RIGHTS} others", rest)] if rest else [])]


def _attributions(slides: Mapping[str, Sequence[Slide]], refused: Mapping[str, Sequence[Reject]]) -> list[Row]:
    sources = [slide.source for row in slides.values() for slide in row]
    sources += [reject.source for row in refused.values() for reject in row if reject.clean]
    rights = {(source["uri"] or "", source["author"] or "", source["licence"] or "") for source in sources}
    return [dict(zip(("uri", "author", "licence"), item, strict=True)) for item in sorted(rights)]


def _examples(made: Pairs, refused: Mapping[str, Sequence[Reject]]) -> list[tuple[str, str]]:
    kept = [row["key"] for rows in made.shown.values() for row in rows][:1]
    dropped = [reject.key for reject in refused["pairs"]][:1]
    return [("A pair that was kept", key) for key in kept] + [("A pair that was not", key) for key in dropped]


def _bars(histogram: Histogram) -> list[dict[str, float | str]]:
    """Return the bars of a histogram, stacked, on a canvas of 320 x 100 with room for a mark at the top."""
    tallest = max(map(sum, zip(*histogram.bars.values(), strict=True))) or 1
    width, heights = 320 / BINS, [0.0] * BINS
    found: list[dict[str, float | str]] = []
    for fate in FATES:
        for place, count in enumerate(histogram.bars[fate]):
            height = max(1.0, 92 * count / tallest) if count else 0.0
            heights[place] += height
            if count:
                x, y = place * width + 0.5, 100 - min(heights[place], 100)
                found.append({"fate": fate, "x": x, "y": round(y, 2), "width": width - 1, "height": round(height, 2)})
    return found


def _count(number: int) -> str:
    return f"{number:,}"


def _figure(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _seconds(value: float) -> str:
    if value < 60:
        return f"{value:.1f} s"
    return f"{value / 60:.1f} min" if value < 3600 else f"{value / 3600:.1f} h"


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.4g} TB"
