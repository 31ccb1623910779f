"""The page of a benchmark: scores with their intervals, what others published, and the pictures. One file, bounded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.evaluate import TITLES, Evaluation
from flows.report import render
from flows.report_pictures import Picture, Pictures
from storage.canonical import digest
from storage.errors import SourceError
from storage.files import publish_bytes
from storage.records import Image
from tasks.decode import decode
from tasks.evaluate import fitted
from tasks.gallery import Gallery
from training.benchmark.scores import Outcome, Score

NAME = "bench.html"
PER_TASK = 4  # pictures shown of each task: the best, the worst and others
MOST_TASKS = 24
MOST_LISTED = 200  # pictures without a score

_MEANING = {
    "lps": "LPIPS between the restored picture and its degraded input: a consistency term, lower is closer",
    "rs": "gain in grade, losses counted as none",
    "rs_unclamped": "gain in grade, losses counted",
    "fs_paper": "0.2 (1 - LPS) RS of the means, as in the paper's tables",
    "fs_code": "the same of each picture, then averaged, as in the benchmark's code",
    "psnr": "dB to the ground truth",
    "ssim": "structural similarity to the ground truth",
    "lpips": "LPIPS to the ground truth, lower is closer",
    "input_psnr": "dB of the input to the ground truth",
    "input_ssim": "structural similarity of the input to the ground truth",
}
_HEADLINE = {"realir": ("fs_paper", "rs", "lps"), "reference": ("psnr", "ssim"), "foundir": ("psnr", "ssim")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Slide:
    """One picture before and after. facts: what was measured of it, in words."""

    name: str
    task: str
    facts: Sequence[str]
    left: str
    right: str
    before: Picture
    after: Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One task of the table. scores: by column, None where there is nothing."""

    name: str
    pictures: int
    coverage: float
    scores: Sequence[Score | None]


def write_page(found: Evaluation, path: Path) -> Path:
    """Write the page of an evaluation to `path`, and return it."""
    publish_bytes(path, render(content(found), template=NAME).encode())
    return path


def content(found: Evaluation) -> dict[str, Any]:
    """Return what the template shows."""
    columns = list(found.titles)
    headline = next(name for name in _HEADLINE[found.settings.protocol] if name in columns)
    chosen = {task: examples([item for item in found.outcomes if item.task == task]) for task in _tasks(found)}
    pictures = Pictures(2 * sum(map(len, chosen.values())))
    slides = {task: _slides(found, items, pictures) for task, items in chosen.items()}
    return {
        "found": found,
        "columns": [(name, title, _meaning(name, title)) for name, title in found.titles.items()],
        "rows": [_row(name, part, columns) for name, part in found.scores.items()],
        "headline": headline,
        "place": columns.index(headline),
        "scale": _scale(found, headline),
        "totals": _totals(found, columns),
        "slides": {task: items for task, items in slides.items() if items},
        "more_tasks": max(0, len(found.scores) - 1 - MOST_TASKS),
        "unscored": found.unscored[:MOST_LISTED],
        "more_unscored": max(0, len(found.unscored) - MOST_LISTED),
        "published": _published(found),
        "embedded": found.settings.protocol == "realir" and found.settings.grader.kind == "embedded",
        "facts": _facts(found),
    }


