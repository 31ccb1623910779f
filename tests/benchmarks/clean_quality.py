# ruff: noqa: T201  it prints its results
"""Which photographs does `clean_quality` keep: clean ones, good ones made bad, and really bad ones.

    python tests/benchmarks/clean_quality.py PAIRS [--most 504]

PAIRS is the folder that `store_pairs.py` wrote. Prints the share that goes by type and level with the shipped limits;
then, for the limits that were chosen here, what each would be if it cost 1.5 % of the clean photographs, as a median
over five folds of them, with the share of the held-out ones that it costs.
"""

import argparse
from collections import Counter, defaultdict
from pathlib import Path

import cv2
import numpy as np
from rendered import photographs, read
from store_pairs import files_of, stored

from filters import load
from filters._contract import Filter, Sample, Scores
from storage.records import Image, level

FAULTS = ("blur", "compression", "noise")
LIMITS = (("edge_width", 1), ("fine_detail", -1), ("detail", -1), ("noise", 1), ("chroma_noise", 1), ("blockiness", 1))
COST = 1.5  # per cent of the clean photographs, for each limit
FOLDS = 5

Groups = dict[str, list[Scores]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--most", type=int)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    quality = load("clean_quality")()
    groups = _groups(options.pairs, options.most)
    for name, scores in sorted(groups.items()):
        reasons = Counter(quality.judge(one).reason for one in scores)
        going = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common() if reason)
        print(f"{name:22s} {len(scores) - reasons['']:4d} of {len(scores):4d} go  {going}")
    _print_totals(groups, quality)
    _print_limits(groups["clean"], groups["clean at 768"])


def _groups(pairs: Path, most: int | None) -> Groups:
    groups: Groups = defaultdict(list)
    for file in sorted((photographs() / "clean").iterdir()):
        groups["clean"].append(_scores(read(file, 10**6)))
        groups["clean at 768"].append(_scores(read(file, 768)))
    for file in sorted((photographs() / "real").glob("*/*")):
        groups[f"real {file.parent.name}"].append(_scores(read(file, 10**6)))
    for name in FAULTS:
        for file in files_of(pairs, name, most=most):
            pair = stored(file)
            groups[f"made {name} {level(pair.recipe.severity)}"].append(_scores(pair.degraded))
    return groups


def _scores(image: Image) -> Scores:
    return load("clean_quality")().open("cpu")([Sample(key="", clean=image)])[0]


def _print_totals(groups: Groups, quality: Filter) -> None:
    """Print precision and recall of "stays" as the mark of a clean photograph, against all really bad ones."""
    kept = {name: sum(quality.judge(one).keep for one in scores) for name, scores in groups.items()}
    for title, types in (("blur, compression and noise", FAULTS), ("all nine types", ("",))):
        bad = [name for name in groups if name.startswith("real ") and any(fault in name for fault in types)]
        passed = sum(kept[name] for name in bad)
        count = sum(len(groups[name]) for name in bad)
        print(
            f"against real {title}: precision {kept['clean'] / (kept['clean'] + passed):.3f}, recall "
            f"{kept['clean'] / len(groups['clean']):.3f}; {count - passed} of {count} bad ones go"
        )


def _print_limits(clean: list[Scores], smaller: list[Scores]) -> None:
    fold = np.arange(len(clean)) % FOLDS
    for name, sign in LIMITS:
        values = np.array([[sign * one[name] for one in scores] for scores in (clean, smaller)])
        if name == "noise":  # counts only where it is even
            values[np.array([[one["evenness"] >= 1.25 for one in scores] for scores in (clean, smaller)])] = 0
        limits = [np.percentile(values[:, fold != k], 100 - COST) for k in range(FOLDS)]
        cost = np.mean([np.mean(values[0, fold == k] > limits[k]) for k in range(FOLDS)])
        print(f"{name:14s} {sign * np.median(limits):.3f} (held-out clean ones that go: {100 * cost:.1f} %)")


if __name__ == "__main__":
    main()
