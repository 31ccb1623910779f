# ruff: noqa: T201  it prints its results
"""Measure the bands of `filters/_bands.json`: PSNR, SSIM and area of rendered pairs, by degradation and level.

    python tests/benchmarks/measure_bands.py [--photographs 72] [--draws 2] [--side 1024] [--names haze rain]
        [--scores scores.jsonl] [--write]

With --scores, every photograph's scores are appended to that file and photographs found in it are not rendered again,
so that a run can be broken off and go on; delete it when a degradation has changed. A band runs from the 1st to the
99th percentile, widened by a quarter of its width at both ends (PSNR by 2 dB at least). One draw a level knows its
middle only: half of the flares and reflections at a level's end lie outside such a band. Names not measured stay.
"""

import argparse
import json
import time
import zlib
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypedDict

import cv2
import numpy as np
from rendered import evenly, pairs, photographs, scene_of

import degradations
import filters
from degradations.pairs.coupled import COUPLED
from filters.strength import strength_of

PERCENTILES = (1, 99)
WIDER = 0.25  # of the width of the band
LEAST = {"psnr": 2.0, "ssim": 0.02, "area": 0.02}
LIMITS = {"psnr": (3.0, 99.0), "ssim": (-1.0, 0.99999), "area": (0.0, 1.0)}
LEVELS = range(1, 6)

Scores = dict[str, dict[str, list[dict[str, float]]]]  # by name, by level, of each draw
Job = tuple[Path, Path, tuple[str, ...], int, int]


class Photograph(TypedDict):
    """What one photograph gave, and of what settings."""

    key: str
    scores: Scores


def main() -> None:
    """Measure, print and, if asked, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=int, default=72)
    parser.add_argument("--draws", type=int, default=2, help="over each level; 1 is its middle only")
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--names", nargs="*", default=[*degradations.names(), *COUPLED])
    parser.add_argument("--scores", type=Path)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    files = evenly(sorted((photographs() / "clean").iterdir()), options.photographs)
    names = tuple(options.names)
    jobs = [(file, files[(3 * n + 5) % len(files)], names, options.draws, options.side) for n, file in enumerate(files)]
    bands = bands_of([found["scores"] for found in _measured(jobs, options.scores)])
    for name, levels in bands.items():
        for level, band in levels.items():
            print(
                f"{name:12s} {level}  "
                + "  ".join(f"{score} {low:7.3f} {high:7.3f}" for score, (low, high) in band.items())
            )
    if options.write:
        file = Path(filters.__file__).with_name("_bands.json")
        kept = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(kept | bands, indent=1, sort_keys=True) + "\n")


def bands_of(photographs: list[Scores]) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Return the band of each score by name and level."""
    names = sorted({name for scores in photographs for name in scores})
    return {
        name: {
            str(level): _band([draw for scores in photographs for draw in scores.get(name, {}).get(str(level), [])])
            for level in LEVELS
        }
        for name in names
    }


def _band(draws: list[dict[str, float]]) -> dict[str, list[float]]:
    band = {}
    for score, (least, most) in LIMITS.items():
        low, high = np.percentile([draw[score] for draw in draws], PERCENTILES)
        margin = max(LEAST[score], WIDER * (high - low))
        below = low / 2 if score == "area" else margin  # a local effect may be small
        above = 0.8 * (1 - high) if score == "ssim" else margin  # weak levels lie between 0.99 and 1
        band[score] = [round(max(least, low - below), 5), round(min(most, high + above), 5)]
    return band


def _measured(jobs: list[Job], cache: Path | None) -> Iterable[Photograph]:
    lines = cache.read_text().splitlines() if cache and cache.exists() else []
    done = {found["key"]: found for found in map(json.loads, lines)}
    missing = [job for job in jobs if _key(job) not in done]
    yield from (done[_key(job)] for job in jobs if _key(job) in done)
    start = time.monotonic()
    with ProcessPoolExecutor(2) as pool:
        for count, found in enumerate(pool.map(_photograph, missing), start=1):
            if cache:
                with cache.open("a") as stream:
                    stream.write(json.dumps(found) + "\n")
            print(f"{count} of {len(missing)} photographs, {time.monotonic() - start:.0f} s", end="\r", flush=True)
            yield found


def _key(job: Job) -> str:
    file, other, names, draws, side = job
    return f"{file.name} {other.name} {','.join(names)} {draws} {side}"


def _photograph(job: Job) -> Photograph:
    cv2.setNumThreads(1)
    file, other, names, draws, side = job
    scene = scene_of(file, other, side)
    seed = zlib.crc32(file.name.encode())
    scores: Scores = {}
    for name in names:
        for level in LEVELS:
            made = pairs(scene, name, level, draws=draws, seed=seed)
            scores.setdefault(name, {})[str(level)] = [dict(strength_of(p.clean, p.degraded)) for _, p in made]
    return {"key": _key(job), "scores": scores}


if __name__ == "__main__":
    main()
