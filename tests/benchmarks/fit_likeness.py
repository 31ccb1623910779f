# ruff: noqa: T201  it prints its results
"""Fit the weights of `filters/_likeness.json` to rendered pairs, and print how well they tell the types apart.

    python tests/benchmarks/fit_likeness.py PAIRS STATISTICS [--most 250] [--write]

PAIRS is the folder that `store_pairs.py` wrote, STATISTICS one in which what was measured is kept by name; delete it
when a statistic has changed. The confusion of the nine types of pairs is by cross-validation over photographs: no
photograph is on both sides. The AUC on really degraded photographs is of the models without a clean side, fitted to
rendered ones of levels 3 to 5 against clean ones, with the AUC on rendered ones of held-out photographs beside it. Last
come the pairs that `presence` drops with its shipped limits, by name. Needs scikit-learn.
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import TypedDict

import cv2
import numpy as np
from rendered import photographs, read
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from store_pairs import files_of, stored

import degradations
import filters
from degradations.pairs.coupled import COUPLED
from filters import load
from filters._appearance import appearance
from filters._evidence import evidence
from filters._likeness import Weights, compressed, likeness
from filters.presence import scores_of
from storage.canonical import decode
from storage.records import Recipe, level


class Row(TypedDict):
    """The statistics of a pair and of one image; name "clean" and a real type's have no pair."""

    name: str
    photograph: str
    level: int
    file: str
    pair: dict[str, float]
    image: dict[str, float]


NINE = ("blur", "compression", "flare", "haze", "low_light", "moire", "noise", "rain", "reflection")

REGULARISATION = 0.3
FOLDS = 4
LEAST_LEVEL = 3  # of rendered pairs from which the models of one image learn
UNUSED = ("changed", "flattening")
FEATURES = {  # of one image: those that tell both rendered and real ones from clean photographs
    "blur": ("edge_width", "fine_detail"),
    "compression": ("blockiness", "chroma_noise"),
    "flare": ("falloff", "light_99.5"),
    "haze": ("dark_50", "local_contrast", "saturation"),
    "low_light": ("light_90", "light_50"),
    "moire": ("pattern", "light_1"),
    "noise": ("noise", "evenness"),
    "rain": ("anisotropy_0", "saturation", "flat"),
    "reflection": ("quiet_3", "dark_20", "edge_width"),
}


