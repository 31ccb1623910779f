"""A smaller picture by areas: the mean of what each pixel covers, and within one code of OpenCV's."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from degradations.numerics.resample import reduced
from storage.records import Image
from tests.scenes import photograph


def noise(height: int, width: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def means(image: Image, shape: tuple[int, int]) -> np.ndarray:
    """The exact means, from sums up to every place: their differences are the sums over areas."""
    sums = image.astype(np.float64)
    for axis, new in enumerate(shape):
        old = sums.shape[axis]
        upto = np.concatenate([np.zeros_like(np.take(sums, [0], axis)), np.cumsum(sums, axis)], axis)
        at = np.arange(new + 1) * (old / new)
        first = np.minimum(np.floor(at).astype(int), old)
        part = (at - first).reshape([-1 if index == axis else 1 for index in range(3)])
        below, above = np.take(upto, first, axis), np.take(upto, np.minimum(first + 1, old), axis)
        sums = np.diff(below + (above - below) * part, axis=axis) * (new / old)
    return sums


@settings(max_examples=60, deadline=None)
@given(
    old=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    share=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    seed=st.integers(0, 99),
)
def test_each_pixel_is_the_nearest_code_to_the_mean_of_its_area(
    old: tuple[int, int], share: tuple[float, float], seed: int
) -> None:
    shape = max(1, round(old[0] * share[0])), max(1, round(old[1] * share[1]))
    image = noise(*old, seed)
    small = reduced(image, shape)
    assert small.shape == (*shape, 3)
    assert np.abs(small - means(image, shape)).max() <= 0.501


@pytest.mark.parametrize("shape", [(239, 239), (200, 150), (144, 144), (160, 97), (120, 60), (51, 51), (1, 7)])
def test_it_is_within_one_code_of_opencv_and_nearly_always_equal(shape: tuple[int, int]) -> None:
    for image in (photograph("astronaut", 240), noise(240, 240)):
        theirs = cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA).reshape(*shape, 3)
        apart = np.abs(reduced(image, shape).astype(int) - theirs)
        assert apart.max() <= 1
        assert (apart > 0).mean() < 0.01  # ties, of which simple factors have many


def test_an_even_picture_stays_as_it_is() -> None:
    for code in (0, 1, 127, 254, 255):
        assert (reduced(np.full((61, 83, 3), code, np.uint8), (37, 50)) == code).all()


def test_what_it_reads_is_left_alone() -> None:
    image = noise(40, 50)
    image.flags.writeable = False
    before = image.copy()
    assert reduced(image[1:], (23, 31)).flags.owndata
    np.testing.assert_array_equal(image, before)
