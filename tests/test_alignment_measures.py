"""The measures of alignment: blur does not fool the flow, turned frames show in corners, moved edges in skeletons."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

import degradations
import filters
from filters import load
from filters._edges import skeleton_shift
from filters._features import frame_shift
from filters._flow import flow
from filters.alignment import REASONS
from storage.records import Recipe, Step

CLEAN = data.astronaut()


def moved(image, rows, columns):
    matrix = np.array([[1, 0, columns], [0, 1, rows]], np.float32)
    return cv2.warpAffine(image, matrix, image.shape[1::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def turned(image, degrees, scale=1.0):
    matrix = cv2.getRotationMatrix2D((image.shape[1] / 2, image.shape[0] / 2), degrees, scale)
    return cv2.warpAffine(image, matrix, image.shape[1::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def bulged(image, pixels):
    rows, columns = np.indices(image.shape[:2], dtype=np.float32)
    bump = pixels * np.exp(-((((rows - 200) ** 2 + (columns - 220) ** 2) / 90**2) ** 2)).astype(np.float32)
    return cv2.remap(image, columns + bump, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def spread(kernel):
    """Spread light, not levels."""

    def blur(image):
        light = cv2.filter2D((image / 255.0) ** 2.2, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT)
        return np.rint(255 * np.clip(light, 0, 1) ** (1 / 2.2)).astype(np.uint8)

    return blur


def sheared_blur(length):
    """A straight motion blur of 30 degrees, its centroid at 0."""
    kernel = np.zeros((length, length), np.float32)
    middle = (length - 1) / 2
    for along in np.linspace(-middle, middle, 20 * length):
        kernel[round(middle + along * 0.5), round(middle + along * 0.866)] += 1
    return spread(kernel + kernel[::-1, ::-1])


def defocus(radius):
    rows, columns = np.indices((2 * radius + 1, 2 * radius + 1)) - radius
    return spread((np.hypot(rows, columns) <= radius).astype(np.float32))


def same(image):
    return image


BLURS = [same, defocus(4), defocus(9), sheared_blur(15), sheared_blur(31)]


@pytest.mark.parametrize("blur", BLURS)
def test_blur_is_no_shift(blur):
    found = flow(CLEAN, blur(CLEAN))
    assert found.shift_px < 0.2
    assert found.warp_px < 0.7


@pytest.mark.parametrize("blur", BLURS)
@pytest.mark.parametrize("shift", [(1.0, 0.0), (-1.2, 1.6), (0.0, 3.0)])
def test_shift_is_measured_through_any_blur(blur, shift):
    assert flow(CLEAN, blur(moved(CLEAN, *shift))).shift_px == pytest.approx(np.hypot(*shift), rel=0.33)


@pytest.mark.parametrize("blur", BLURS[:4])
def test_warp_is_found_through_a_blur(blur):
    assert flow(CLEAN, blur(bulged(CLEAN, 4))).warp_px > 0.8


@pytest.mark.parametrize(("gain", "offset"), [(0.3, 150), (0.4, 5)])
def test_gain_and_offset_move_nothing(gain, offset):
    changed = np.rint(CLEAN * gain + offset).astype(np.uint8)
    assert flow(CLEAN, changed).shift_px < 0.1
    assert flow(CLEAN, moved(changed, 0, 2)).shift_px == pytest.approx(2, rel=0.33)


def test_larger_images_are_measured_in_their_own_pixels():
    large = cv2.resize(CLEAN, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    found = flow(large, moved(large, 0, 4))
    assert found.shift_px == pytest.approx(4, rel=0.33)
    assert found.pixel == pytest.approx(1.5)


def grid_displacement(degrees, scale=1.0):
    """Mean displacement over a frame of 512 x 512 that is turned about its middle, by brute force."""
    angle = np.deg2rad(degrees)
    rows, columns = np.mgrid[-256:257:16, -256:257:16].astype(float)
    turned_columns = scale * (np.cos(angle) * columns + np.sin(angle) * rows)
    turned_rows = scale * (-np.sin(angle) * columns + np.cos(angle) * rows)
    return np.hypot(turned_rows - rows, turned_columns - columns).mean()


@pytest.mark.parametrize(("degrees", "scale"), [(1.0, 1.0), (-3.0, 1.0), (0.0, 1.03), (8.0, 0.9)])
def test_turned_or_scaled_frame_is_measured(degrees, scale):
    expected = grid_displacement(degrees, scale)
    assert frame_shift(CLEAN, turned(CLEAN, degrees, scale)) == pytest.approx(expected, rel=0.25)


def test_frame_that_stands_still_has_no_shift():
    assert frame_shift(CLEAN, CLEAN) < 0.05
    assert frame_shift(CLEAN, (CLEAN * 0.3 + 150).astype(np.uint8)) < 0.5


def test_other_photograph_is_no_evidence_of_a_frame():
    other = cv2.resize(data.coffee(), CLEAN.shape[1::-1])
    assert frame_shift(CLEAN, other) == 0


@pytest.mark.parametrize("shift", [(0.0, 1.0), (-1.2, 1.6), (3.0, -2.0)])
def test_skeleton_that_moved_is_measured(shift):
    assert skeleton_shift(CLEAN, moved(CLEAN, *shift)).shift_px == pytest.approx(np.hypot(*shift), abs=0.25)


def test_skeleton_of_the_same_image_stays():
    found = skeleton_shift(CLEAN, CLEAN)
    assert found.shift_px == 0
    assert found.local_px == 0


def test_bent_edges_are_found_where_they_bend():
    assert skeleton_shift(CLEAN, bulged(CLEAN, 4)).local_px > 1.5


@pytest.mark.parametrize("shape", [(1, 1, 3), (40, 200, 3), (65, 64, 3)])
def test_every_measure_takes_the_smallest_images(shape):
    image = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    flat = np.full(shape, 90, np.uint8)
    for one, other in ((image, image), (flat, flat), (image, flat)):
        assert np.isfinite(
            [flow(one, other).shift_px, frame_shift(one, other), skeleton_shift(one, other).shift_px]
        ).all()


def recipe(*names):
    steps = tuple(Step(degradation=name, params={}, inputs={}) for name in names)
    return Recipe(name="+".join(names), severity=0.5, steps=steps, digest="")


def scores_like(**found):
    return dict.fromkeys(REASONS, 0.0) | {"confidence": 20.0, "scale": 0.5, "pixel": 1.0} | found


def table():
    return json.loads(Path(filters.__file__).with_name("_shifts.json").read_text())


def test_every_degradation_has_measured_limits():
    assert {*degradations.names(), "coupled", "other"} <= set(table())
    assert all(set(row) == set(REASONS) for row in table().values())


@pytest.mark.parametrize("score", REASONS)
@pytest.mark.parametrize("name", ["noise", "haze"])
def test_limit_is_the_measured_one_or_the_option(score, name):
    judge = load("alignment")(max_shift=1e-3, max_warp=1e-3, max_distortion=1e-3).judge
    limit = max(1e-3, table()[name][score])
    doubt = {"confidence": 0.0} if score == "flow_px" else {}
    assert judge(scores_like(**{score: limit * 0.99}, **doubt), recipe(name)).keep
    assert judge(scores_like(**{score: limit * 1.01 + 1e-6}, **doubt), recipe(name)).reason == REASONS[score]
    wide = load("alignment")(max_shift=50, max_warp=50, max_distortion=50).judge
    assert wide(scores_like(**{score: 49.0}), recipe(name)).keep


@pytest.mark.parametrize(
    ("names", "confidence", "keep"),
    [(("rain",), 20.0, True), (("rain",), 3.0, False), (("blur",), 20.0, False), (("rain", "blur"), 20.0, False)],
)
def test_flow_of_the_whole_is_heard_where_phase_is_not_to_be_relied_on(names, confidence, keep):
    assert load("alignment")().judge(scores_like(flow_px=9.0, confidence=confidence), recipe(*names)).keep is keep


def test_a_list_of_steps_has_the_widest_limits():
    limit = max(table()[name]["warp_px"] for name in ("haze", "reflection", "coupled"))
    judge = load("alignment")(max_warp=1e-3).judge
    assert judge(scores_like(warp_px=limit * 0.99), recipe("haze", "reflection")).keep
    assert not judge(scores_like(warp_px=limit * 1.01 + 1e-3), recipe("haze", "reflection")).keep


def test_without_calibration_the_options_decide():
    judge = load("alignment")(calibrated=False, max_warp=0.1).judge
    assert judge(scores_like(warp_px=0.11), recipe("reflection")).reason == "warped"


def test_flow_is_judged_in_the_pixels_of_its_copy():
    judge = load("alignment")(max_shift=0.5, calibrated=False).judge
    assert judge(scores_like(flow_px=0.9, pixel=2.0)).keep
    assert judge(scores_like(flow_px=0.9)).reason == "shifted"


def test_older_ledgers_are_judged_by_what_they_hold():
    judge = load("alignment")().judge
    assert judge({"shift_px": 1.2, "local_px": 0.0, "confidence": 12.0, "scale": 0.5}).reason == "shifted"
    assert judge({"shift_px": 0.1, "local_px": 0.0, "confidence": 12.0, "scale": 0.5}).keep
