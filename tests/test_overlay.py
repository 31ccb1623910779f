"""A tiled mark repeats itself all over the photograph; a photograph does not. A text in a corner is seen as well."""

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
    assert reduced(np.zeros((*shape, 3), np.uint8)).shape == (*size, 3)


def in_corner(image, *, opacity, text="(c) A. Person"):
    """Lay a white text over the lower right corner of an image."""
    field = np.zeros(image.shape[:2], np.uint8)
    scale = min(image.shape[:2]) / 512 * 0.8
    (width, _), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 2)
    place = (image.shape[1] - width - 16, image.shape[0] - below - 10)
    cv2.putText(field, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, 2, cv2.LINE_AA)
    cover = field[..., None] / 255 * opacity
    return (image * (1 - cover) + 255 * cover).astype(np.uint8)


@pytest.mark.parametrize("name", ["chelsea", "flower", "rocket"])
def test_a_text_in_a_corner_is_found(name):
    assert reason_of(in_corner(PHOTOGRAPHS[name], opacity=0.6)) == "mark"


def test_the_log_odds_of_a_mark_grow_with_its_opacity():
    found = [scores_of(in_corner(PHOTOGRAPHS["coffee"], opacity=opacity))["mark"] for opacity in (0, 0.25, 0.6)]
    assert found == sorted(found)


def test_what_repeats_is_called_tiled_and_anything_else_a_mark():
    judge = load("overlay")(max_repetition=0.1, max_mark=2.0).judge
    reasons = [judge({"repetition": r, "mark": m}).reason for r, m in [(0, 0), (0.2, 0), (0, 3), (0.2, 3), (0.1, 2.0)]]
    assert reasons == ["", "tiled_mark", "mark", "tiled_mark", ""]
