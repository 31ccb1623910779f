# ruff: noqa: T201  it prints its results
"""Measure the filter `overlay` on planted watermarks: recall by kind, opacity and size at 1 % false alarms.

    python tests/benchmarks/measure_overlay.py ROWS.json

False alarms are of the clean photographs as they are and of five variations of each: cropped, mirrored, in another
tone and recompressed. PAIRFORGE_PHOTOGRAPHS should hold none that the network was fitted on (EXPERIMENTS.md); the
fonts, but for Pillow's own, are others anyway. ROWS holds what was measured; if it exists, it is only reported.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from filters._contract import Sample
from filters.overlay import Overlay
from tests.benchmarks.planted_marks import KINDS, plant
from tests.benchmarks.rendered import photographs

VARIED, DRAWS = 5, 1
LARGEST = 1600  # pixels of the shorter side
ALARMS = (0.01, 0.002)


def varied(rng, image):
    """Return a photograph cropped, mirrored, in another tone and recompressed, as crawled ones come."""
    share = rng.uniform(0.6, 1)
    rows, columns = (int(n * share) for n in image.shape[:2])
    top, left = (int(rng.integers(0, n - m + 1)) for n, m in zip(image.shape[:2], (rows, columns), strict=True))
    image = image[top : top + rows, left : left + columns][:, :: rng.choice([-1, 1])]
    tone = 255 * (np.arange(256) / 255) ** rng.uniform(0.7, 1.4)
    return recompressed(rng, cv2.LUT(np.ascontiguousarray(image), tone.astype(np.uint8)))


def recompressed(rng, image):
    if rng.random() < 0.4:
        return image
    quality = int(rng.integers(60, 98))
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def examples(rng, image):
    """Yield (kind, opacity, image): the photograph as it is, varied, and planted."""
    yield "clean", 0.0, image
    for _ in range(VARIED):
        yield "varied", 0.0, varied(rng, image)
    for kind in KINDS:
        for _ in range(DRAWS):
            planted, mark = plant(rng, image, kind)
            yield kind, mark.alpha, recompressed(rng, planted)


def measured():
    """Return a row for each image: photograph, kind, opacity, shorter side, megapixels, CPU seconds and scores."""
    rows, measure = [], Overlay().open("cpu")

    def add(name, kind, alpha, image):
        began = time.process_time()
        scores = measure([Sample(key=name, clean=image)])[0]
        row = {"name": name, "kind": kind, "alpha": alpha, "seconds": time.process_time() - began}
        rows.append(row | {"side": min(image.shape[:2]), "size": image.shape[0] * image.shape[1] / 1e6, **scores})

    for index, file in enumerate(sorted((photographs() / "clean").iterdir())):
        image = np.ascontiguousarray(cv2.imread(str(file))[..., ::-1])
        if min(image.shape[:2]) > LARGEST:
            scale = LARGEST / min(image.shape[:2])
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        for example in examples(np.random.default_rng(index), image):
            add(file.stem, *example)
        print(index, flush=True)
    for file in sorted((photographs() / "real").rglob("*.*")):
        add(file.stem, f"real {file.parent.name}", 0.0, np.ascontiguousarray(cv2.imread(str(file))[..., ::-1]))
    return rows


def report(rows):
    """Print recalls and false alarms for each score on its own."""
    for score in ("repetition", "mark"):
        print(f"== {score}")
        _report(
            {name: np.array([row[name] for row in rows]) for name in ("name", "kind", "alpha", "side", score)}, score
        )
    seconds, size = (np.array([row[name] for row in rows]) for name in ("seconds", "size"))
    print(f"CPU seconds an image {np.median(seconds):.3f}; a megapixel {np.median(seconds / size):.3f}, of images of")
    print(f"more than a megapixel {np.median((seconds / size)[size > 1]):.3f}")


def _report(table, score):
    kind, value = table["kind"], table[score]
    plain = np.isin(kind, ("clean", "varied"))
    real = np.char.startswith(kind, "real")
    for share in (*ALARMS, 0.0):
        limit = np.quantile(value[plain], 1 - share)
        alarms = plain & (value > limit)
        print(f"-- at {share:.3f}: limit {limit:.3f} of {plain.sum()}, alarms: {sorted(set(table['name'][alarms]))}")
        print(f"   really degraded: {sorted(table['name'][real & (value > limit)])} of {real.sum()}")
        for name in KINDS:
            mine = kind == name
            shares = [f"{np.mean(value[part] > limit):.2f}" for part in _parts(mine, table)]
            found = f"{np.mean(value[mine] > limit):.2f} of {mine.sum()}"
            print(f"   {name:7s} {found}; alpha {shares[:3]}, side {shares[3:]}")
    for half in (0, 1):
        own = np.unique(table["name"], return_inverse=True)[1] % 2 == half
        limit = np.quantile(value[plain & own], 0.99)
        recalls = " ".join(f"{name} {np.mean(value[(kind == name) & ~own] > limit):.2f}" for name in KINDS)
        print(f"limit of half {half}: in the other {recalls}, false alarms {np.mean(value[plain & ~own] > limit):.4f}")


def _parts(mine, table):
    alpha, side = table["alpha"], table["side"]
    opacities = [mine & (alpha >= low) & (alpha < low + 0.15) for low in (0.15, 0.3, 0.45)]
    sides = [mine & (side >= low) & (side < high) for low, high in ((0, 600), (600, 1100), (1100, 1601))]
    return opacities + sides


def main():
    """Measure unless it is done, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    rows = parser.parse_args().rows
    cv2.setNumThreads(1)
    if not rows.exists():
        rows.write_text(json.dumps(measured()))
    report(json.loads(rows.read_text()))


if __name__ == "__main__":
    main()