def examples(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return up to PER_TASK pictures of a task: the best, the worst, and others by the hash of their names."""
    scored = sorted((item for item in outcomes if not item.reason), key=lambda item: (_merit(item), item.name))
    if len(scored) <= PER_TASK:
        return scored[::-1]
    others = sorted(scored[1:-1], key=lambda item: digest(item.name))[: PER_TASK - 2]
    return [scored[-1], *sorted(others, key=lambda item: (-_merit(item), item.name)), scored[0]]


def _merit(item: Outcome) -> float:
    values = item.values
    if "after" in values:
        return (values["after"] - values["before"]) * (1 - values["lps"])
    return values["psnr"] - values.get("input_psnr", 0.0)


def _tasks(found: Evaluation) -> list[str]:
    return [name for name in found.scores if name != "average"][:MOST_TASKS]


def _meaning(name: str, title: str) -> str:
    return _MEANING[name].replace("LPIPS", title) if name == "lps" and title != TITLES[name] else _MEANING[name]


def _row(name: str, part: Any, columns: Sequence[str]) -> Row:
    return Row(
        name=name, pictures=part.pictures, coverage=part.coverage, scores=[part.scores.get(key) for key in columns]
    )


def _scale(found: Evaluation, headline: str) -> float:
    highs = [part.scores[headline].high for part in found.scores.values() if headline in part.scores]
    return max([high for high in highs if high is not None], default=0) or 1.0


def _totals(found: Evaluation, columns: Sequence[str]) -> list[tuple[str, str]]:
    scores, pictures = found.scores["average"].scores, len(found.outcomes)
    shown = [
        (f"{found.titles[name]}, average", f"{scores[name].value:.3g}")
        for name in _HEADLINE[found.settings.protocol]
        if name in columns and scores[name].value is not None
    ]
    return [*shown, ("pictures", f"{pictures:,}"), ("scored", f"{100 * (1 - len(found.unscored) / pictures):.0f} %")]


def _slides(found: Evaluation, items: Sequence[Outcome], pictures: Pictures) -> list[Slide]:
    slides = []
    for item in items:
        sides = _sides(found, item.name)
        (left, one), (right, other) = sides.items()
        try:
            images = _image(one, item.name), _image(other, item.name)
        except SourceError:  # it was there when it was measured; the page can do without
            continue
        before, after = pictures.pair(*_alike(*images))
        facts = _said(item, found.titles)
        slides.append(
            Slide(name=item.name, task=item.task, facts=facts, left=left, right=right, before=before, after=after)
        )
    return slides


def _sides(found: Evaluation, name: str) -> dict[str, Gallery]:
    if "degraded" in found.sides and name in found.sides["degraded"].tasks:
        return {side: found.sides[side] for side in ("degraded", "restored")}
    return {side: found.sides[side] for side in ("restored", "clean")}  # without inputs there is ground truth


def _image(gallery: Gallery, name: str) -> Image:
    return decode(gallery.read(name)).image


def _alike(one: Image, other: Image) -> tuple[Image, Image]:
    return one, fitted(other, one.shape)


def _said(item: Outcome, titles: Mapping[str, str]) -> list[str]:
    values, facts = item.values, list[str]()
    if "after" in values:
        facts.append(f"grade {values['before']:.0f} to {values['after']:.0f}")
    for name, title in titles.items():
        if name in values and not name.startswith("input_"):
            before = f"{values[f'input_{name}']:.3g} to " if f"input_{name}" in values else ""
            facts.append(f"{title} {before}{values[name]:.3g}")
    return facts


def _published(found: Evaluation) -> dict[str, Any]:
    """Return the published table with ours in its place: models by falling average, and every task that both know."""
    if not found.published:
        return {}
    index, key = (2, "fs_paper") if found.settings.protocol == "realir" else (0, "psnr")
    ours = {name: part.scores[key].value for name, part in found.scores.items() if key in part.scores}
    rows = {model: {task: values[index] for task, values in row.items()} for model, row in found.published.items()}
    tasks = sorted((name for name in found.scores if any(name in row for row in rows.values())), key=_average_first)
    table: list[tuple[str, bool, Mapping[str, float | None]]] = [(found.settings.name, True, ours)]
    table += [(model, False, dict(row)) for model, row in rows.items()]
    table.sort(key=lambda row: -(row[2].get("average") or 0))
    return {"title": TITLES[key], "tasks": tasks, "rows": table, "digits": 3 if index == 2 else 2}


def _average_first(task: str) -> tuple[bool, str]:
    return task != "average", task


def _facts(found: Evaluation) -> list[tuple[str, str]]:
    settings = found.settings
    facts = [
        ("protocol", settings.protocol),
        ("grader", found.grader),
        ("distance", found.distance),
        *((side, Path(part.title).name) for side, part in found.sides.items()),
        ("intervals", f"95 %, {settings.resamples:,} bootstrap resamples, seed {settings.seed}"),
        ("restored pictures that are nobody's", str(len(found.unmatched)) if found.unmatched else ""),
    ]
    return [(name, value) for name, value in facts if value]
