"""Light that falls off around a lamp, in one image: scattered light does, a scene by itself does not."""

import cv2
import numpy as np
import pytest

from filters._appearance import appearance


def texture(seed):
    rng = np.random.default_rng(seed)
    coarse, fine = (
        cv2.GaussianBlur(rng.normal(0, 1, (360, 480)).astype(np.float32), (0, 0), sigma) for sigma in (12, 2)
    )
    return 0.05 * np.exp(0.6 * coarse / coarse.std() + 0.3 * fine / fine.std())


def lamp(light, row, column, *, glow):
    rows, columns = np.indices(light.shape)
    away = np.hypot(rows - row, columns - column)
    seen = np.where(away < 6, 2.0, light) + glow / (1 + (away / 25) ** 1.5)
    levels = np.rint(255 * np.clip(seen, 0, 1) ** (1 / 2.2)).astype(np.uint8)
    return np.repeat(levels[..., None], 3, 2)


def falloff(image):
    return appearance(image)["falloff"]


@pytest.mark.parametrize("seed", range(3))
def test_scattered_light_points_at_its_lamp(seed):
    light = texture(seed)
    none, some, much = (falloff(lamp(light, 150, 200, glow=glow)) for glow in (0.0, 0.2, 0.8))
    assert none < 0.15
    assert none + 0.05 < some < much - 0.1


def test_light_that_only_falls_off_points_at_its_lamp_everywhere():
    assert falloff(lamp(np.full((360, 480), 0.01), 100, 300, glow=0.9)) > 0.45


@pytest.mark.parametrize("shape", [(1, 1, 3), (9, 800, 3), (64, 64, 3)])
def test_equal_light_falls_off_nowhere(shape):
    assert falloff(np.full(shape, 140, np.uint8)) == pytest.approx(0, abs=1e-6)
