"""Windows of pairs: both sides cut alike, within bounds, a function of the position, and never too small."""

# ruff: noqa: E402  # without torch these tests are skipped before anything that needs it is imported

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: install PairForge's `train` extra")

from training.data.examples import Pair
from training.data.windows import Windowed


class Numbered:
    """A source of one pair whose pixels say where they stand; the degraded one is 100 brighter."""

    def __init__(self, height=60, width=80):
        rows, columns = np.mgrid[:height, :width].astype(np.uint8)
        self.clean = np.stack([rows, columns, np.zeros_like(rows)], axis=-1)

    def pair(self, position):
        return Pair(key="x", task="haze", instruction="", clean=self.clean, degraded=self.clean + np.uint8(100))


def windows(count=200, least=0.5, side=8, **size):
    windowed = Windowed(source=Numbered(**size), least=least, side=side, key="7/x")
    return [windowed.pair(position) for position in range(count)]


def test_both_images_are_cut_at_one_place_and_not_scaled():
    for pair in windows(20):
        assert np.array_equal(pair.degraded, pair.clean + np.uint8(100))
        steps = np.diff(pair.clean[..., 0].astype(int), axis=0), np.diff(pair.clean[..., 1].astype(int), axis=1)
        assert all((step == 1).all() for step in steps)


def test_windows_keep_their_share_of_each_side_and_reach_every_edge():
    found = windows()
    for axis, whole in enumerate((60, 80)):
        lengths = [pair.clean.shape[axis] for pair in found]
        assert whole // 2 <= min(lengths) < 0.55 * whole
        assert 0.95 * whole < max(lengths) <= whole
        assert min(pair.clean[..., axis].min() for pair in found) == 0
        assert max(pair.clean[..., axis].max() for pair in found) == whole - 1


def test_a_window_is_a_function_of_its_position():
    first, again = windows(10), windows(10)
    assert all(np.array_equal(a.clean, b.clean) for a, b in zip(first, again, strict=True))
    assert len({pair.clean.tobytes() for pair in first}) == 10


def test_no_window_is_smaller_than_what_is_cut_from_it_unless_the_pair_is():
    assert min(min(pair.clean.shape[:2]) for pair in windows(50, least=0.1, side=40)) >= 40
    assert {pair.clean.shape[:2] for pair in windows(50, least=0.1, side=40, height=30, width=20)} == {(30, 20)}


def test_the_least_share_of_one_is_the_pair():
    assert all(pair.clean.shape == (60, 80, 3) for pair in windows(5, least=1.0))
