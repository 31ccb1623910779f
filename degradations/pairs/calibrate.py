"""Calibration: move the severity at which a recipe is drawn until the pair loses as much as its level should.

One severity harms a busy photograph more than a smooth one. The pair is tried as asked for; where its PSNR(clean,
degraded) misses the band, bisection on a small copy finds the severity that lands in it. What the copy loses less or
more than the picture, up to 14 dB for blur, is measured at the severity asked for and taken as constant. Nothing but
the severity changes, because what is not strength does not depend on it. The recipe says what was asked for and what
was used; replay needs neither.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from degradations import load
from degradations.pairs.contract import Options, Stage
from degradations.pairs.coupled import steps_of
from degradations.pairs.recipes import draw, recipe_of
from degradations.pairs.render import render
from storage.records import Image, Recipe, Scene

Band = tuple[float, float]  # dB, lowest and highest

EVALUATIONS = 8  # of the copy, at most: the bracket is then below 1 / 128
SIDE = 256  # the copy has SIDE x SIDE pixels, about
TILE = 64
MARGIN = 1.0  # dB, or a quarter of the band if that is less: aimed at inside the band


def draw_calibrated(
    name: str,
    severity: float,
    scene: Scene,
    *,
    seed: int,
    band: Band,
    options: Mapping[str, Options] | None = None,
) -> Recipe:
    """Return the recipe of `name` for `scene`, drawn at the severity that brings its PSNR into `band`.

    `severity`, in [0, 1], stays what the recipe says was asked for. Types that solve for their affected area (`local`)
    are drawn as asked for. Where no severity lands in the band, the one that comes closest is used.
    """
    steps = [load(step) for step in steps_of(name)]
    if severity == 0 or any(step.local for step in steps):
        return draw(name, severity, scene, seed=seed, options=options)
    asked = draw(name, severity, scene, seed=seed, options=options)
    found = _psnr_of(scene, asked)
    if band[0] <= found <= band[1]:
        return asked
    small = proxy(scene, native=all(part.stage >= Stage.SENSOR for step in steps for part in step.parts))

    @cache
    def psnr_at(tried: float) -> float:
        return _psnr_of(small, draw(name, tried, small, seed=seed, options=options))

    margin, shift = min(MARGIN, (band[1] - band[0]) / 4), psnr_at(severity) - found
    used = calibrated(severity, (band[0] + margin + shift, band[1] - margin + shift), psnr_at)
    drawn = draw(name, used, scene, seed=seed, options=options)
    return recipe_of(name, severity, drawn.steps, used=used)


def calibrated(severity: float, band: Band, psnr_at: Callable[[float], float]) -> float:
    """Return a severity in (0, 1] at which `psnr_at`, which falls, lies in `band`; `severity` itself if it does."""
    weak, strong = 0.0, 1.0
    tried, best = severity, (float("inf"), severity)
    for _ in range(EVALUATIONS):
        found = psnr_at(tried)
        missed = max(band[0] - found, found - band[1], 0.0)
        best = min(best, (missed, tried))
        if missed == 0:
            break
        weak, strong = (tried, strong) if found > band[1] else (weak, tried)
        tried = round((weak + strong) / 2, 6)
    return best[1]


def _psnr_of(scene: Scene, recipe: Recipe) -> float:
    rendered = render(scene, recipe)
    return psnr(rendered.clean, rendered.degraded)


def psnr(clean: Image, degraded: Image) -> float:
    """Return the peak signal to noise ratio in dB, at most 100, of two uint8 images of one shape."""
    squares = cv2.norm(clean, degraded, cv2.NORM_L2SQR)
    return min(100.0, float(10 * np.log10(255**2 * clean.size / squares))) if squares else 100.0


def proxy(scene: Scene, *, native: bool) -> Scene:
    """Return a copy of `scene` of about SIDE x SIDE pixels, or `scene` itself if it is as small.

    Lengths scale with the picture, so a reduced copy loses as much. What acts at native pixels (sensors, codecs) is
    shown a mosaic of native tiles instead: sixteen of 64 x 64, evenly spread, on the grid of 8 that codecs work on.
    Overlays of another size, which are fitted to the picture anyway, stay as they are.
    """
    height, width = scene.image.shape[:2]
    if height * width <= SIDE * SIDE:
        return scene
    pick = _mosaic(height, width) if native and min(height, width) >= SIDE else _reduction(height, width)
    return replace(
        scene,
        image=pick(scene.image),
        depth=None if scene.depth is None else pick(scene.depth),
        segments=None if scene.segments is None else pick(scene.segments),
        frames=None if scene.frames is None else np.stack([pick(frame) for frame in scene.frames]),
        overlays={
            name: pick(overlay) if overlay.shape[:2] == (height, width) else overlay
            for name, overlay in scene.overlays.items()
        },
    )


def _mosaic(height: int, width: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    rows, columns = (
        np.concatenate([np.arange(start, start + TILE) for start in np.linspace(0, side - TILE, 4).astype(int) & ~7])
        for side in (height, width)
    )
    return lambda array: np.ascontiguousarray(array[np.ix_(rows, columns)])


def _reduction(height: int, width: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    scale = SIDE / float(np.sqrt(height * width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))

    def reduced(array: NDArray[Any]) -> NDArray[Any]:
        labels = array.ndim == 2 and array.dtype == np.uint8  # of segments have no mean
        return np.asarray(cv2.resize(array, size, interpolation=cv2.INTER_NEAREST if labels else cv2.INTER_AREA))

    return reduced
