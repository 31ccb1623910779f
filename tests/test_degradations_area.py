"""How much of a picture moire and rain touch: the share of pixels that a channel moves by 2 % of its range."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from degradations import load
from degradations._area import VISIBLE
from degradations._render import render_params
from tests.scenes import PHOTOGRAPHS, sampled, scene

BANDS = ((0.0, 0.1), (0.1, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1.0))  # of levels 1 to 5


def affected(name: str, level: int, *, seeds: int = 3, edit: dict[str, Any] | None = None, **options: Any) -> float:
    """Return the median share of pixels touched in the middle of `level`, over photographs and seeds."""
    shares = []
    for number, photograph in enumerate(PHOTOGRAPHS):
        target = replace(scene(photograph, 256), overlays={})
        for seed in range(seeds):
            params = sampled(name, 0.2 * level - 0.1, target, 10 * number + seed, **options)
            pair = render_params(target, [(load(name), replace(params, **(edit or {})))])
            moved = np.abs(pair.clean.astype(np.int32) - pair.degraded).max(axis=2)
            shares.append(float((moved >= 255 * VISIBLE).mean()))
    return float(np.median(shares))


@pytest.mark.parametrize("level", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("preset", ["camera", "mib"])
def test_moire_touches_as_much_as_its_level_says(preset: str, level: int) -> None:
    low, high = BANDS[level - 1]
    assert low <= affected("moire", level, preset=preset, jpeg=0.0) <= high


@pytest.mark.parametrize("level", [1, 2, 3, 4, 5])
def test_drops_on_glass_touch_as_much_as_their_level_says(level: int) -> None:
    low, high = BANDS[level - 1]
    assert low <= affected("rain", level, mode="raindrop") <= high


def test_rain_touches_more_of_the_picture_the_harder_it_falls() -> None:
    """Its veil reaches everything that is far, from level 1 on: no band holds for it."""
    shares = [affected("rain", level, seeds=2, mode="streaks") for level in (1, 2, 3, 4, 5)]
    assert shares == sorted(shares)