def main() -> None:
    """Measure what is missing, fit, print and, if asked, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("statistics", type=Path)
    parser.add_argument("--most", type=int, default=250)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    options.statistics.mkdir(parents=True, exist_ok=True)
    photographs = _photographs(options.statistics / "photographs.jsonl")
    clean = _small(options.pairs, options.statistics / "clean.jsonl")
    made = [
        row for name in degradations.names() for row in _made(options.pairs, options.statistics, name, options.most)
    ]
    models = {"pair": _fit_pairs(made), "image": _fit_images([*made, *clean])}
    _print_auc(made, clean, photographs)
    coupled = [row for name in COUPLED for row in _made(options.pairs, options.statistics, name, options.most)]
    _print_drops([*made, *coupled], Weights.model_validate(models["pair"]))
    if options.write:
        Path(filters.__file__).with_name("_likeness.json").write_text(json.dumps(models, indent=0) + "\n")


def _made(pairs: Path, statistics: Path, name: str, most: int) -> list[Row]:
    """Return the statistics of rendered pairs; what is missing is measured and kept."""
    kept = statistics / f"{name}.jsonl"
    rows: list[Row] = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    done = {row["file"] for row in rows}
    with kept.open("a") as stream:
        for file in (file for file in files_of(pairs, name, most=most) if file.stem not in done):
            pair = stored(file)
            found = {"pair": evidence(pair.clean, pair.degraded), "image": appearance(pair.degraded)}
            row: Row = {"name": name, "photograph": pair.photograph, "level": level(pair.recipe.severity), **found}
            row["file"] = file.stem
            stream.write(json.dumps(row) + "\n")
            rows.append(row)
    for row in rows:
        row["file"] = str(pairs / name / f"{row['file']}.json")
    return rows


def _photographs(kept: Path) -> list[Row]:
    """Return the statistics of the clean and of the really degraded photographs, at full resolution."""
    files = [*sorted((photographs() / "clean").iterdir()), *sorted((photographs() / "real").glob("*/*"))]
    return _looked_at(kept, [(file.parent.name, file) for file in files])


def _small(pairs: Path, kept: Path) -> list[Row]:
    """Return the statistics of the clean photographs at the size of the pairs."""
    return _looked_at(kept, [("clean", file) for file in sorted((pairs / "clean").iterdir())])


def _looked_at(kept: Path, files: list[tuple[str, Path]]) -> list[Row]:
    if not kept.exists():
        rows = [{"name": name, "photograph": file.stem, "image": appearance(read(file, 10**6))} for name, file in files]
        kept.write_text("".join(json.dumps({"level": 0, "file": "", "pair": {}, **row}) + "\n" for row in rows))
    return [json.loads(line) for line in kept.read_text().splitlines()]


def _fit_pairs(rows: list[Row]) -> dict[str, object]:
    names = [name for name in rows[0]["pair"] if name not in UNUSED]
    features = compressed([[row["pair"][name] for name in names] for row in rows])
    types, levels, sources = (np.array([row[key] for row in rows]) for key in ("name", "level", "photograph"))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=REGULARISATION, max_iter=5000))
    folds = GroupKFold(6)
    chances = cross_val_predict(model, features, types, groups=sources, cv=folds, method="predict_proba")
    order = np.unique(types)
    _print_confusion(types, chances, order, levels, tuple(order))
    _print_confusion(types, chances, order, levels, NINE)
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
    features = compressed([[row["image"][name] for name in names] for row in rows])
    types, levels = np.array([row["name"] for row in rows]), np.array([row["level"] for row in rows])
    scaler = StandardScaler().fit(features)
    weights, bias = np.zeros((len(FEATURES), len(names))), np.zeros(len(FEATURES))
    for index, (name, chosen) in enumerate(FEATURES.items()):
        used = (types == "clean") | ((types == name) & (levels >= LEAST_LEVEL))
        columns = [names.index(feature) for feature in chosen]
        model = LogisticRegression(class_weight="balanced", max_iter=5000)
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


def _print_confusion(types, chances, order, levels, names) -> None:
    """Print how often the likeliest of `names` is right."""
    used = np.isin(types, names)
    columns = [int(np.flatnonzero(order == name)[0]) for name in names]
    guesses = np.array(names)[chances[used][:, columns].argmax(1)]
    truth, level_of = types[used], levels[used]
    right = truth == guesses
    by_level = " ".join(f"{one}: {right[level_of == one].mean():.3f}" for one in sorted(set(level_of.tolist())))
    print(
        f"{len(names)} types, {len(truth)} pairs; right {right[level_of > 1].mean():.3f} at levels 2 to 5; {by_level}"
    )
    for name in names:
        counts = [int(np.sum((truth == name) & (guesses == other) & (level_of != 1))) for other in names]
        print(f"  {name:12s}" + " ".join(f"{count:4d}" for count in counts))


def _print_auc(made: list[Row], clean: list[Row], photographs: list[Row]) -> None:
    """Print the AUC of each type against clean photographs that the model has not seen, mean over folds."""
    sources = sorted({row["photograph"] for row in clean})
    found: dict[str, list[list[float]]] = {}
    for fold in range(FOLDS):
        unseen = set(sources[fold::FOLDS])
        model = Weights.model_validate(_fit_images([row for row in [*made, *clean] if row["photograph"] not in unseen]))
        negative = [row for row in photographs if row["name"] == "clean" and row["photograph"] in unseen]
        small = [row for row in clean if row["photograph"] in unseen]
        for name in model.types:
            real = [row for row in photographs if row["name"] == name]
            rendered = [
                row for row in made if row["name"] == name and row["photograph"] in unseen and row["level"] >= 2
            ]
            pairs = ((real, negative), (rendered, small))
            found.setdefault(name, []).append([_auc(model, name, some, others) for some, others in pairs])
    for name, folds in found.items():
        count = sum(row["name"] == name for row in photographs)
        real, rendered = np.mean(folds, axis=0)
        print(f"  {name:12s} AUC {real:.3f} on {count} real ones, {rendered:.3f} on rendered ones of levels 2 to 5")


def _auc(model: Weights, name: str, positive: list[Row], negative: list[Row]) -> float:
    scores = [likeness("image", row["image"], model)[name] for row in [*positive, *negative]]
    return float(roc_auc_score(np.repeat([1, 0], [len(positive), len(negative)]), scores))


def _print_drops(rows: list[Row], model: Weights) -> None:
    """Print what `presence` drops of pairs that show what they are called."""
    presence = load("presence")()
    for name in dict.fromkeys(row["name"] for row in rows):
        some = [row for row in rows if row["name"] == name]
        reasons: Counter[str] = Counter()
        for row in some:
            chances = {f"like_{type_}": chance for type_, chance in likeness("pair", row["pair"], model).items()}
            recipe = decode(Recipe, Path(row["file"]).read_bytes())
            reasons[presence.judge(scores_of(row["pair"]) | chances, recipe).reason] += 1
        dropped = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common() if reason)
        print(f"  {name:28s} {len(some) - reasons['']:3d} of {len(some):3d} dropped  {dropped}")


if __name__ == "__main__":
    main()
