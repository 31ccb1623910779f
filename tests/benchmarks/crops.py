"""Many small photographs for benchmarks: crops of real ones, all different, the same on every machine."""

import os
from pathlib import Path

import cv2
import numpy as np
import skimage.data

from tests.benchmarks.rendered import photographs

BUNDLED = ("astronaut", "chelsea", "coffee", "rocket")


def write_crops(folder, count, *, side=256):
    """Write `count` crops of `side` pixels, PNG; the first n of more are the same as n."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sources = _sources(side)
    for number in range(count):
        rng = np.random.default_rng(number)
        image = sources[number % len(sources)]
        row, column = (int(rng.integers(0, length - side + 1)) for length in image.shape[:2])
        cv2.imwrite(str(folder / f"crop-{number:06d}.png"), image[row : row + side, column : column + side])
    return folder


def settings_text(folder, output, *, variants, side=256, images_per_bucket=64, workers=2):
    """Return the settings of a build in which no filter of images drops crops, so that pairs follow images."""
    return f"""
seed = 0
output = "{output}"
[source]
folder = "{folder}"
[dataset]
images_per_bucket = {images_per_bucket}
[clean]
min_side = {side}
grey = "keep"
[filters]
clean_quality = false
duplicate = false
[filters.resolution]
min_side = {side}
[mixture]
variants = {variants}
[run]
workers = {workers}
"""


def images(default):
    """Return how many images to measure with: $PAIRFORGE_BENCH_IMAGES, else `default`."""
    return int(os.environ.get("PAIRFORGE_BENCH_IMAGES", default))


def _sources(side):
    """Return BGR images, at most 2048 a side: real photographs where they are, else those of scikit-image."""
    files = sorted(photographs().glob("clean/*"))
    found = [cv2.imread(str(file)) for file in files]
    if not files:
        found = [cv2.cvtColor(getattr(skimage.data, name)(), cv2.COLOR_RGB2BGR) for name in BUNDLED]
    return [_reduced(image) for image in found if image is not None and min(image.shape[:2]) >= 2 * side]


def _reduced(image):
    ratio = min(1.0, 1280 / max(image.shape[:2]))
    return cv2.resize(image, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA)
