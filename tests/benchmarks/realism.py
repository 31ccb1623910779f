# ruff: noqa: T201  it prints its results
"""Can a classifier tell our degraded photographs from real ones, and more easily than it tells plain ones?

    python tests/benchmarks/realism.py [--photographs 24] [--side 768] [--types haze rain] [--draws 3] [--levels 1 3]
        [--matched] [--by light] [--confined]

For each type, pictures made from clean photographs (ours; plain ones of `plain_degradations` from the same photographs
at the same severities; the clean ones themselves) are set against the real ones, all at one size and through one JPEG.
A logistic regression on `natural_statistics` of patches is trained to tell them apart, folds split by picture, and
scored by picture: AUC 0.5 is indistinguishable, 1 is told without fail. What is drawn anew is trained and scored anew,
and the AUC is the mean of the draws. Intervals are 90 %, from resampling real pictures and photographs, the same for
all draws and both ways of degrading; the floor is one half of the real pictures against the other. Content differs
between the sets, so 0.5 is out of reach; the comparison that counts is ours against plain, from the same photographs.
With --matched the photographs are those whose tones and saturation are nearest to the real ones', in turn, so that
evening is set against evening; with --by light the statistics are those of `light_statistics`; with --confined plain
pictures of local types obey the law of areas, too: in the share of the picture that severity names, where they change
it most, they are left as they are, elsewhere they change it by no more than what counts as unseen.
Needs scikit-learn and the photographs.
"""

import argparse
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from light_statistics import around_light
from natural_statistics import statistics
from plain_degradations import PLAIN, plain
from rendered import evenly, photographs, read, scene_of
from scipy.stats import ks_2samp
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from degradations.coding.codecs import jpeg
from degradations.numerics.area import VISIBLE
from degradations.pairs.recipes import draw
from degradations.pairs.render import render
from degradations.pairs.severity import path
from storage.records import Image

PATCH, PATCHES = 256, 6
QUALITY = 92  # of the JPEG that all pictures pass, so that codecs do not tell them apart
RESAMPLES = 400
SMOOTH = 0.04  # of the short side: over which a change is seen as one
Patches = list[dict[str, float]]  # of one picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One photograph to degrade. other: what reflects in the glass. severity: in [0, 1]. by: which statistics.

    confined: whether plain pictures obey the law of areas.
    """

    name: str
    file: Path
    other: Path
    side: int
    severity: float
    seed: int
    by: str
    confined: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """How well two sets are told apart, in one draw: the scores of their pictures, held out."""

    real: np.ndarray
    made: np.ndarray

    def auc(self, real: Any = ..., made: Any = ...) -> float:
        """Return the area under the curve, of all pictures or of those chosen."""
        difference = self.real[real][..., :, None] - self.made[made][..., None, :]
        return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


@dataclass(frozen=True, slots=True)
class Told:
    """The comparisons of all draws of one way of making pictures."""

    draws: tuple[Comparison, ...]

    def auc(self, real: Any = ..., made: Any = ...) -> float:
        """Return the mean AUC of the draws, of all pictures or of those chosen."""
        return float(np.mean([draw.auc(real, made) for draw in self.draws]))

    def resampled(self) -> np.ndarray:
        """Return the AUC of RESAMPLES choices of pictures, the same for every way of making them."""
        rng = np.random.Generator(np.random.PCG64(0))
        sizes = len(self.draws[0].real), len(self.draws[0].made)
        return np.array([self.auc(*(rng.integers(0, size, size) for size in sizes)) for _ in range(RESAMPLES)])

    def __str__(self) -> str:
        low, high = np.quantile(self.resampled(), (0.05, 0.95))
        each = "/".join(f"{draw.auc():.2f}" for draw in self.draws)
        return f"{self.auc():.2f} ({low:.2f}-{high:.2f})" + (f" [{each}]" if len(self.draws) > 1 else "")


def main() -> None:
    """Print a line for each type, and the statistics by which ours differ most."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=int, default=24)
    parser.add_argument("--side", type=int, default=768)
    parser.add_argument("--types", nargs="+", default=sorted(PLAIN))
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--matched", action="store_true", help="take photographs of like tones")
    parser.add_argument("--confined", action="store_true", help="hold plain pictures to the law of areas")
    parser.add_argument("--by", choices=("patches", "light"), default="patches")
    parser.add_argument("--levels", type=int, nargs=2, default=(1, 3), help="middle of one to end of other")
    options = parser.parse_args()
    everything = sorted((photographs() / "clean").iterdir())
    files = everything if options.matched else evenly(everything, options.photographs)
    print("type real | ours plain clean floor: AUC (90 %) | share of resamples in which ours is the harder to tell")
    with ProcessPoolExecutor(2) as pool:
        untouched = _as_they_are(pool, files, options)
        for name in options.types:
            true = _as_they_are(pool, _files(name), options)
            chosen = range(len(files))
            if options.matched:
                toned = [_as_they_are(pool, some, options, by="patches") for some in (_files(name), files)]
                chosen = _nearest(*toned, options.photographs)
            clean = [files[index] for index in chosen]
            draws = [list(pool.map(_made, _jobs(name, clean, options, draw))) for draw in range(options.draws)]
            _report(
                name,
                true,
                *([[made[way] for made in draw] for draw in draws] for way in (0, 1)),
                [untouched[index] for index in chosen],
            )


