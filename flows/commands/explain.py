"""`pairforge explain`: why a photograph or a pair was kept or dropped, in words."""

import json
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from flows.console import Console
from flows.dataset import Dataset
from flows.deciding import deciding, judges_of, medians
from storage.errors import SettingsError

Row = dict[str, Any]

EXAMPLES = 100  # kept ones of the same name that are looked at to find a limit

# What a reason means, and what could be done about it. Reasons without a line here speak for themselves.
REASONS: Mapping[str, str] = {
    "near_duplicate": "another photograph shows the same and is larger or comes first",
    "duplicate": "another file holds the very same bytes",
    "crash": "the worker died on it twice, so it was left out; everything else went on",
    "over_quota": "its degradation had reached its quota",
    "too_small": "its shorter side is below clean.min_side",
    "too_weak": "the degraded image is closer to the clean one than its severity level asks for",
    "too_strong": "the degraded image is farther from the clean one than its severity level allows",
    "shifted": "the degraded image is displaced against the clean one",
    "warped": "parts of the degraded image are displaced against the clean one",
    "not_an_image": "the file is not an image in any known format",
    "truncated": "the file ends before the image does",
    "scene_cut": "the frames of this clip do not show one motion: a cut, or a frame is left out",
    "still_clip": "next to nothing moves in this clip, so its frames blur nothing",
    "too_fast": "this clip moves farther from frame to frame than clean.clips.max_speed",
    "too_few_frames": "the video or the sequence is shorter than one clip",
    "mixed_sizes": "the frames of the sequence are not all of one size",
    "unreadable_video": "the video is damaged or in a codec that this FFmpeg cannot decode",
}


def explain_command(root: Path, key: str, *, as_json: bool) -> int:
    """Print the life of one photograph (key, sha256 or path) or one pair (key); returns the exit status."""
    dataset = Dataset(root)
    _ = dataset.manifest  # one clear error when there is no dataset
    pairs = dataset.find("pairs", key=key)
    images = _images(dataset, pairs[0]["source_key"] if pairs else key)
    if not pairs and not images:
        raise SettingsError(f"{root} never saw {key!r}; name a pair's key, or a photograph's key, sha256 or path")
    texts = [pair_text(row, _decided(dataset, "pairs", row)) for row in pairs]
    made = [row for image in images if image["key"] and not pairs for row in _made_from(dataset, image)]
    texts += [_image_text(image, made, _decided(dataset, "images", image)) for image in images]
    Console(as_json=as_json).result({"images": images, "pairs": pairs or made}, "\n\n".join(texts))
    return 0


def _made_from(dataset: Dataset, image: Row) -> list[Row]:
    return dataset.find("pairs", source_key=image["key"])


def _images(dataset: Dataset, key: str) -> list[Row]:
    for column in ("key", "sha256", "uri"):
        if found := dataset.find("images", **{column: key}):
            return found
    return []


def pair_text(row: Row, decided: Sequence[str] = ()) -> str:
    """Return what the ledger says of one pair. decided: lines on the scores for which it was dropped."""
    recipe = json.loads(row["recipe"]) if row["recipe"] else {"steps": []}
    lines = [
        f"pair {row['key']}: {_fate(row)}",
        *decided,
        f"  made from    photograph {row['source_key']} ({row['split']})",
        f"  asked for    {row['name']} at severity {row['severity']:.3f}, level {row['level']}",
        *(f"  {step['degradation']:<12} {_params(step['params'])}" for step in recipe["steps"]),
        *_score_lines(row["scores"]),
    ]
    if row["shard"]:
        lines.append(f"  stands in    shards/{row['shard']}.tar")
    return "\n".join(lines)


def _image_text(row: Row, pairs: Sequence[Row], decided: Sequence[str]) -> str:
    lines = [
        f"photograph {row['uri']}: {_fate(row)}",
        *decided,
        f"  file         {row['bytes']} bytes, sha256 {row['sha256'] or 'unknown'}",
        f"  rights       {row['licence']}, by {row['author']}",
    ]
    if row["key"]:
        lines.append(f"  image        {row['width']}x{row['height']} {row['format']}, key {row['key']}, {row['split']}")
    if row["duplicate_of"]:
        lines.append(f"  same as      {row['duplicate_of']}")
    lines.extend(_score_lines(row["scores"]))
    lines.extend(f"  pair         {pair['key']}  {pair['name']} level {pair['level']}: {_fate(pair)}" for pair in pairs)
    return "\n".join(lines)


def _fate(row: Row) -> str:
    if row["status"] == "kept":
        return "kept, every filter agreed"
    absent = row["reason"].removeprefix("absent_")
    told = row["detail"] or (f"no sign of {absent} was found" if absent != row["reason"] else absent.replace("_", " "))
    why = REASONS.get(row["reason"], told)
    return f"{row['status']} by {row['stage']}: {row['reason']} ({why})"


def _decided(dataset: Dataset, kind: str, row: Row) -> list[str]:
    """Return the scores for which it was dropped, each beside its limit; kept ones of its kind tell what is usual."""
    if row["status"] != "dropped":
        return []
    judges = judges_of(json.loads((dataset.root / "settings.json").read_bytes()))
    if row["stage"] not in judges:  # no filter dropped it: no other rows need be read
        return []
    name = ("name",) if kind == "pairs" else ()
    rows = dataset.rows(kind, columns=("status", "scores", *name))
    kept = (other for other in rows if other["status"] == "kept" and all(other[key] == row[key] for key in name))
    typical = medians(other["scores"] for other in islice(kept, EXAMPLES))
    return [
        f"  decided by   {score} {by.value:.4g}, kept {'from' if by.limit > by.value else 'up to'} {by.limit:.4g}"
        for score, by in deciding(row, judges, typical).items()
        if by.limit is not None
    ]


def _params(params: Mapping[str, Any]) -> str:
    shown = (f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in params.items())
    text = ", ".join(shown)
    return text if len(text) <= 400 else f"{text[:397]}..."


def _score_lines(scores: Mapping[str, float]) -> list[str]:
    by_filter: dict[str, list[str]] = {}
    for name, value in sorted(scores.items()):
        owner, _, score = name.partition(".")
        by_filter.setdefault(owner, []).append(f"{score} {value:.4g}")
    return [f"  {owner:<12} {', '.join(found)}" for owner, found in by_filter.items()]
