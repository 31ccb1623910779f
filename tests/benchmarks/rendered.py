"""Photographs and the pairs rendered from them, for the scripts beside that measure and fit."""

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as Pictures
from PIL import ImageOps

from degradations.pairs.recipes import draw
from degradations.pairs.render import Rendered, render
from storage.records import Image, Recipe, Scene
from tasks.annotators.depth_prior import inverse_depth
from tasks.annotators.superpixels import segments

DEFAULT_PHOTOGRAPHS = Path(__file__).parents[2] / "../shared/data"


def photographs() -> Path:
    """Return the folder of test photographs: $PAIRFORGE_PHOTOGRAPHS or `shared/data` beside the repository."""
    return Path(os.environ.get("PAIRFORGE_PHOTOGRAPHS", DEFAULT_PHOTOGRAPHS))


def read(file: Path, side: int) -> Image:
    """Return a photograph upright, at most `side` pixels long."""
    image = np.asarray(ImageOps.exif_transpose(Pictures.open(file)).convert("RGB"))
    ratio = side / max(image.shape[:2])
    if ratio >= 1:
        return image
    size = (round(image.shape[1] * ratio), round(image.shape[0] * ratio))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def evenly(files: list[Path], count: int) -> list[Path]:
    """Return `count` of `files`, evenly spaced."""
    return [files[index] for index in np.linspace(0, len(files) - 1, min(count, len(files))).astype(int)]


def scene_of(file: Path, other: Path, side: int) -> Scene:
    """Return the scene of a photograph with the embedded annotations; `other` is what reflects in the glass."""
    image = read(file, side)
    overlays = {"reflection": read(other, side)}
    return Scene(key=file.stem, image=image, depth=inverse_depth(image), segments=segments(image), overlays=overlays)


def pairs(scene: Scene, name: str, level: int, *, draws: int, seed: int) -> Iterator[tuple[Recipe, Rendered]]:
    """Yield `draws` pairs of `name` with severities spread evenly over `level`."""
    for index in range(draws):
        severity = (level - 1 + (index + 1) / draws) / 5 if draws > 1 else (level - 0.5) / 5
        recipe = draw(name, severity, scene, seed=seed + 1000 * index + level)
        yield recipe, render(scene, recipe)
