"""A tiled mark repeats itself all over the photograph; a photograph does not."""

import cv2
import numpy as np
import pytest
from skimage import data
from sklearn.datasets import load_sample_images

from filters import load
from filters._contract import Sample
from filters._overlay import _steadiness, _translation, reduced

PHOTOGRAPHS = {
    "astronaut": data.astronaut(),
    "coffee": data.coffee(),
    "chelsea": data.chelsea(),
    "rocket": data.rocket(),
    "flower": load_sample_images().images[1],
}


def scores_of(image):
    return load("overlay")().open("cpu")([Sample(key="a", clean=image)])[0]


def reason_of(image):
    return load("overlay")().judge(scores_of(image)).reason


def tiled(image, *, degrees, opacity, text="SAMPLE"):
    """Lay a white text over all of an image, in a lattice turned by `degrees`."""
    side = int(np.hypot(*image.shape[:2])) + 2
    field = np.zeros((side, side), np.uint8)
    for row in range(30, side, 90):
        for column in range(0, side, 170):
            cv2.putText(field, text, (column, row), cv2.FONT_HERSHEY_SIMPLEX, 0.9, 255, 2, cv2.LINE_AA)
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), degrees, 1)
    field = cv2.warpAffine(field, matrix, (side, side))[: image.shape[0], : image.shape[1], None] / 255 * opacity
    return (image * (1 - field) + 255 * field).astype(np.uint8)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs_stay(name):
    assert reason_of(PHOTOGRAPHS[name]) == ""


@pytest.mark.parametrize("degrees", [0, 30, -40])
@pytest.mark.parametrize("name", ["coffee", "chelsea", "rocket"])
def test_a_tiled_text_is_found_at_any_angle(name, degrees):
    assert reason_of(tiled(PHOTOGRAPHS[name], degrees=degrees, opacity=0.4)) == "tiled_mark"


def test_the_score_grows_with_the_opacity_of_the_mark():
    image = PHOTOGRAPHS["astronaut"]
    found = [scores_of(tiled(image, degrees=20, opacity=opacity))["repetition"] for opacity in (0, 0.3, 0.5, 0.8)]
    assert found == sorted(found)
    assert found[-1] > 0.1


def test_enlarging_the_photograph_changes_little():
    image = tiled(PHOTOGRAPHS["coffee"], degrees=30, opacity=0.5)
    twice = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    assert scores_of(twice)["repetition"] == pytest.approx(scores_of(image)["repetition"], rel=0.3)


@pytest.mark.parametrize(("down", "across"), [(0, 70), (90, 0), (64, 48), (50, -60)])
def test_the_translation_found_is_that_of_the_pattern(down, across):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(512, 640))
    pattern = np.zeros_like(noise)
    stamp = rng.normal(size=(24, 40)) * 2
    for step in range(-20, 20):
        row, column = 200 + step * down, 300 + step * across
        if 0 <= row <= 512 - 24 and 0 <= column <= 640 - 40:
            pattern[row : row + 24, column : column + 40] = stamp
    shift = _translation((noise + pattern).astype(np.float32))
    multiples = {(sign * step * down, sign * step * across) for step in range(1, 6) for sign in (1, -1)}
    assert shift in multiples


def test_what_repeats_in_one_part_only_is_not_steady():
    rng = np.random.default_rng(0)
    tile = rng.normal(size=(64, 64)).astype(np.float32)
    everywhere = np.tile(tile, (8, 8))
    somewhere = rng.normal(size=(512, 512)).astype(np.float32)
    somewhere[:256, :128] = everywhere[:256, :128]
    assert _steadiness(everywhere, (0, 64)) > 0.5
    assert abs(_steadiness(somewhere, (0, 64))) < 0.1


@pytest.mark.parametrize("shape", [(1, 1), (20, 400), (512, 512)])
@pytest.mark.parametrize("value", [0, 128])
def test_flat_and_small_images_are_measured(shape, value):
    scores = scores_of(np.full((*shape, 3), value, np.uint8))
    assert np.isfinite(list(scores.values())).all()
    assert reason_of(np.full((*shape, 3), value, np.uint8)) == ""


@pytest.mark.parametrize(
    ("shape", "size"), [((600, 1200), (512, 1024)), ((300, 300), (512, 512)), ((20, 400), (128, 2048))]
)
def test_the_copy_is_of_bounded_size(shape, size):
    assert reduced(np.zeros((*shape, 3), np.uint8)).shape == size
