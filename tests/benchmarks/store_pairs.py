# ruff: noqa: T201  it prints its progress
"""Render pairs of every name once into a folder, so that the fits beside this file repeat in seconds.

    python tests/benchmarks/store_pairs.py FOLDER [--draws 7] [--side 768] [--names haze rain]

`FOLDER/<name>/<photograph>-<draw>.png` is the degraded image, `.clean.png` the clean one where the degradation changed
it, `.json` the recipe; `FOLDER/clean/<photograph>.png` the photograph. Severities are spread evenly over (0, 1], with
one offset for each photograph. What is there already is not rendered again.
"""

import argparse
import hashlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from rendered import photographs, scene_of

import degradations
from degradations.pairs.recipes import draw
from degradations.pairs.render import render
from storage.canonical import decode, encode
from storage.records import Image, Recipe

Job = tuple[Path, Path, Path, tuple[str, ...], int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPair:
    """A pair read back. photograph: the stem of its source, by which cross-validation splits."""

    photograph: str
    clean: Image
    degraded: Image
    recipe: Recipe


def main() -> None:
    """Render what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--draws", type=int, default=7)
    parser.add_argument("--side", type=int, default=768)
    parser.add_argument("--names", nargs="*", default=list(degradations.names()))
    options = parser.parse_args()
    files = sorted((photographs() / "clean").iterdir())
    names = tuple(options.names)
    jobs = [
        (options.folder, file, files[(3 * index + 5) % len(files)], names, options.draws, options.side)
        for index, file in enumerate(files)
    ]
    with ProcessPoolExecutor(1) as pool:
        for count, rendered in enumerate(pool.map(_store, jobs), start=1):
            print(f"{count} of {len(files)} photographs, {rendered} pairs rendered", flush=True)


def files_of(folder: Path, name: str, *, most: int | None = None) -> list[Path]:
    """Return the recipes of the stored pairs of `name`; `most` of them, spread over photographs and severities."""
    files = sorted((folder / name).glob("*.json"), key=lambda file: hashlib.sha256(file.stem.encode()).digest())
    return files[:most]


def stored(file: Path) -> StoredPair:
    """Return the pair whose recipe is `file`."""
    photograph = file.stem.rpartition("-")[0]
    own = file.with_suffix(".clean.png")
    clean = own if own.exists() else file.parents[1] / "clean" / f"{photograph}.png"
    return StoredPair(
        photograph=photograph,
        clean=_read(clean),
        degraded=_read(file.with_suffix(".png")),
        recipe=decode(Recipe, file.read_bytes()),
    )


def severities(photograph: str, draws: int) -> Iterator[float]:
    """Yield `draws` severities spread evenly over (0, 1]."""
    offset = int.from_bytes(hashlib.sha256(photograph.encode()).digest()[:4]) / 2**32
    yield from ((index + 1 - offset) / draws for index in range(draws))


def _store(job: Job) -> int:
    cv2.setNumThreads(1)
    folder, file, other, names, draws, side = job
    missing = [
        (name, index, severity)
        for name in names
        for index, severity in enumerate(severities(file.stem, draws))
        if not (folder / name / f"{file.stem}-{index}.json").exists()
    ]
    if not missing:
        return 0
    scene = scene_of(file, other, side)
    _write(folder / "clean" / f"{file.stem}.png", scene.image)
    seed = int.from_bytes(hashlib.sha256(file.name.encode()).digest()[:3])
    for name, index, severity in missing:
        recipe = draw(name, severity, scene, seed=seed + index)
        made = render(scene, recipe)
        stem = folder / name / f"{file.stem}-{index}"
        _write(stem.with_suffix(".png"), made.degraded)
        if not np.array_equal(made.clean, scene.image):
            _write(stem.with_suffix(".clean.png"), made.clean)
        stem.with_suffix(".json").write_bytes(encode(recipe))
    return len(missing)


def _read(file: Path) -> Image:
    return np.asarray(cv2.imread(str(file), cv2.IMREAD_COLOR_RGB), dtype=np.uint8)


def _write(file: Path, image: Image) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(file), bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])


if __name__ == "__main__":
    main()
