# ruff: noqa: T201  it prints its results
"""Set the limits of `filters/_shifts.json` to 1 % false alarms a type, and print what planted shifts they find.

    python tests/benchmarks/fit_alignment.py PAIRS SCORES [--names haze rain] [--most 504] [--planted 72] [--write]

PAIRS is the folder that `store_pairs.py` wrote, SCORES one in which what was measured is kept by name, so that a run
can be broken off and a fit repeats in seconds; delete it when a measurement has changed. Planted is, into the clean
image, a shift of the whole by 1, 2 and 4 px in a random direction, and a smooth warp of a fifth of the shorter side in
radius by as many at its centre, at a random place where it changes the image by at least 2 levels RMS. The limits of
all other photographs are judged on each; how wide they must be is found by leaving photographs out as well.
"""

import argparse
import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TypedDict

import cv2
import numpy as np
from store_pairs import files_of, stored

import degradations
import filters
from degradations.pairs.coupled import COUPLED
from filters import load
from filters._contract import Sample
from filters.alignment import REASONS, Alignment
from storage.canonical import decode
from storage.records import Image, Recipe

FALSE_ALARMS = 0.01
LEFT_OUT = 0.008  # less than 1 %, because how wide limits are is fitted as well
PLANTED = [(kind, pixels) for kind in ("shift", "warp") for pixels in (1, 2, 4)]
LEAST_CHANGE = 2.0  # levels RMS
SHARES = np.array([*np.linspace(0.03, 0, 31), 0.0])  # of pairs beyond a limit, by score; the narrowest limits first
MARGINS = np.array([*(31 * [1.02]), 1.1])


class Row(TypedDict):
    """What one pair gave; planted: nothing, or a kind and its pixels."""

    photograph: str
    planted: str
    recipe: str
    scores: dict[str, float]


def main() -> None:
    """Measure what is missing, fit, print and, if asked, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("scores", type=Path)
    parser.add_argument("--names", nargs="*", default=list(degradations.names()))
    parser.add_argument("--most", type=int, default=504)
    parser.add_argument("--planted", type=int, default=72)
    parser.add_argument("--coupled", type=int, default=18, help="pairs of each combination; 0: keep their limits")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    limits = {}
    for name in options.names:
        rows = _measured(options.pairs, options.scores / f"{name}.jsonl", name, options.most, options.planted)
        limits[name] = _limits([row for row in rows if not row["planted"]])
        _print_rates(name, rows)
    of_several = [
        row
        for name in COUPLED
        for row in _measured(options.pairs, options.scores / f"{name}.jsonl", name, options.coupled, 0)
    ]
    if of_several:
        limits["coupled"] = _limits(of_several)
        _print_rates("coupled", of_several)
    if options.write:
        file = Path(filters.__file__).with_name("_shifts.json")
        kept = json.loads(file.read_text()) if file.exists() else {}
        sharp = [row for name, row in (kept | limits).items() if name not in {"blur", "coupled", "other"}]
        other = {score: max(row[score] for row in sharp) for score in REASONS}
        file.write_text(json.dumps(kept | limits | {"other": other}, indent=1, sort_keys=True) + "\n")


def shifted(image: Image, pixels: float, rng: np.random.Generator) -> Image:
    """Return `image` moved by `pixels` in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    matrix = np.array([[1, 0, pixels * np.cos(angle)], [0, 1, pixels * np.sin(angle)]])
    return np.asarray(cv2.warpAffine(image, matrix, image.shape[1::-1], None, cv2.INTER_CUBIC, cv2.BORDER_REFLECT))


