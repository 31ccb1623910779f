# ruff: noqa: T201  it prints its results
"""Fit the weights of `filters/_embedded_grade.json` to rendered pairs, and print how well they tell the levels.

    python tests/benchmarks/store_pairs.py FOLDER
    python tests/benchmarks/fit_grades.py FOLDER [--photographs 36] [--rows FILE] [--real] [--write]

The wanted grade of a type is 5 on clean photographs and on those with any other degradation, and that of the level on
its own: 4, 4, 3, 2, 1. Figures are by cross-validation over photographs. Needs scikit-learn.
"""

import argparse
import glob
import json
from pathlib import Path

import cv2
import numpy as np
from rendered import evenly, photographs, read
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import filters
from filters._embedded_grade import statistics
from filters.severity_vlm import GRADE_OF_LEVEL
from storage.records import level

TYPES = ("blur", "compression", "flare", "haze", "low_light", "moire", "noise", "rain", "reflection")
Row = tuple[int, str, int, dict[str, float]]  # photograph, type, level, statistics


def main() -> None:
    """Render, fit, print and, if asked, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photographs", type=int, default=36)
    parser.add_argument("--rows", type=Path, help="keep the statistics here, or take them from here")
    parser.add_argument("--real", action="store_true", help="print the grades of really degraded photographs too")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.rows and options.rows.exists():
        rows = [tuple(row) for row in json.loads(options.rows.read_text())]
    else:
        rows = _rows(options.folder, options.photographs)
        if options.rows:
            options.rows.write_text(json.dumps(rows))
    model = _fitted(rows)
    if options.write:
        Path(filters.__file__).with_name("_embedded_grade.json").write_text(json.dumps(model, indent=0) + "\n")
    if options.real:
        _print_real(model["features"], np.array(model["weights"]), np.array(model["bias"]))


def _rows(folder: Path, count: int) -> list[Row]:
    cv2.setNumThreads(1)
    rows: list[Row] = []
    for number, file in enumerate(evenly(sorted((folder / "clean").iterdir()), count)):
        rows.append((number, "clean", 0, statistics(read(file, 10**6))))
        for name in TYPES:
            for recipe in sorted((folder / name).glob(f"{glob.escape(file.stem)}-[0-9].json")):
                severity = json.loads(recipe.read_bytes())["severity"]
                found = statistics(read(recipe.with_suffix(".png"), 10**6))
                rows.append((number, name, level(severity), found))
        print(f"{number + 1} photographs", flush=True)
    return rows


def _fitted(rows: list[Row]) -> dict[str, object]:
    names = sorted(rows[0][3])
    features = np.array([[row[3][name] for name in names] for row in rows])
    sources, levels = (np.array([row[column] for row in rows]) for column in (0, 2))
    types = np.array([row[1] for row in rows])
    weights, bias = [], []
    for name in TYPES:
        own = types == name
        wanted = np.where(own, [GRADE_OF_LEVEL.get(int(one), 5) for one in levels], 5).astype(float)
        share = np.where(own, 1.0, np.where(types == "clean", 8.0, 0.1))
        model = make_pipeline(StandardScaler(), Ridge(alpha=200.0))
        found = cross_val_predict(
            model, features, wanted, groups=sources, cv=GroupKFold(6), params={"ridge__sample_weight": share}
        )
        grades = np.clip(np.rint(found), 1, 5)
        with_clean = own | (types == "clean")
        print(
            f"  {name:12s} levels {spearmanr(found[with_clean], wanted[with_clean])[0]:.2f}"
            f"  within one {np.mean(abs(grades - wanted)[with_clean] <= 1):.2f}"
            f"  clean as 4 or 5 {np.mean(grades[types == 'clean'] >= 4):.2f}"
            f"  others as 4 or 5 {np.mean(grades[~with_clean] >= 4):.2f}"
            f"  means {' '.join(f'{found[with_clean & (levels == at)].mean():.1f}' for at in range(6))}"
        )
        model.fit(features, wanted, ridge__sample_weight=share)
        scale, ridge = model[0], model[1]
        weights.append(np.round(ridge.coef_ / scale.scale_, 5).tolist())
        bias.append(round(float(ridge.intercept_ - (ridge.coef_ / scale.scale_) @ scale.mean_), 5))
    return {"types": list(TYPES), "features": names, "weights": weights, "bias": bias}


def _print_real(names: list[str], weights: np.ndarray, bias: np.ndarray) -> None:
    """Print the mean grade of really degraded photographs, and that of clean ones for the same question."""
    folders = {"clean": photographs() / "clean"} | {f.name: f for f in sorted((photographs() / "real").iterdir())}
    found = {}
    for folder, path in folders.items():
        taken = evenly(sorted(path.iterdir()), 24)
        features = np.array([[statistics(read(file, 1024))[name] for name in names] for file in taken])
        found[folder] = np.clip(features @ weights.T + bias, 1, 5)
    for index, name in enumerate(TYPES):
        print(f"  real {name:12s} {found[name][:, index].mean():.2f}, clean {found['clean'][:, index].mean():.2f}")


if __name__ == "__main__":
    main()
