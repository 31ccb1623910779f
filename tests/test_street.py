"""The made-up street that a pane mirrors."""

import cv2
import numpy as np
import pytest

from degradations.numerics.random import generator
from degradations.pane.interior import interior
from degradations.pane.room import _thing
from degradations.pane.street import _row, _windows, street

SEEDS = range(6)
HORIZON = 0.62  # of the height


def view(shape: tuple[int, int], seed: int, sky: float) -> np.ndarray:
    return street(shape, seed, np.full((*shape, 3), sky, np.float32))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_sky_is_seen_above_the_horizon_only_and_as_it_is(seed: int) -> None:
    seen = view((150, 200), seed, 1.0) - view((150, 200), seed, 0.0)
    assert seen.min() >= -1e-6
    assert seen.max() <= 1 + 1e-6
    assert seen[int(HORIZON * 150) + 3 :].max() < 1e-6
    assert 0.03 < (seen > 0.999).mean() < HORIZON


@pytest.mark.parametrize("seed", SEEDS)
def test_a_street_is_the_same_at_every_size(seed: int) -> None:
    large = cv2.resize(view((300, 400), seed, 0.8), (100, 75), interpolation=cv2.INTER_AREA)
    small = cv2.resize(view((150, 200), seed, 0.8), (100, 75), interpolation=cv2.INTER_AREA)
    assert np.corrcoef(large.ravel(), small.ravel())[0, 1] > 0.97


@pytest.mark.parametrize("seed", SEEDS)
def test_a_street_is_finite_light_whatever_the_shape(seed: int) -> None:
    for shape in ((1, 1), (2, 90), (90, 2)):
        light = view(shape, seed, 0.8)
        assert light.shape == (*shape, 3)
        assert np.isfinite(light).all()
        assert (light >= 0).all()


def test_windows_finer_than_a_pixel_are_seen_as_their_mean() -> None:
    row = _row(generator(3), 1.0)
    along = np.linspace(0, 60, 4000, dtype=np.float32)
    house = np.searchsorted(row.starts, along) - 1
    up, panes = np.full_like(along, 5.5), np.arange(4096)
    near, far = (_windows(row, house, along, up, np.full_like(along, size), panes)[0] for size in (9.0, 0.9))
    assert near.std() > 0.2
    assert far.std() < 1e-3
    assert far.mean() == pytest.approx(near.mean(), abs=0.15)


@pytest.mark.parametrize("seed", range(12))
def test_furniture_stands_on_the_floor_below_the_ceiling(seed: int) -> None:
    parts = _thing(generator(seed), (-3.0, -1.3, -2.0), (3.0, 1.2, 6.0))
    assert max(upper[1] for _, upper in parts) == pytest.approx(1.2)
    assert min(lower[1] for lower, _ in parts) > -1.3
    assert all(low <= high for lower, upper in parts for low, high in zip(lower, upper, strict=True))


@pytest.mark.parametrize("seed", range(12))
def test_no_dirt_lies_over_a_made_up_sky(seed: int) -> None:
    """Of the brightest tenth, where the sky or a lit wall is, neighbours are nearly alike."""
    light = interior((256, 340), seed)[..., 2]
    sky = cv2.erode((light > np.quantile(light, 0.9)).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    steps = np.abs(np.diff(light, axis=1))[sky[:, 1:] & sky[:, :-1]] / light.max()
    assert steps.size == 0 or np.median(steps) < 0.006
