# ruff: noqa: T201  it prints its results
"""Fit the weights of `filters/_likeness.json` to rendered pairs, and print how well they tell the types apart.

    python tests/benchmarks/fit_likeness.py [--photographs 36] [--draws 1] [--side 768] [--write]

Accuracy is by cross-validation over photographs: no photograph is on both sides. AUC on real photographs is of the
models without reference, fitted to rendered ones of levels 3 to 5 against clean ones. Needs scikit-learn.
"""

import argparse
import json
import zlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from rendered import evenly, pairs, photographs, read, scene_of
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import degradations
import filters
from filters._appearance import appearance
from filters._evidence import evidence
from filters._likeness import Weights, compressed, likeness

Row = tuple[str, int, dict[str, float], dict[str, float]]  # type, level, statistics of the pair and of the image
REGULARISATION = 0.3
UNUSED = ("changed", "flattening")
FEATURES = {  # of one image: those that tell both rendered and real ones from clean photographs
    "blur": ("edge_width", "fine_detail"),
    "compression": ("blockiness", "chroma_noise"),
    "flare": ("light_99.5", "light_50", "dark_20"),
    "haze": ("dark_50", "local_contrast", "saturation"),
    "low_light": ("light_90", "light_50"),
    "moire": ("pattern", "light_1"),
    "noise": ("noise", "evenness"),
    "rain": ("anisotropy_0", "saturation", "flat"),
    "reflection": ("quiet_3", "dark_20", "edge_width"),
}


def main() -> None:
    """Render, fit, print and, if asked, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=int, default=36)
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--side", type=int, default=768)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    files = evenly(sorted((photographs() / "clean").iterdir()), options.photographs)
    jobs = [
        (file, files[(3 * index + 5) % len(files)], options.draws, options.side) for index, file in enumerate(files)
    ]
    with ProcessPoolExecutor(2) as pool:
        groups = list(pool.map(_rows, jobs))
    rows = [row for group in groups for row in group]
    sources = np.array([index for index, group in enumerate(groups) for _ in group])
    models = {"pair": _fit_pairs(rows, sources), "image": _fit_images(rows)}
    _print_auc(models["image"])
    if options.write:
        Path(filters.__file__).with_name("_likeness.json").write_text(json.dumps(models, indent=0) + "\n")


def _rows(job: tuple[Path, Path, int, int]) -> list[Row]:
    cv2.setNumThreads(1)
    file, other, draws, side = job
    scene = scene_of(file, other, side)
    seed = zlib.crc32(file.name.encode())
    rows: list[Row] = [("clean", 0, {}, appearance(scene.image))]
    for name in degradations.names():
        for level in range(1, 6):
            for _, pair in pairs(scene, name, level, draws=draws, seed=seed):
                rows.append((name, level, evidence(pair.clean, pair.degraded), appearance(pair.degraded)))
    return rows


def _fit_pairs(rows: list[Row], sources: np.ndarray) -> dict[str, object]:
    used = [index for index, row in enumerate(rows) if row[0] != "clean"]
    names = [name for name in rows[used[0]][2] if name not in UNUSED]
    features = compressed([[rows[index][2][name] for name in names] for index in used])
    types, levels = (np.array([rows[index][column] for index in used]) for column in (0, 1))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=REGULARISATION, max_iter=5000))
    chances = cross_val_predict(model, features, types, groups=sources[used], cv=GroupKFold(6), method="predict_proba")
    order = np.unique(types)
    _print_confusion(types, order[chances.argmax(1)], levels)
    true = order[None] == types[:, None]
    for least in (1e-4, 1e-3, 1e-2):
        print(
            f"  likeness under {least}: {np.mean(chances[true] < least):.4f} of true types, "
            f"{np.mean(chances[~true] < least):.3f} of wrong ones"
        )
    model.fit(features, types)
    return _stored(model, model[1].classes_.tolist(), names, model[1].coef_, model[1].intercept_)


def _fit_images(rows: list[Row]) -> dict[str, object]:
    names = sorted({name for chosen in FEATURES.values() for name in chosen})
    features = compressed([[row[3][name] for name in names] for row in rows])
    types, levels = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    scaler = StandardScaler().fit(features)
    weights, bias = np.zeros((len(FEATURES), len(names))), np.zeros(len(FEATURES))
    for index, (name, chosen) in enumerate(FEATURES.items()):
        used = (types == "clean") | ((types == name) & (levels >= 3))
        columns = [names.index(feature) for feature in chosen]
        model = LogisticRegression(class_weight="balanced")
        model.fit(scaler.transform(features)[used][:, columns], types[used] == name)
        weights[index, columns], bias[index] = model.coef_[0], model.intercept_[0]
    return _stored((scaler, None), list(FEATURES), names, weights, bias)


def _stored(model: object, types: list[str], names: list[str], weights: np.ndarray, bias: np.ndarray) -> dict:
    return {
        "types": types,
        "features": names,
        "mean": np.round(model[0].mean_, 6).tolist(),
        "scale": np.round(model[0].scale_, 6).tolist(),
        "weights": np.round(weights, 5).tolist(),
        "bias": np.round(bias, 5).tolist(),
    }


def _print_confusion(types: np.ndarray, guesses: np.ndarray, levels: np.ndarray) -> None:
    right = types == guesses
    by_level = " ".join(f"{level}: {right[levels == level].mean():.3f}" for level in sorted(set(levels.tolist())))
    print(f"{len(types)} examples; right {right[levels > 1].mean():.3f} at levels 2 to 5; by level {by_level}")
    order = sorted(set(types.tolist()))
    for name in order:
        counts = [int(np.sum((types == name) & (guesses == other) & (levels != 1))) for other in order]
        print(f"  {name:12s}" + " ".join(f"{count:4d}" for count in counts))


def _print_auc(model: dict[str, object]) -> None:
    """Print the AUC of each type of really degraded photographs against the clean ones, at full resolution."""
    weights = Weights.model_validate(model)
    folders = {"clean": photographs() / "clean"} | {f.name: f for f in sorted((photographs() / "real").iterdir())}
    scores = {folder: [_scores(weights, file) for file in sorted(path.iterdir())] for folder, path in folders.items()}
    for name in weights.types:
        both = [one[name] for folder in (name, "clean") for one in scores[folder]]
        truth = np.repeat([1, 0], [len(scores[name]), len(scores["clean"])])
        print(f"  real {name:12s} {len(scores[name]):3d} of {len(truth)}: AUC {roc_auc_score(truth, both):.3f}")


def _scores(weights: Weights, file: Path) -> dict[str, float]:
    return likeness("image", appearance(read(file, 10**6)), weights)


if __name__ == "__main__":
    main()
