"""Borders of depth from a network are brought to those of the image."""

import cv2
import numpy as np
import pytest
import skimage.data
from scipy.ndimage import distance_transform_edt

from tasks.annotators._depth_edges import align


def as_a_network_leaves_it(depth):
    """Return depth as seen by a network of side 384, whose borders are a little soft, and resized to the image."""
    coarse = cv2.GaussianBlur(cv2.resize(depth, (384, 384), interpolation=cv2.INTER_AREA), (0, 0), 1.5)
    return np.clip(cv2.resize(coarse, depth.shape[::-1], interpolation=cv2.INTER_CUBIC), 0, 1)


def test_borders_of_depth_lie_on_those_of_the_image():
    rows, columns = np.mgrid[:600, :800]
    disk = ((rows - 240) ** 2 + (columns - 330) ** 2 < 150**2).astype(np.float32)
    image = np.where(disk[..., None] > 0, (210, 200, 190), (30, 40, 60)).astype(np.uint8)
    soft = as_a_network_leaves_it(disk)
    assert np.abs(align(soft, image) - disk).mean() < 0.3 * np.abs(soft - disk).mean()


def test_errors_at_the_borders_of_measured_disparity_are_halved():
    image, _, disparity = skimage.data.stereo_motorcycle()
    known = np.isfinite(disparity)
    filled = disparity[tuple(distance_transform_edt(~known, return_distances=False, return_indices=True))]
    truth = np.kron(filled / filled.max(), np.ones((2, 2))).astype(np.float32)
    border = cv2.morphologyEx(truth, cv2.MORPH_GRADIENT, np.ones((3, 3))) > 0.04
    counted = (cv2.dilate(border.astype(np.uint8), np.ones((17, 17))) > 0) & np.kron(known, np.ones((2, 2), bool))
    soft = as_a_network_leaves_it(truth)
    aligned = align(soft, cv2.resize(image, truth.shape[::-1], interpolation=cv2.INTER_CUBIC))
    before, after = (np.abs(depth - truth)[counted].mean() for depth in (soft, aligned))
    assert after < 0.6 * before


def test_flat_depth_and_slow_slopes_stay():
    image = skimage.data.astronaut()
    slope = np.broadcast_to(np.linspace(0.1, 0.9, 512, dtype=np.float32)[:, None], (512, 512))
    assert np.abs(align(np.ascontiguousarray(slope), image) - slope).max() < 0.01
    assert np.abs(align(np.full((512, 512), 0.3, np.float32), image) - 0.3).max() <= 0.5 / 4095


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (16, 500)])
def test_every_size_is_aligned_in_range(shape):
    rng = np.random.default_rng(0)
    aligned = align(rng.random(shape, np.float32), rng.integers(0, 256, (*shape, 3), dtype=np.uint8))
    assert aligned.shape == shape
    assert 0 <= aligned.min() <= aligned.max() <= 1
