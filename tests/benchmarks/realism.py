# ruff: noqa: T201  it prints its results
"""Can a classifier tell our degraded photographs from real ones, and more easily than it tells plain ones?

    python tests/benchmarks/realism.py [--photographs 24] [--side 768] [--types haze rain ...]

For each type, pictures made from clean photographs (ours; plain ones of `plain_degradations` from the same photographs
at the same severities; the clean ones themselves) are set against the real ones, all at one size and through one JPEG.
A logistic regression on `natural_statistics` of patches is trained to tell them apart, folds split by picture, and
scored by picture: AUC 0.5 is indistinguishable, 1 is told without fail. Intervals are 90 %, from resampling pictures;
the floor is one half of the real pictures against the other. Content differs between the sets, so 0.5 is out of reach;
the comparison that counts is ours against plain, from the same photographs. Needs scikit-learn and the photographs.
"""

import argparse
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from natural_statistics import statistics
from plain_degradations import PLAIN, plain
from rendered import evenly, photographs, read, scene_of
from scipy.stats import ks_2samp
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from degradations._codecs import jpeg
from degradations._recipes import draw
from degradations._render import render
from storage.records import Image

PATCH, PATCHES = 256, 6
QUALITY = 92  # of the JPEG that all pictures pass, so that codecs do not tell them apart
RESAMPLES = 400
Patches = list[dict[str, float]]  # of one picture


@dataclass(frozen=True, slots=True)
class Comparison:
    """How well two sets are told apart: the scores of their pictures, held out."""

    real: np.ndarray
    made: np.ndarray

    def auc(self, rng: np.random.Generator | None = None) -> float:
        """Return the area under the curve, of the pictures or of a resample of them."""
        real, made = self.real, self.made
        if rng is not None:
            real, made = (scores[rng.integers(0, len(scores), len(scores))] for scores in (real, made))
        difference = real[:, None] - made[None, :]
        return float((difference > 0).mean() + 0.5 * (difference == 0).mean())

    def interval(self) -> str:
        """Return the AUC and its 90 % interval in words."""
        rng = np.random.Generator(np.random.PCG64(0))
        low, high = np.quantile([self.auc(rng) for _ in range(RESAMPLES)], (0.05, 0.95))
        return f"{self.auc():.2f} ({low:.2f}-{high:.2f})"


def main() -> None:
    """Print a line for each type, and the statistics by which ours differ most."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=int, default=24)
    parser.add_argument("--side", type=int, default=768)
    parser.add_argument("--types", nargs="+", default=sorted(PLAIN))
    options = parser.parse_args()
    clean = evenly(sorted((photographs() / "clean").iterdir()), options.photographs)
    print("type real | ours plain clean floor: AUC (90 %) | share of resamples in which ours is the harder to tell")
    for name in options.types:
        real = sorted((photographs() / "real" / name).iterdir())
        jobs = [(name, file, clean[(5 * i + 7) % len(clean)], options.side, i) for i, file in enumerate(clean)]
        with ProcessPoolExecutor(2) as pool:
            made = list(pool.map(_made, jobs))
            true = list(pool.map(_real, [(file, options.side) for file in real]))
        _report(name, true, *(list(group) for group in zip(*made, strict=True)))


def _report(name: str, real: list[Patches], ours: list[Patches], plains: list[Patches], clean: list[Patches]) -> None:
    told = [compared(real, group) for group in (ours, plains, clean)]
    rng = np.random.Generator(np.random.PCG64(1))
    better = np.mean([told[0].auc(rng) < told[1].auc(rng) for _ in range(RESAMPLES)])
    columns = " ".join(each.interval() for each in told)
    print(f"{name} {len(real)} | {columns} {_floor(real)} | {better:.2f}", flush=True)
    print(f"    ours {_farthest(real, ours)}\n    plain {_farthest(real, plains)}", flush=True)


def compared(real: list[Patches], made: list[Patches]) -> Comparison:
    """Return the held-out scores of both sets: the mean over its patches of the classifier that has not seen it."""
    groups = [index for index, patches in enumerate([*real, *made]) for _ in patches]
    table = np.array([list(patch.values()) for patches in [*real, *made] for patch in patches])
    is_real = np.array(groups) < len(real)
    scores = np.zeros(len(groups))
    folds = StratifiedGroupKFold(min(5, len(real), len(made)), shuffle=True, random_state=0)
    for train, test in folds.split(table, is_real, groups):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, class_weight="balanced", max_iter=2000))
        scores[test] = model.fit(table[train], is_real[train]).decision_function(table[test])
    by_picture = np.bincount(groups, scores) / np.bincount(groups)
    return Comparison(by_picture[: len(real)], by_picture[len(real) :])


def _floor(real: list[Patches]) -> str:
    """Return the mean AUC of halves of the real pictures against each other, where there are four or more."""
    if len(real) < 4:
        return "-"
    rng, found = np.random.Generator(np.random.PCG64(2)), []
    for _ in range(10):
        order = rng.permutation(len(real))
        halves = [[real[index] for index in part] for part in (order[: len(real) // 2], order[len(real) // 2 :])]
        found.append(compared(*halves).auc())
    return f"{np.mean(found):.2f}"


def _farthest(real: list[Patches], made: list[Patches]) -> str:
    """Return the three statistics that differ most (Kolmogorov-Smirnov), + where they are larger in `made`."""
    names = list(real[0][0])
    columns = [np.array([[patch[key] for key in names] for patch in patches]).mean(axis=0) for patches in real]
    others = [np.array([[patch[key] for key in names] for patch in patches]).mean(axis=0) for patches in made]
    pairs = zip(np.stack(columns).T, np.stack(others).T, strict=True)
    tests = [(ks_2samp(*pair), key) for pair, key in zip(pairs, names, strict=True)]
    found = [(float(test.statistic), f"{key}{'+' if test.statistic_sign > 0 else '-'}") for test, key in tests]
    worst = ", ".join(f"{key} {value:.2f}" for value, key in sorted(found, reverse=True)[:3])
    return f"mean KS {np.mean([value for value, _ in found]):.2f}; {worst}"


def _made(job: tuple[str, Path, Path, int, int]) -> tuple[Patches, Patches, Patches]:
    name, file, other, side, index = job
    cv2.setNumThreads(1)
    scene = scene_of(file, other, side)
    severity = 0.1 + 0.5 * (index * 0.618 % 1)  # levels 1 to 3, as most real ones; no order among the photographs
    ours = render(scene, draw(name, severity, scene, seed=index)).degraded
    return _patches(ours), _patches(plain(name, scene, severity, index)), _patches(scene.image)


def _real(job: tuple[Path, int]) -> Patches:
    cv2.setNumThreads(1)
    return _patches(read(*job))


def _patches(image: Image) -> Patches:
    """Return the statistics of up to PATCHES patches of `image`, spread evenly, after one JPEG."""
    image = jpeg(np.ascontiguousarray(image), quality=QUALITY, subsampling="4:2:0")
    height, width = image.shape[:2]
    side = min(PATCH, height, width)
    corners = [
        (row, column)
        for row in np.linspace(0, height - side, max(1, min(2, height // side))).astype(int)
        for column in np.linspace(0, width - side, max(1, min(3, width // side))).astype(int)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [statistics(image[row : row + side, column : column + side]) for row, column in corners[:PATCHES]]


if __name__ == "__main__":
    main()
