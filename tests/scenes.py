"""Scenes for the laws of degradations: photographs that ship with scikit-image, with depth, segments and overlays."""

import math
import os
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import skimage.data

from degradations import load, names
from degradations.numerics.random import generator
from degradations.pairs.contract import Degradation
from degradations.pairs.render import render_params
from storage.records import Image, Plane, Scene

PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket")
PHOTOGRAPH_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}


@cache
def photograph(name: str, short: int) -> Image:
    """Return a bundled photograph with a short side of `short` pixels, uint8 (H, W, 3), read-only."""
    return frozen(fitted(np.asarray(getattr(skimage.data, name)()), short))


def fitted(image: Image, short: int) -> Image:
    """Return `image` with a short side of `short` pixels: averaged down, or interpolated up."""
    scale = short / min(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC))


def leaves(height: int, width: int, seed: int = 0) -> Image:
    """Dead leaves: discs of all sizes over each other, which look alike at every scale, as photographs do."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 128, np.uint8)
    for radius in 0.4 * min(height, width) * rng.power(0.6, 900)[:, None] ** 2:
        centre = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        cv2.circle(image, centre, max(1, int(radius[0])), rng.integers(0, 252, 3).tolist(), -1, cv2.LINE_AA)
    return image


def scene(name: str = "astronaut", short: int = 240, *, frames: bool = False) -> Scene:
    """Return the scene of a bundled photograph with everything that a degradation may read but a clip, or with it."""
    return annotated(photograph(name, short), frames=frames)


def annotated(image: Image, *, frames: bool = False) -> Scene:
    """Return the scene of `image` with depth, segments and overlays; a clip pans over it if `frames`. All read-only."""
    overlays = {name: frozen(_overlay(name, image.shape[:2])) for name in names() if load(name).overlay != "none"}
    return Scene(
        key="s",
        image=frozen(image),
        depth=frozen(_depth(image.shape[:2])),
        segments=frozen(_segments(image.shape[:2])),
        frames=frozen(_clip(image)) if frames else None,
        overlays=overlays,
    )


def bare(full: Scene, degradation: Degradation) -> Scene:
    """Return `full` with no more than `degradation` needs."""
    absent = {name: None for name in ("depth", "segments") if name not in degradation.needs}
    return replace(full, overlays={}, frames=None, **absent)


def frozen(array: Any) -> Any:
    """Return `array` as one that raises ValueError when it is written to."""
    array = np.ascontiguousarray(array)
    array.flags.writeable = False
    return array


def _depth(shape: tuple[int, ...]) -> Plane:
    """Return inverse depth: ground that comes nearer downwards, sky above, and someone standing on the left."""
    rows = (np.arange(shape[0], dtype=np.float32)[:, None] + 0.5) / shape[0]
    columns = (np.arange(shape[1], dtype=np.float32)[None, :] + 0.5) / shape[1]
    ground = np.clip((rows - 0.3) * 1.1, 0, 0.75)
    person = ((rows - 0.7) / 0.42) ** 2 + ((columns - 0.35) / 0.16) ** 2 < 1
    return np.where(person, np.float32(0.85), np.broadcast_to(ground, shape)).astype(np.float32)


def _segments(shape: tuple[int, ...]) -> Image:
    """Return labels: 0 the ground, 1 the sky, 2 the person."""
    depth = _depth(shape)
    return np.where(depth > 0.8, 2, np.where(depth < 0.05, 1, 0)).astype(np.uint8)


def _clip(image: Image) -> Image:
    """Return five frames of a camera that pans by 1.2 % of the width per frame; the middle one is `image`."""
    moves = [np.float32([[1, 0, 0.012 * image.shape[1] * (index - 2)], [0, 1, 0]]) for index in range(5)]
    size = image.shape[1::-1]
    frames = [cv2.warpAffine(image, move, size, borderMode=cv2.BORDER_REFLECT_101) for move in moves]
    frames[2] = image
    return np.stack(frames)


def _overlay(name: str, shape: tuple[int, ...]) -> Image:
    """Return a second photograph, or a pattern: a soft blob on black that is brighter to the right."""
    if load(name).overlay == "photograph":
        return np.asarray(cv2.resize(photograph("coffee", 320)[:, ::-1], (shape[1] + 8, shape[0] + 8)))
    rows, columns = np.mgrid[0:96, 0:128] / 96
    blob = 40 * columns + 200 * np.exp(-8 * ((rows - 0.4) ** 2 + (columns - 0.7) ** 2))
    return np.clip(blob, 0, 255).astype(np.uint8)[..., None].repeat(3, axis=2)


def sampled(name: str, severity: float, target: Scene, seed: int = 0, **options: Any) -> Any:
    """Return the params of `name` that `seed` draws for `target`."""
    degradation = load(name)
    return degradation.sample(generator(seed), severity, target, degradation.options(**options))


def degraded(name: str, severity: float, target: Scene, seed: int = 0, **options: Any) -> Image:
    """Return the degraded image of degradation `name` at `severity`."""
    return render_params(target, [(load(name), sampled(name, severity, target, seed, **options))]).degraded


def psnr(clean: Image, image: Image) -> float:
    """Return the peak signal to noise ratio in dB, infinite for equal images."""
    error = float(np.square(clean.astype(np.float32) - image).mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


def numbers(params: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name and value of every field of `params` and of the records inside it."""
    for field in fields(params):
        value = getattr(params, field.name)
        if is_dataclass(value):
            yield from ((f"{field.name}.{name}", inner) for name, inner in numbers(value))
        else:
            yield field.name, value


def shared_photographs(limit: int | None = None) -> list[Path]:
    """Return files of clean photographs beside the repository; skips the test when they are absent."""
    root = Path(os.environ.get("PAIRFORGE_PHOTOGRAPHS", Path(__file__).parents[2] / "shared" / "data"))
    found = sorted(file for file in (root / "clean").glob("*") if file.suffix.lower() in PHOTOGRAPH_SUFFIXES)
    if not found:
        pytest.skip(f"no photographs in {root / 'clean'}; set PAIRFORGE_PHOTOGRAPHS to a folder that holds clean/")
    return found[:limit]


def read(file: Path) -> Image:
    """Return the photograph in `file`, uint8 (H, W, 3) sRGB."""
    return np.asarray(cv2.imread(str(file), cv2.IMREAD_COLOR)[..., ::-1])
