# ruff: noqa: T201  it prints its results
"""Measure the filter `overlay` on planted watermarks: recall by kind and opacity at 1 % false alarms.

    python tests/benchmarks/measure_overlay.py ROWS.json

False alarms are of the clean photographs as they are and of five variations of each: cropped, mirrored, in another
tone and recompressed. ROWS holds what was measured; if it exists, it is only reported.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from filters._overlay import reduced, repetition
from tests.benchmarks.planted_marks import KINDS, plant
from tests.benchmarks.rendered import photographs

VARIED = 5
DRAWS = {"tiled": 3, "corner": 1, "logo": 1, "centre": 1, "band": 1}


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
        for _ in range(DRAWS[kind]):
            planted, mark = plant(rng, image, kind)
            yield kind, mark.alpha, recompressed(rng, planted)


def measured():
    """Return rows of (photograph, kind, opacity, repetition, CPU seconds, megapixels)."""
    rows = []
    clean = sorted((photographs() / "clean").iterdir())
    for index, file in enumerate(clean):
        image = cv2.imread(str(file))[..., ::-1]
        if min(image.shape[:2]) > 1024:
            image = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        for kind, alpha, example in examples(np.random.default_rng(index), image):
            rows.append((index, kind, alpha, *_row(example)))
        print(index, flush=True)
    for index, file in enumerate(sorted((photographs() / "real").rglob("*.*"))):
        rows.append((len(clean) + index, f"real {file.parent.name}", 0.0, *_row(cv2.imread(str(file))[..., ::-1])))
    return rows


def _row(image):
    began = time.process_time()
    found = repetition(reduced(image))
    return found, time.process_time() - began, image.shape[0] * image.shape[1] / 1e6


def report(rows):
    photograph, kind, alpha = (np.array([row[column] for row in rows]) for column in range(3))
    score = np.array([row[3] for row in rows])
    plain = np.isin(kind, ("clean", "varied"))
    limit = np.quantile(score[plain], 0.99)
    alarms = plain & (score > limit)
    print(f"threshold {limit:.4f} of {plain.sum()}; false alarms in {sorted(set(photograph[alarms].tolist()))}")
    for rate in (0.0, 0.01, 0.05):
        at = np.quantile(score[plain], 1 - rate)
        print(f"at {rate:.2f} ({at:.4f}): tiled {np.mean(score[kind == 'tiled'] > at):.2f}")
    for half in (0, 1):
        own = photograph % 2 == half
        at = np.quantile(score[plain & own], 0.99)
        other = (kind == "tiled") & ~own
        away = np.mean(score[plain & ~own] > at)
        print(f"threshold of half {half}: tiled in the other {np.mean(score[other] > at):.2f}, false alarms {away:.3f}")
    for name in KINDS:
        mine = kind == name
        parts = [mine & (alpha >= low) & (alpha < low + 0.15) for low in (0.15, 0.3, 0.45)]
        shares = " ".join(f"{np.mean(score[part] > limit):.2f}" for part in parts)
        print(f"{name:7s} {np.mean(score[mine] > limit):.2f} of {mine.sum()}, by opacity {shares}")
    real = np.char.startswith(kind, "real")
    print("really degraded photographs that alarm:", sorted(kind[real & (score > limit)].tolist()), "of", real.sum())
    seconds, size = (np.array([row[column] for row in rows]) for column in (4, 5))
    print(f"CPU seconds an image {np.median(seconds):.3f}, a megapixel {np.median(seconds / size):.3f}")


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
