"""The grader without weights: strong degradations get worse grades than weak ones, clean photographs good ones."""

from functools import cache

import cv2
import numpy as np
import pytest
from skimage import data

from filters._embedded_grade import graded, types

CLEAN = data.astronaut()


@cache
def degraded(name, step):
    """Return a photograph, degraded in `step` of 0 to 3, by textbook operations that the fit has not seen."""
    image, rng = CLEAN.astype(float), np.random.default_rng(step)
    if name == "noise":
        image = image + rng.normal(0, 1, image.shape) * (0, 12, 30, 60)[step]
    elif name == "low_light":
        image = image * (1, 0.5, 0.25, 0.1)[step]
    elif name == "haze":
        veil = (0, 0.3, 0.55, 0.8)[step]
        image = image * (1 - veil) + 215 * veil
    elif name == "blur":
        image = cv2.GaussianBlur(image, (0, 0), (0.01, 1.5, 3, 6)[step])
    elif name == "compression" and step:
        coded = cv2.imencode(".jpg", CLEAN, [cv2.IMWRITE_JPEG_QUALITY, (0, 40, 15, 5)[step]])[1]
        image = cv2.imdecode(coded, cv2.IMREAD_COLOR).astype(float)
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", ["noise", "low_light", "haze", "blur", "compression"])
def test_a_stronger_degradation_never_gets_a_better_grade(name):
    grades = [graded(degraded(name, step), name) for step in range(4)]
    assert grades == sorted(grades, reverse=True)
    assert grades[0] - grades[-1] >= 2


@pytest.mark.parametrize("name", types())
def test_a_clean_photograph_gets_a_good_grade(name):
    assert graded(CLEAN, name) >= 4


@pytest.mark.parametrize(("name", "asked"), [("noise", "low_light"), ("low_light", "noise"), ("haze", "blur")])
def test_another_degradation_than_the_asked_one_hardly_counts(name, asked):
    assert graded(degraded(name, 2), asked) >= 4


def test_every_grade_is_one_to_five():
    black, white = np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 255, np.uint8)
    assert all(graded(image, name) in range(1, 6) for name in types() for image in (black, white))


def test_an_unknown_degradation_is_an_error():
    with pytest.raises(ValueError, match="not in tuple"):
        graded(CLEAN, "sandstorm")
