"""A glance tells degradations apart that a tile cannot, and depends on the whole image."""

# ruff: noqa: E402  # without torch these tests are skipped before anything that needs it is imported

import cv2
import numpy as np
import pytest
import skimage.data

torch = pytest.importorskip("torch", reason="torch is not installed: install PairForge's `train` extra")

from training.encoders.prompts import GlancingPrompts, frozen
from training.network.glance import NUMBERS, glance

FINEST = slice(28, 34)  # detail of luma at full size: four quantiles, across, down


def photograph():
    return np.ascontiguousarray(skimage.data.astronaut()[:384, :384])


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (96, 96), (200, 97), (1100, 40)])
def test_an_image_of_any_size_has_finite_numbers_of_order_one(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    found = glance(image)
    assert found.shape == (NUMBERS,)
    assert found.dtype == np.float32
    assert np.abs(found).max() < 5


def test_light_is_the_quantiles_of_each_channel():
    image = np.zeros((64, 100, 3), np.uint8)
    image[..., 0], image[..., 1], image[..., 2] = 255, np.linspace(0, 255, 100).astype(np.uint8), 128
    found = glance(image)
    np.testing.assert_allclose(found[:7], 2)
    np.testing.assert_allclose(found[7:14], np.array([0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99]) * 4 - 2, atol=0.08)
    np.testing.assert_allclose(found[14:21], 128 / 255 * 4 - 2, atol=1e-6)


def test_noise_raises_fine_detail_in_proportion():
    flat = np.full((200, 200, 3), 128, np.uint8)
    rng = np.random.default_rng(0)
    weak, strong = (np.rint(flat + rng.normal(0, sigma, flat.shape)).astype(np.uint8) for sigma in (5, 20))
    assert glance(strong)[FINEST][1] - glance(weak)[FINEST][1] == pytest.approx(1, abs=0.05)  # base 4


def test_blur_lowers_fine_detail_and_spares_the_coarse():
    image = photograph()
    change = glance(cv2.GaussianBlur(image, (0, 0), 1.5)) - glance(image)
    assert change[FINEST][1] < -0.8
    assert abs(change[28 + 18 + 1]) < 0.3  # the fourth octave


def test_motion_lowers_detail_along_its_way():
    image = photograph()
    change = glance(cv2.blur(image, (9, 1))) - glance(image)
    across, down = change[FINEST][4:]
    assert across < down - 0.25


def test_blocks_of_jpeg_show_in_the_grid():
    image = photograph()
    _, coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 8])
    change = glance(cv2.imdecode(coded, cv2.IMREAD_COLOR)) - glance(image)
    assert min(change[56:58]) > 0.5


def test_the_prompt_is_its_frozen_rows_and_the_glance():
    image = photograph()
    rows, mask = GlancingPrompts().encode([image, image // 2], ["Please dehaze the image", ""])
    assert rows.shape == (2, 5, NUMBERS)
    assert mask.all()
    assert torch.equal(rows[:, :4], frozen(["Please dehaze the image", ""], width=NUMBERS)[0])
    np.testing.assert_array_equal(rows[:, 4], np.stack([glance(image), glance(image // 2)]))
