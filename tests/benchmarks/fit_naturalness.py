# ruff: noqa: T201  it prints its results
"""Fit `filters/_naturalness.json` to the clean photographs, and print how it tells them from really degraded ones.

    python tests/benchmarks/fit_naturalness.py [--folds 4] [--write]

Distances of clean photographs are by statistics of other ones. Needs scikit-learn.
"""

import argparse
import json
import sys
from pathlib import Path

import cv2
import numpy as np
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from filters._naturalness import Good, distance, patches
from tests.benchmarks.rendered import photographs

SHARP = 0.75  # of the contrast of the sharpest patch, as in NIQE
PER_PHOTOGRAPH = 40


def fit(images):
    """Return the Gaussian over the sharper patches of the images, as many of each."""
    kept = []
    for image in images:
        features, contrast = patches(image)
        sharp = features[contrast > SHARP * np.quantile(contrast, 0.95)]
        kept.append(sharp[:: max(1, len(sharp) // PER_PHOTOGRAPH)][:PER_PHOTOGRAPH])
    every = np.concatenate(kept)
    rounded = [[float(f"{value:.6g}") for value in row] for row in np.cov(every.T)]
    return Good(mean=[float(f"{value:.6g}") for value in every.mean(0)], covariance=rounded)


def main():
    """Fit, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    files = sorted((photographs() / "clean").iterdir())
    images = [cv2.imread(str(file))[..., ::-1] for file in files]
    clean = np.zeros(len(images))
    for fold in range(options.folds):
        good = fit([image for index, image in enumerate(images) if index % options.folds != fold])
        clean[fold :: options.folds] = [distance(image, good) for image in images[fold :: options.folds]]
    good = fit(images)
    print("clean, held out: quartiles", np.quantile(clean, [0, 0.25, 0.5, 0.75, 0.9, 0.99, 1]).round(2))
    for kind in sorted((photographs() / "real").iterdir()):
        real = np.array([distance(cv2.imread(str(file))[..., ::-1], good) for file in sorted(kind.iterdir())])
        auc = roc_auc_score([0] * len(clean) + [1] * len(real), [*clean, *real])
        beyond = np.mean(real > np.quantile(clean, 0.99))
        print(f"{kind.name:12s} n {len(real):2d} median {np.median(real):.2f} AUC {auc:.2f} beyond 99 % {beyond:.2f}")
    for sigma in (0.5, 1.0, 2.0):
        blurred = [distance(cv2.GaussianBlur(image, (0, 0), sigma), good) for image in images]
        print("blurred", sigma, f"AUC {roc_auc_score([0] * len(clean) + [1] * len(blurred), [*clean, *blurred]):.2f}")
    if options.write:
        target = Path(__file__).resolve().parents[2] / "filters/_naturalness.json"
        target.write_text(json.dumps(good.model_dump()) + "\n")


if __name__ == "__main__":
    main()
