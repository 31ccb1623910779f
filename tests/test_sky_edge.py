"""The depth prior's sky ends where its colour does, not where a segment of a small copy does."""

import cv2
import numpy as np
import pytest

from degradations.weather.atmosphere import SKY
from storage.records import Image
from tasks.annotators._sky_edge import moved
from tasks.annotators.depth_prior import inverse_depth


def towers(seed: int, size: tuple[int, int] = (480, 640)) -> tuple[Image, Image]:
    """Return textured towers before a blue sky, uint8 (H, W, 3), and 255 where the sky is, uint8 (H, W)."""
    rng = np.random.default_rng(seed)
    height, width = size
    fade = np.linspace(0, 1, height)[:, None, None]
    sky = np.array((40, 90, 170)) * (1 - fade) + np.array((120, 160, 215)) * fade
    wall = np.array((150, 130, 90)) * (0.85 + 0.3 * rng.random((height, width, 1)))
    mask = np.full(size, 255, np.uint8)
    cv2.rectangle(mask, (0, int(0.45 * height)), (width, height), 0, -1)
    for left in range(10, width - 60, 75):
        top, broad = int(height * rng.uniform(0.15, 0.4)), int(rng.integers(12, 45))
        cv2.rectangle(mask, (left, top), (left + broad, height // 2), 0, -1)
    image = np.where(mask[..., None] > 0, np.broadcast_to(sky, (height, width, 3)), wall)
    return np.clip(image + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8), mask


@pytest.mark.parametrize("seed", range(3))
def test_no_rim_of_near_sky_is_left_around_towers(seed: int) -> None:
    image, sky = towers(seed)
    away = cv2.erode(sky, np.ones((9, 9), np.uint8)) > 0  # four pixels from any tower
    beside = away & (cv2.dilate(255 - sky, np.ones((61, 61), np.uint8)) > 0)
    assert (inverse_depth(image)[beside] < SKY).mean() > 0.98


@pytest.mark.parametrize("seed", range(3))
def test_the_sky_takes_nothing_of_what_stands_before_it(seed: int) -> None:
    image, sky = towers(seed)
    inside = cv2.dilate(sky, np.ones((21, 21), np.uint8)) == 0
    assert (inverse_depth(image)[inside] < SKY).mean() < 0.005


@pytest.mark.parametrize("off", [-13, 13])
def test_half_of_what_a_border_is_off_is_mended_at_least(off: int) -> None:
    image, sky = towers(3, (288, 384))
    change = cv2.dilate if off > 0 else cv2.erode
    coarse = cv2.resize(change(sky, np.ones((abs(off), abs(off)), np.uint8)), (192, 144)) // 255
    wrong = (cv2.resize(coarse, (384, 288)) > 0) != (sky > 0)
    left = (moved(coarse.astype(np.float32), image) > 0) != (sky > 0)
    assert left.sum() < 0.5 * wrong.sum()


def test_a_shirt_does_not_become_sky_because_the_wall_behind_it_is_white() -> None:
    image = np.full((288, 288, 3), 250, np.uint8)
    image[:, 150:] = 236
    sky = np.zeros((144, 144), np.float32)
    sky[:, :75] = 1
    assert np.array_equal(moved(sky, image)[:, 156:], np.zeros((288, 132), np.float32))


def test_a_blue_mountain_is_no_sky_because_a_sky_stands_over_it() -> None:
    image, _ = towers(0)
    image[:] = (225, 232, 240)
    ridge = np.array([(0, 200), (160, 90), (330, 150), (480, 70), (640, 160), (640, 480), (0, 480)])
    cv2.fillPoly(image, [ridge], (70, 85, 130))
    cv2.rectangle(image, (0, 330), (640, 480), (90, 110, 50), -1)
    assert (inverse_depth(image)[220:300] > SKY).mean() > 0.95
    assert (inverse_depth(image)[:40] < SKY).mean() > 0.95


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_picture_without_a_border_of_the_sky_stays_as_it_is(value: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 31, 3), np.uint8)
    assert (moved(np.full((10, 15), value, np.float32), image) == value).all()