def warped(image: Image, pixels: float, rng: np.random.Generator) -> Image:
    """Return `image` with a bump of displacement at a random place, where it shows if there is such a place."""
    height, width = image.shape[:2]
    rows, columns = np.indices((height, width), dtype=np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    moved = image
    for _ in range(20):
        place = rng.uniform(0.15, 0.85, 2) * (height, width)
        away = ((rows - place[0]) ** 2 + (columns - place[1]) ** 2) / (min(height, width) / 5) ** 2
        bump = (pixels * np.exp(-(away**2))).astype(np.float32)
        along = columns + np.float32(np.cos(angle)) * bump, rows + np.float32(np.sin(angle)) * bump
        moved = np.asarray(cv2.remap(image, *along, cv2.INTER_CUBIC, None, cv2.BORDER_REFLECT))
        change = moved.astype(np.float32)[away < 1] - image[away < 1]
        if np.sqrt(np.mean(change**2)) >= LEAST_CHANGE:
            break
    return moved


def _measured(pairs: Path, file: Path, name: str, most: int, planted: int) -> list[Row]:
    file.parent.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    done = {(row["recipe"], row["planted"]) for row in rows}
    with file.open("a") as stream:
        for index, recipe in enumerate(files_of(pairs, name, most=most)):
            kinds = ["", *(f"{kind} {pixels}" for kind, pixels in PLANTED)] if index < planted else [""]
            missing = [kind for kind in kinds if (recipe.stem, kind) not in done]
            for row in _rows(recipe, missing) if missing else ():
                stream.write(json.dumps(row) + "\n")
                rows.append(row)
    for row in rows:
        row["recipe"] = str(pairs / name / f"{row['recipe']}.json")
    return rows


def _rows(file: Path, kinds: list[str]) -> Iterator[Row]:
    pair = stored(file)
    measure = load("alignment")().open("cpu")
    for planted in kinds:
        seed = int.from_bytes(hashlib.sha256(f"{file.parent.name}/{file.stem} {planted}".encode()).digest()[:4])
        rng = np.random.default_rng(seed)
        kind, _, pixels = planted.partition(" ")
        moved = {"": lambda image, *_: image, "shift": shifted, "warp": warped}[kind](pair.clean, int(pixels or 0), rng)
        sample = Sample(key="", clean=moved, degraded=pair.degraded, recipe=pair.recipe)
        scores = dict(measure([sample])[0])
        yield {"photograph": pair.photograph, "planted": planted, "recipe": file.stem, "scores": scores}


def _limits(rows: list[Row]) -> dict[str, float]:
    """Return the narrowest limits that raise an alarm for at most 1 % of `rows`, and of photographs left out.

    If none are wide enough for those, because a photograph is like no other, the ones with the fewest alarms.
    """
    wanted = Alignment()
    table = np.array([[wanted.excess(score, row["scores"], _recipe(row)) for score in REASONS] for row in rows])
    photographs = np.array([row["photograph"] for row in rows])
    limits = _wide(table)
    left_out = np.sum(
        [
            _alarms_of(table[photographs == one], _wide(table[photographs != one])).sum(axis=1)
            for one in np.unique(photographs)
        ],
        axis=0,
    )
    is_allowed = _alarms_of(table, limits).mean(axis=1) <= FALSE_ALARMS
    alarms = np.where(is_allowed, np.maximum(left_out / len(rows), LEFT_OUT), 1)
    return {score: round(float(limit), 3) for score, limit in zip(REASONS, limits[alarms.argmin()], strict=True)}


def _wide(table: np.ndarray) -> np.ndarray:
    """Return limits (widths, scores): what a share of `table`, (pairs, scores), exceeds by score, times a margin."""
    return np.maximum(np.quantile(table, 1 - SHARES, axis=0) * MARGINS[:, None], 0)


def _alarms_of(table: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Return which pairs raise an alarm at limits of each width: bool (widths, pairs)."""
    wanted = Alignment()
    options = {"shifted": wanted.max_shift, "warped": wanted.max_warp, "distorted": wanted.max_distortion}
    least = np.array([options[reason] for reason in REASONS.values()])
    return np.asarray((table > np.maximum(limits, least)[:, None]).any(axis=2))


def _print_rates(name: str, rows: list[Row]) -> None:
    """Print false alarms and finds of photographs held out one by one, and of each score with the limits of all."""
    alarms: dict[str, list[bool]] = {}
    for held_out in sorted({row["photograph"] for row in rows}):
        limits = _limits([row for row in rows if not row["planted"] and row["photograph"] != held_out])
        for row in rows:
            if row["photograph"] == held_out:
                alarms.setdefault(row["planted"], []).append(bool(_alarms(row, limits)))
    print(f"{name:28s} {len(alarms['']):4d} pairs, {np.sum(alarms['']):2d} false alarms; found: ", end="")
    print(", ".join(f"{kind} {np.sum(found)} of {len(found)}" for kind, found in sorted(alarms.items()) if kind))
    limits = _limits([row for row in rows if not row["planted"]])
    for score in REASONS:
        finds = {kind: [score in _alarms(row, limits) for row in rows if row["planted"] == kind] for kind in alarms}
        shown = " ".join(f"{100 * np.mean(found):4.0f}" for _, found in sorted(finds.items()))
        print(f"    {score:12s} limit {limits[score]:6.3f}  {shown}")


def _alarms(row: Row, limits: Mapping[str, float]) -> set[str]:
    wanted = Alignment()
    options = {"shifted": wanted.max_shift, "warped": wanted.max_warp, "distorted": wanted.max_distortion}
    recipe = _recipe(row)
    return {
        score
        for score, reason in REASONS.items()
        if wanted.excess(score, row["scores"], recipe) > max(limits[score], options[reason])
    }


def _recipe(row: Row) -> Recipe:
    return _read(row["recipe"])


@cache
def _read(file: str) -> Recipe:
    return decode(Recipe, Path(file).read_bytes())


if __name__ == "__main__":
    main()
