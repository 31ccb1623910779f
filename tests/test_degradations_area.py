"""How much of a picture moire, rain and noise by segment touch: pixels of which a channel moves by 2 % of its range."""

import math
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from degradations import load, rain
from degradations.numerics.area import VISIBLE
from degradations.numerics.regions import some_regions
from degradations.pairs.render import render_params
from degradations.weather.shower import odds
from degradations.weather.streaks import layers, overlaps
from storage.records import Scene
from tests.scenes import PHOTOGRAPHS, annotated, fitted, read, sampled, scene, shared_photographs

BANDS = ((0.0, 0.1), (0.1, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1.0))  # of levels 1 to 5
LEVELS = (1, 2, 3, 4, 5)
Floats = NDArray[np.float64]


@cache
def shares(name: str, level: int, *, seeds: int = 3, **options: Any) -> Floats:
    """Return the shares of pixels touched in the middle of `level`, of photographs and seeds."""
    found = []
    for number, photograph in enumerate(PHOTOGRAPHS):
        target = replace(scene(photograph, 256), overlays={})
        for seed in range(seeds):
            params = sampled(name, 0.2 * level - 0.1, target, 10 * number + seed, **options)
            found.append(touched(target, name, params))
    return np.array(found)


def touched(target: Scene, name: str, params: Any) -> float:
    pair = render_params(target, [(load(name), params)])
    moved = np.abs(pair.clean.astype(np.int32) - pair.degraded).max(axis=2)
    return float((moved >= 255 * VISIBLE).mean())


def inside(found: Floats, level: int) -> float:
    """Return how many of the shares lie in the band of `level`, of 1."""
    low, high = BANDS[level - 1]
    return float(np.mean((low <= found) & (found <= high)))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("preset", ["camera", "mib"])
def test_moire_touches_as_much_as_its_level_says(preset: str, level: int) -> None:
    low, high = BANDS[level - 1]
    assert low <= np.median(shares("moire", level, preset=preset, jpeg=0.0)) <= high


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_jpeg_of_moire_touches_as_much_as_its_level_says(level: int) -> None:
    """A JPEG is seen all over, however small the pattern."""
    low, high = BANDS[level - 1]
    assert low <= np.median(shares("moire", level, jpeg=1.0)) <= high


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("mode", ["streaks", "night", "raindrop"])
def test_rain_touches_as_much_as_its_level_says(mode: str, level: int) -> None:
    low, high = BANDS[level - 1]
    assert low <= np.median(shares("rain", level, mode=mode)) <= high


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("mode", ["streaks", "night"])
def test_most_single_pictures_of_rain_touch_as_much_as_their_level_says(mode: str, level: int) -> None:
    """Not all: white paper and skies cannot change, and drops on the lens come on top."""
    assert inside(shares("rain", level, mode=mode), level) >= 0.75


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
def test_rain_touches_as_much_as_its_level_says_on_the_shared_photographs(level: int) -> None:
    targets = [annotated(fitted(read(file), 384)) for file in shared_photographs(24)]
    plain = [replace(target, overlays={}) for target in targets]
    drawn = [sampled("rain", 0.2 * level - 0.1, target, seed, raindrop=0.0) for seed, target in enumerate(plain)]
    found = np.array([touched(target, "rain", params) for target, params in zip(plain, drawn, strict=True)])
    low, high = BANDS[level - 1]
    assert low <= np.median(found) <= high
    assert inside(found, level) >= 0.8


@pytest.mark.parametrize("severity", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("short", [128, 512])
def test_the_area_of_rain_is_foretold_at_any_size(severity: float, short: int) -> None:
    """What `shower` counts on, drawn by `layers`: how much of the picture streaks cover, by how opaque they are."""
    target = scene("coffee", short)
    fall = rain._fall_of(sampled("rain", severity, target, 3, mode="streaks"))
    planes, peak = layers(target.image.shape[:2], fall)
    overlap, foretold_peak = overlaps(target.image.shape[:2], fall)
    chances = odds(overlap, 1.0)[-1]
    covered = np.minimum(planes.sum(axis=0, dtype=np.int64), 255) * peak / 255
    for opacity in (0.01, 0.04, 0.1):
        foretold = chances[min(256, math.ceil(255 * opacity / foretold_peak))]
        assert foretold == pytest.approx((covered >= opacity).mean(), abs=0.05)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("mode", ["sensor", "granular", "web"])
def test_noise_by_segment_touches_as_much_as_its_level_says(mode: str, level: int) -> None:
    low, high = BANDS[level - 1]
    assert low <= np.median(shares("noise", level, mode=mode, segment_aware=1)) <= high


@pytest.mark.parametrize("labels", [np.arange(64 * 80) // 320 % 256, np.zeros(64 * 80), np.arange(64 * 80) % 256])
def test_some_regions_cover_the_share_asked_for_and_more_hold_less(labels: NDArray[Any]) -> None:
    labels = labels.astype(np.uint8).reshape(64, 80)
    parts = [some_regions(labels, share, 5) for share in (0.0, 0.1, 0.37, 0.5, 0.9, 1.0)]
    assert [part.mean() for part in parts] == pytest.approx([0, 0.1, 0.37, 0.5, 0.9, 1.0], abs=0.04)
    assert all((small <= large + 1e-6).all() for small, large in pairwise(parts))


def test_at_most_one_region_is_cut() -> None:
    labels = (np.arange(64 * 80) // 320).astype(np.uint8).reshape(64, 80)
    covered = [some_regions(labels, 0.4, 9)[labels == label].mean() for label in range(16)]
    assert sum(0 < share < 1 for share in covered) <= 1
