"""Planes of strokes: what is reduced comes back as OpenCV enlarges it, and streaks that nothing hides add up."""

import cv2
import numpy as np
import pytest

from degradations.weather.streaks import LAYERS, Fall, layers
from degradations.weather.strokes import draw, grown

FALL = Fall(
    rate=60.0,
    density=1.0,
    shutter=1 / 120,
    focal=1100.0,
    angle=12.0,
    turbulence=2.0,
    converge=0.1,
    aperture=2.0,
    emphasis=6.0,
    seed=3,
)


def codes(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("shape", [(64, 80), (2, 2), (6, 300)])
def test_a_plane_of_half_the_size_is_enlarged_as_opencv_does(shape):
    small = codes(shape[0] // 2, shape[1] // 2)
    expected = cv2.resize(small, shape[::-1], interpolation=cv2.INTER_LINEAR).reshape(shape)
    assert np.abs(grown(small, shape).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("shape", [(65, 80), (64, 81), (33, 1), (1, 7), (1, 1)])
def test_an_odd_row_or_column_is_where_the_larger_plane_has_it(shape):
    small = codes((shape[0] + 1) // 2, (shape[1] + 1) // 2)
    larger = grown(small, (2 * small.shape[0], 2 * small.shape[1]))
    np.testing.assert_array_equal(grown(small, shape), larger[: shape[0], : shape[1]])


@pytest.mark.parametrize("shape", [(57, 83), (256, 300)])
def test_a_plane_may_be_halved_twice_or_not_at_all(shape):
    halves = tuple((side + 1) // 2 for side in shape)
    small = codes(*((side + 1) // 2 for side in halves))
    np.testing.assert_array_equal(grown(small, shape), grown(grown(small, halves), shape))
    np.testing.assert_array_equal(grown(grown(small, shape), shape), grown(small, shape))


@pytest.mark.parametrize("shape", [(300, 420), (301, 257)])
@pytest.mark.parametrize("front", range(1, len(LAYERS) + 1))
def test_streaks_that_nothing_hides_add_up_in_one_plane(shape, front):
    each, peak = layers(shape, FALL)
    found, same_peak = layers(shape, FALL, front=front)
    assert (found.shape, same_peak) == ((len(LAYERS) - front + 1, *shape), peak)
    np.testing.assert_array_equal(found[1:], each[front:])
    together = np.minimum(each[:front].astype(int).sum(axis=0), 255)
    assert np.abs(found[0].astype(int) - together).max() <= front - 1  # those of one size are enlarged together
    assert found[0].max() > 60


@pytest.mark.parametrize("shape", [(40, 50), (9, 3), (2, 70), (1, 1)])
def test_no_more_is_drawn_than_what_each_stroke_covers(shape):
    rng = np.random.default_rng(1)
    lines = ((1.4 * rng.random((60, 2, 2)) - 0.2) * shape).astype(np.float32)
    lines[::4, :, 0] = lines[::4, :1, 0]
    lines[1::4, :, 1] = lines[1::4, :1, 1]
    levels, widths = rng.random(60).astype(np.float32), (5 * rng.random(60)).astype(np.float32)
    each = [draw(shape, lines[k : k + 1], levels[k : k + 1], widths[k : k + 1]) for k in range(60)]
    np.testing.assert_array_equal(draw(shape, lines, levels, widths), np.max(each, axis=0))
    rows, columns = np.indices(shape)
    for (start, end), plane in zip(lines.astype(float), each, strict=True):
        way = end - start
        along = ((rows - start[0]) * way[0] + (columns - start[1]) * way[1]) / max(way @ way, 1e-9)
        nearest = start + np.clip(along, 0, 1)[..., None] * way
        away = np.hypot(rows - nearest[..., 0], columns - nearest[..., 1])
        assert not plane[away > (6 + 1.9) / 2 + 0.51].any()
