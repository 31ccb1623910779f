"""A quality score without reference: harm takes a photograph away from the statistics of good ones."""

import cv2
import numpy as np
import pytest
from skimage import data
from sklearn.datasets import load_sample_images

from filters import load
from filters._contract import Sample
from filters._naturalness import _RATIOS, _SHAPES, _shape_of, distance
from flows.settings import parse_settings

PHOTOGRAPHS = {
    "astronaut": data.astronaut(),
    "motorcycle": data.stereo_motorcycle()[0],
    "china": load_sample_images().images[0],
}


def blurred(image, sigma):
    return cv2.GaussianBlur(image, (0, 0), sigma)


def noisy(image, sigma):
    noise = np.random.default_rng(0).normal(0, sigma, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def compressed(image, quality):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize(("harm", "strengths"), [(blurred, (1.2, 2.5)), (noisy, (12, 40)), (compressed, (25, 8))])
def test_distance_grows_with_harm(name, harm, strengths):
    image = PHOTOGRAPHS[name]
    found = [distance(image), *(distance(harm(image, strength)) for strength in strengths)]
    assert found == sorted(found)


def test_shape_of_a_gaussian_and_of_a_laplacian_are_theirs():
    assert np.interp([np.sqrt(2 / np.pi) ** 2, 0.5], _RATIOS, _SHAPES) == pytest.approx([2, 1], rel=0.01)
    draws = np.random.default_rng(0).laplace(size=100_000)
    assert _shape_of(np.abs(draws).mean() ** 2 / (draws**2).mean()) == pytest.approx(1, rel=0.03)


def test_mirroring_changes_little():
    image = PHOTOGRAPHS["motorcycle"]
    assert distance(np.ascontiguousarray(image[:, ::-1])) == pytest.approx(distance(image), rel=0.15)


@pytest.mark.parametrize("shape", [(1, 1), (95, 400), (96, 96), (100, 150)])
def test_of_a_small_image_nothing_is_said(shape):
    image = np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)
    (scores,) = load("naturalness")().open("cpu")([Sample(key="a", clean=image)])
    assert scores == {}
    assert load("naturalness")().judge(scores).keep


@pytest.mark.parametrize("value", [0, 90, 255])
def test_a_flat_image_is_far_from_natural(value):
    assert distance(np.full((300, 400, 3), value, np.uint8)) > load("naturalness")().max_distance


def test_it_is_off_until_it_has_a_table(tmp_path):
    tables = {"seed": 1, "output": "d", "source": {"folder": "f"}}
    assert "naturalness" not in parse_settings(tables, origin="x", base=tmp_path).filters_of("image")
    tables["filters"] = {"naturalness": {}}
    assert "naturalness" in parse_settings(tables, origin="x", base=tmp_path).filters_of("image")
