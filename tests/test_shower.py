"""The shower that touches an area: what streaks add up to, what a pixel needs to change, and bounds that are kept."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from degradations.numerics.light import decode
from degradations.rain import DENSEST, LOSS, METRES, ON_THE_WAY, RATE, WETNESS
from degradations.weather.shower import CODES, Shower, Sight, needed, odds, shower, sight
from tests.scenes import PHOTOGRAPHS, sampled, scene

LEAST = Shower(density=0.1, wetness=0.02, extinction=1e-4)
MOST = Shower(density=2.0, wetness=0.3, extinction=0.2)


def seen(grey: int = 60, environment: float = 0.6, layers: int = 5) -> Sight:
    """Pixels of one grey, from near to far, of which half face up."""
    image = np.full((10, 10, 3), grey, np.uint8)
    away = np.linspace(1, 20, 100, dtype=np.float32).reshape(10, 10)
    up = (np.indices((10, 10)).sum(axis=0) % 2).astype(np.float32)
    light = np.full((10, 10, 3), environment, np.float32)
    return sight(image, environment=light, away=away, up=up, before=np.full((10, 10), layers))


def streaks(peak: float = 0.5) -> tuple[np.ndarray, float]:
    """The faintest lie on 0.3 of the points of each layer, of the most opaque there are none."""
    return np.tile(np.linspace(0.3, 0, CODES, dtype=np.float32), (5, 1)), peak


def test_chances_of_layers_are_those_of_the_sum_of_independent_draws() -> None:
    overlaps = streaks()[0]
    single = np.diff(np.exp(-0.7 * overlaps[0].astype(np.float64)), prepend=0, append=1)
    together = np.ones(1)
    for before in range(1, 6):
        together = np.convolve(together, single)
        reached = 1 - np.cumsum(together)[:CODES]
        np.testing.assert_allclose(odds(overlaps, 0.7)[before, 1:-1], reached, atol=2e-6)


def test_before_no_layer_there_is_no_streak() -> None:
    assert odds(streaks()[0], 1.0)[0, 1:].max() == 0


@pytest.mark.parametrize("grey", [10, 60, 200])
def test_a_streak_as_opaque_as_needed_is_just_seen(grey: int) -> None:
    pixels = seen(grey)
    opacity = needed(pixels, wetness=0.0, extinction=0.0)
    light, air = decode(np.full((1, 1, 3), grey, np.uint8))[0, 0, 0], np.float32(0.6)
    for factor, is_seen in ((0.99, False), (1.01, True)):
        streaked = light + factor * opacity * (air - light)
        assert np.all(((streaked >= pixels.brighter[0]) | (streaked <= pixels.darker[0])) == is_seen)


def test_what_is_as_bright_as_the_drops_needs_more_than_any_streak() -> None:
    light = float(decode(np.full((1, 1, 3), 180, np.uint8))[0, 0, 0])
    assert needed(seen(180, environment=light), wetness=0.0, extinction=0.0).min() > 1


def test_a_thick_veil_needs_no_streak_where_it_is_far() -> None:
    opacity = needed(seen(), wetness=0.0, extinction=0.01)
    assert opacity[0] > 0
    assert opacity[-1] == 0


@pytest.mark.parametrize("touched", [0.3, 0.5, 0.8])
def test_a_shower_touches_what_is_asked_for(touched: float) -> None:
    pixels, (overlaps, peak) = seen(), streaks()
    found = shower(pixels, (overlaps, peak), least=LEAST, most=MOST, streaked=0.2, touched=touched)
    opacity = needed(pixels, wetness=found.wetness, extinction=found.extinction)
    codes = np.minimum(np.ceil(opacity * CODES / peak), CODES + 1).astype(int)
    assert odds(overlaps, found.density)[5, codes].mean() == pytest.approx(touched, abs=0.05)


@pytest.mark.parametrize(("touched", "expected"), [(0.0, LEAST), (1.0, MOST)])
def test_a_shower_stays_within_its_bounds(touched: float, expected: Shower) -> None:
    pixels = seen(grey=120, environment=float(decode(np.full((1, 1, 3), 120, np.uint8))[0, 0, 0]))  # cannot change
    found = shower(pixels, streaks(), least=LEAST, most=MOST, streaked=touched, touched=touched)
    assert found == expected


@pytest.mark.parametrize("photograph", PHOTOGRAPHS)
@pytest.mark.parametrize("mode", ["streaks", "night"])
def test_no_strength_of_rain_falls_with_severity_or_leaves_its_bounds(photograph: str, mode: str) -> None:
    target = replace(scene(photograph, 128), overlays={})
    drawn = [sampled("rain", severity, target, 3, mode=mode) for severity in np.arange(0, 1.01, 0.05)]
    for weaker, stronger in pairwise(drawn):
        for name in ("density", "wetness", "extinction"):
            assert getattr(weaker, name) <= getattr(stronger, name) * (1 + 1e-9)
    last = drawn[-1]
    assert last.density <= DENSEST[-1]
    assert last.wetness <= WETNESS[-1]
    assert last.extinction <= LOSS[1] * METRES[1] * ON_THE_WAY[1] * RATE[-1] ** 0.63 * (1 + 1e-9)