def _as_they_are(
    pool: ProcessPoolExecutor, files: list[Path], options: argparse.Namespace, by: str | None = None
) -> list[Patches]:
    return list(pool.map(_measured, [(file, options.side, by or options.by) for file in files]))


def _nearest(real: list[Patches], clean: list[Patches], count: int) -> list[int]:
    """Return which of `clean` are the nearest to each of `real` in turn, none twice, in order."""
    names = [*(f"tone_{index}" for index in range(5)), "saturation"]
    points = np.array([[np.mean([patch[key] for patch in patches]) for key in names] for patches in [*real, *clean]])
    points = points / points.std(axis=0)
    distances = np.linalg.norm(points[len(real) :, None] - points[None, : len(real)], axis=2)
    chosen: list[int] = []
    for turn in range(count):
        order = np.argsort(distances[:, turn % len(real)]).tolist()
        chosen.append(next(index for index in order if index not in chosen))
    return sorted(chosen)


def _files(name: str) -> list[Path]:
    return sorted((photographs() / "real" / name).iterdir())


def _jobs(name: str, clean: list[Path], options: argparse.Namespace, draw: int) -> list[Job]:
    """Return what to make, severities in no order among the photographs; each draw has other partners."""
    low, high = (options.levels[0] - 0.5) / 5, options.levels[1] / 5
    return [
        Job(
            name=name,
            file=file,
            other=clean[(5 * index + 7 + draw) % len(clean)],
            side=options.side,
            severity=low + (high - low) * (index * 0.618 % 1),
            seed=index + 1000 * draw,
            by=options.by,
            confined=options.confined,
        )
        for index, file in enumerate(clean)
    ]


def _report(
    name: str, real: list[Patches], ours: list[list[Patches]], plains: list[list[Patches]], clean: list[Patches]
) -> None:
    told = [Told(tuple(compared(real, made) for made in draws)) for draws in (ours, plains, [clean])]
    harder = np.mean(told[0].resampled() < told[1].resampled())
    print(f"{name} {len(real)} | {' '.join(map(str, told))} {_floor(real)} | {harder:.2f}", flush=True)
    print(f"    ours {_farthest(real, ours[0])}\n    plain {_farthest(real, plains[0])}", flush=True)


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


def _made(job: Job) -> tuple[Patches, Patches]:
    cv2.setNumThreads(1)
    scene = scene_of(job.file, job.other, job.side)
    ours = render(scene, draw(job.name, job.severity, scene, seed=job.seed)).degraded
    beside = plain(job.name, scene, job.severity, job.seed)
    if job.confined:
        beside = _confined(beside, scene.image, path(job.severity, import_module(f"degradations.{job.name}").AREA))
    return _statistics(ours, job.by), _statistics(beside, job.by)


def _confined(made: Image, image: Image, share: float) -> Image:
    """Return `made` where it changes `image` most, smoothly seen, in `share` of it; elsewhere an unseen change."""
    change = made.astype(np.float32) - image
    size = cv2.GaussianBlur(np.abs(change).max(axis=2), (0, 0), SMOOTH * min(image.shape[:2]))
    seen = size >= np.quantile(size, 1 - share)
    most = np.where(seen, 255, np.floor(255 * VISIBLE))[..., None]
    return np.asarray(np.clip(image + np.clip(change, -most, most), 0, 255), dtype=np.uint8)


def _measured(job: tuple[Path, int, str]) -> Patches:
    file, side, by = job
    cv2.setNumThreads(1)
    return _statistics(read(file, side), by)


def _statistics(image: Image, by: str) -> Patches:
    return [around_light(image)] if by == "light" else _patches(image)


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
