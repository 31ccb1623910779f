"""What the embedded restorer gains on whole photographs it never saw, beside classical methods and a plain U-Net.

    python tests/benchmarks/tiny_restorer.py split FOLDER            links two thirds of the photographs to train on
    python tests/benchmarks/tiny_restorer.py table WEIGHTS [--unet WEIGHTS] [--photographs N] [--markdown FILE]

Build and train between the two: `pairforge build FOLDER/build.toml`, `pairforge train ...`. Every third photograph, in
the order of names, is held out. Of each held-out one and type a pair is rendered at the middle of levels 1, 3 and 5;
all restorers are told the type. The classical methods and their settings are the best on photographs that were trained
on, once for each type and level, once for each type. PSNR in dB over the frame, means over the photographs.
"""

import argparse
import sys
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from tasks.prompts import PROMPTS, instruction
from tests.benchmarks import classical
from tests.benchmarks.plain_unet import load_unet
from tests.benchmarks.rendered import evenly, pairs, photographs, scene_of
from training.restoring.restorer import Placing, load, sampling_of
from training.restoring.tiles import restore

SIDE = 768
LEVELS = (1, 3, 5)
TUNED_ON, TUNING_SIDE = 3, 160  # photographs, and pixels of their middle
SETTINGS = """seed = 7
output = "{folder}/dataset"
[source]
folder = "{folder}/photographs"
[clean]
min_side = 320
max_side = {side}
[filters]
clean_quality = false
strength = false
[mixture]
variants = 90
validation = 0.0
"""


def halves():
    """Return the photographs to train on and those held out."""
    files = sorted(file for file in (photographs() / "clean").iterdir() if file.is_file())
    return [file for number, file in enumerate(files) if number % 3 != 1], files[1::3]


def split(folder):
    (folder / "photographs").mkdir(parents=True, exist_ok=True)
    for file in halves()[0]:
        link = folder / "photographs" / file.name
        if not link.exists():
            link.symlink_to(file.resolve())
    (folder / "build.toml").write_text(SETTINGS.format(folder=folder.resolve(), side=SIDE))
    print(f"now: pairforge build {folder / 'build.toml'}")  # noqa: T201


def tuned(pool, side, count):
    """Return the best classical method and settings of each type and level, and of each type at level None."""
    files = halves()[0]
    todo = [(file, files[number - 1], side, number) for number, file in enumerate(evenly(files, count))]
    crops = defaultdict(list)
    for found in pool.map(_tuning_crops, todo):
        for key, crop in found.items():
            crops[key].append(crop)
    keys = list(product(PROMPTS, LEVELS))
    scored = pool.map(classical.scored, [name for name, _ in keys], [crops[key] for key in keys])
    scores = dict(zip(keys, scored, strict=True))
    together = {(name, None): np.hstack([scores[name, level] for level in LEVELS]) for name in PROMPTS}
    return {key: classical.best(key[0], found) for key, found in (scores | together).items()}


def _tuning_crops(todo):
    file, other, side, number = todo
    scene, crops = scene_of(file, other, side), {}
    for name, level in product(PROMPTS, LEVELS):
        [(_, rendered)] = pairs(scene, name, level, draws=1, seed=number)
        crops[name, level] = (_middle(rendered.clean), _middle(rendered.degraded))
    return crops


def _middle(image):
    top, left = ((side - TUNING_SIDE) // 2 for side in image.shape[:2])
    return np.ascontiguousarray(image[max(0, top) :, max(0, left) :][:TUNING_SIDE, :TUNING_SIDE])


def table(pool, restorers, *, count, side, tuned_on):
    """Return the mean PSNR of the input and, by restorer, of the results, by type and level."""
    methods, held = tuned(pool, side, tuned_on), halves()[1]
    chosen = evenly(held, count)
    todo = [(methods, restorers, file, held[number - 1], side, 100 + number) for number, file in enumerate(chosen)]
    scores = defaultdict(list)
    for file, found in zip(chosen, pool.map(_scores, todo), strict=True):
        for key, value in found.items():
            scores[key].append(value)
        print(file.name, file=sys.stderr, flush=True)  # noqa: T201
    return methods, {key: float(np.mean(values)) for key, values in scores.items()}


def _scores(todo):
    """Return the PSNR of everything that is made of one photograph, by kind, type and level."""
    methods, restorers, file, other, side, seed = todo
    scene, scores = scene_of(file, other, side), {}
    opened = _opened(*restorers)
    for name, level in product(PROMPTS, LEVELS):
        [(_, rendered)] = pairs(scene, name, level, draws=1, seed=seed)
        found = {"input": rendered.degraded}
        for kind, told in (("classical, told the level", level), ("classical, one setting", None)):
            method, settings = methods[name, told]
            found[kind] = method(rendered.degraded, **settings)
        for kind, restorer in opened.items():
            found[kind] = restore(restorer, rendered.degraded, instruction(name), sampling_of(restorer.model.params))
        for kind, image in found.items():
            scores[kind, name, level] = classical.psnr(rendered.clean, image)
    return scores


@cache
def _opened(weights, unet):
    restorer = load(weights, Placing())
    return {"tiny": restorer} | ({"unet": replace(restorer, model=load_unet(unet))} if unet else {})


def _one_thread():
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def markdown(methods, scores):
    """Return the table: input, and the gains of each, at the three levels."""
    kinds = ["tiny", "classical, told the level", "classical, one setting"]
    kinds += ["unet"] if ("unet", "noise", 1) in scores else []
    lines = [
        f"| | input | {' | '.join(kinds)} | classical methods |",
        f"|---|---|{'---|' * len(kinds)}---|",
    ]
    means = defaultdict(list)
    for name in PROMPTS:
        inputs = [scores["input", name, level] for level in LEVELS]
        cells = [" / ".join(f"{value:.1f}" for value in inputs)]
        for kind in kinds:
            gains = [scores[kind, name, level] - scores["input", name, level] for level in LEVELS]
            cells.append(" / ".join(f"{gain:+.1f}" for gain in gains) + f" (**{np.mean(gains):+.2f}**)")
            means[kind].append(np.mean(gains))
        named = ", ".join(dict.fromkeys(methods[name, level][0].__name__ for level in LEVELS))
        lines.append(f"| {name} | {' | '.join(cells)} | {named} |")
    cells = " | ".join(f"**{np.mean(means[kind]):+.2f}**" for kind in kinds)
    return "\n".join([*lines, f"| mean of nine | | {cells} | |"])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("split").add_argument("folder", type=Path)
    wanted = verbs.add_parser("table")
    wanted.add_argument("weights", type=Path)
    wanted.add_argument("--unet", type=Path)
    wanted.add_argument("--photographs", type=int, default=8)
    wanted.add_argument("--side", type=int, default=SIDE)
    wanted.add_argument("--tuned-on", type=int, default=TUNED_ON)
    wanted.add_argument("--workers", type=int, default=1)
    wanted.add_argument("--markdown", type=Path)
    given = parser.parse_args()
    if given.verb == "split":
        split(given.folder)
        return
    with ProcessPoolExecutor(given.workers, get_context("forkserver"), _one_thread) as pool:
        restorers = (given.weights, given.unet)
        found = table(pool, restorers, count=given.photographs, side=given.side, tuned_on=given.tuned_on)
    text = markdown(*found)
    if given.markdown:
        given.markdown.write_text(text + "\n")
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
