"""Alignment: planted shifts and warps are found, honest degradations are not blamed, blur is tolerated."""

import cv2
import numpy as np
import pytest
from skimage import data

from filters import load
from filters._contract import Sample
from filters.alignment import REASONS
from storage.records import Recipe, Step

CLEAN = data.astronaut()
RNG = np.random.default_rng(0)


def scores_of(clean, degraded):
    return load("alignment")().open("cpu")([Sample(key="a", clean=clean, degraded=degraded)])[0]


def reason_of(clean, degraded, recipe=None):
    return load("alignment")().judge(scores_of(clean, degraded), recipe).reason


def moved(image, rows, columns):
    matrix = np.array([[1, 0, columns], [0, 1, rows]], np.float32)
    return cv2.warpAffine(image, matrix, image.shape[1::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def bulged(image, pixels):
    rows, columns = np.indices(image.shape[:2], dtype=np.float32)
    bump = pixels * np.exp(-((((rows - 200) ** 2 + (columns - 220) ** 2) / 90**2) ** 2)).astype(np.float32)
    return cv2.remap(image, columns + bump, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def hazy(image):
    return (image * 0.3 + 150).astype(np.uint8)


def noisy(image):
    return np.clip(image + np.random.default_rng(1).normal(0, 25, image.shape), 0, 255).astype(np.uint8)


def dark(image):
    return noisy(np.clip((image / 255.0) ** 2 * 60 + 30, 0, 255)) // 2


def jpeg(image):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 12])[1], cv2.IMREAD_COLOR)


def mirrored(image):
    return np.clip(image * 0.8 + image[:, ::-1] * 0.4, 0, 255).astype(np.uint8)


def soft(image):
    return cv2.GaussianBlur(image, (0, 0), 1.5)


HONEST = [hazy, noisy, dark, jpeg, mirrored, soft]


@pytest.mark.parametrize("degrade", HONEST)
def test_degradation_that_moves_nothing_is_kept(degrade):
    scores = scores_of(CLEAN, degrade(CLEAN))
    assert scores["shift_px"] < 0.2
    assert load("alignment")().judge(scores).keep


@pytest.mark.parametrize("degrade", HONEST)
@pytest.mark.parametrize("shift", [(1, 0), (-1.2, 1.6), (0, 4), (9, -7)])
def test_shift_is_measured_through_the_degradation(degrade, shift):
    scores = scores_of(CLEAN, degrade(moved(CLEAN, *shift)))
    assert scores["shift_px"] == pytest.approx(np.hypot(*shift), abs=0.35)
    assert load("alignment")().judge(scores).reason == "shifted"


@pytest.mark.parametrize("shift", [(20, 7), (-40, 30)])
def test_shift_beyond_a_block_is_found(shift):
    scores = scores_of(CLEAN, moved(CLEAN, *shift))
    assert scores["shift_px"] == pytest.approx(np.hypot(*shift), abs=3)


@pytest.mark.parametrize("degrade", HONEST)
def test_local_warp_is_found_through_the_degradation(degrade):
    assert reason_of(CLEAN, degrade(bulged(CLEAN, 4))) == "warped"


def test_local_shift_grows_with_the_warp():
    local = [scores_of(CLEAN, bulged(CLEAN, pixels))["local_px"] for pixels in (0, 2, 4, 6)]
    assert local == sorted(local)
    assert 2.0 < local[2] < 4.5  # four deviations less than it is


def test_pair_without_common_signal_is_kept():
    flat = np.full_like(CLEAN, 90)
    assert reason_of(CLEAN, flat) == ""
    assert reason_of(flat, flat) == ""


def recipe(degradation, params, severity=0.6):
    step = Step(degradation=degradation, params=params, inputs={})
    return Recipe(name=degradation, severity=severity, steps=(step,), digest="")


def scores_like(shift, local=0.0):
    still = dict.fromkeys(REASONS, 0.0)
    return still | {"shift_px": shift, "local_px": local, "confidence": 12.0, "scale": 0.5, "pixel": 1.0}


@pytest.mark.parametrize(
    ("params", "largest"),
    [
        ({"motion": {"cause": "linear", "length": 20.0, "angle": 1.0}}, 5.5),
        ({"motion": {"cause": "defocus", "radius": 6.0, "focus": None}}, 3.5),
        ({"motion": {"cause": "web", "sigma": 2.0}}, 2.5),
        ({"motion": {"cause": "rotation", "turns": [[0.1, 0.1, 0.0, 0.0]]}}, 9.5),
    ],
)
def test_blur_widens_the_limit_by_half_its_kernel_at_the_scale_of_the_image(params, largest):
    judge = load("alignment")().judge
    assert judge(scores_like(largest - 0.1), recipe("blur", params)).keep
    assert judge(scores_like(largest + 0.1), recipe("blur", params)).reason == "shifted"


def test_other_degradations_widen_nothing():
    assert (
        load("alignment")().judge(scores_like(0.6), recipe("haze", {"beta": 1.0, "scatter": 3.0})).reason == "shifted"
    )


def test_long_motion_blur_is_kept_with_its_recipe():
    kernel = np.zeros((41, 41), np.float32)
    kernel[20] = 1 / 41
    blurred = cv2.filter2D(CLEAN, -1, kernel)
    assert reason_of(CLEAN, blurred, recipe("blur", {"motion": {"cause": "linear", "length": 82.0}})) == ""


@pytest.mark.parametrize("shape", [(1, 1, 3), (40, 200, 3), (65, 64, 3)])
def test_alignment_measures_the_smallest_images(shape):
    image = RNG.integers(0, 255, shape, dtype=np.uint8)
    assert scores_of(image, image)["shift_px"] == pytest.approx(0, abs=0.05)
