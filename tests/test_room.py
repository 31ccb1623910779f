"""The made-up room that a pane mirrors."""

import cv2
import numpy as np
import pytest

from degradations.pane.room import room

SEEDS = range(6)


def view(shape: tuple[int, int], seed: int, outside: float) -> np.ndarray:
    return room(shape, seed, np.full((*shape, 3), outside, np.float32))


@pytest.mark.parametrize("seed", SEEDS)
def test_only_through_its_windows_is_the_outside_seen(seed: int) -> None:
    dark, bright = view((120, 160), seed, 0.0), view((120, 160), seed, 2.0)
    seen = (bright - dark)[..., 0]
    np.testing.assert_array_equal(seen, (bright - dark)[..., 2])
    assert seen.min() == 0
    assert seen.max() <= 2
    assert np.mean(seen > 1) < 0.6


def test_most_rooms_show_a_window() -> None:
    shown = [float(np.max(view((120, 160), seed, 2.0) - view((120, 160), seed, 0.0))) > 1.9 for seed in range(20)]
    assert sum(shown) >= 12


@pytest.mark.parametrize("seed", SEEDS)
def test_a_room_is_the_same_at_every_size(seed: int) -> None:
    large = cv2.resize(view((300, 400), seed, 0.5), (100, 75), interpolation=cv2.INTER_AREA)
    small = cv2.resize(view((150, 200), seed, 0.5), (100, 75), interpolation=cv2.INTER_AREA)
    assert np.corrcoef(large.ravel(), small.ravel())[0, 1] > 0.98
