"""Highlights that are re-expanded: only what is clipped in every channel, without a cast."""

import numpy as np
import pytest

from degradations._light import brightened, decode, encode


@pytest.mark.parametrize("colour", [(235, 240, 255), (255, 120, 40), (255, 255, 90), (252, 240, 255)])
def test_a_colour_of_which_a_channel_is_known_stays(colour: tuple[int, int, int]) -> None:
    image = np.full((8, 8, 3), colour, np.uint8)
    np.testing.assert_array_equal(brightened(image, 8.0), decode(image))


def test_white_gains_what_was_drawn_and_keeps_its_hue() -> None:
    light = brightened(np.full((4, 4, 3), 255, np.uint8), 5.0)
    np.testing.assert_allclose(light, 6.0, rtol=1e-4)


@pytest.mark.parametrize("colour", [(255, 254, 253), (253, 253, 255), (254, 255, 255)])
def test_nearly_white_gains_the_same_in_every_channel(colour: tuple[int, int, int]) -> None:
    image = np.full((4, 4, 3), colour, np.uint8)
    gains = (brightened(image, 8.0) - decode(image))[0, 0]
    assert gains.min() > 0
    np.testing.assert_allclose(gains, gains[0], rtol=1e-5)
    assert np.abs(encode(brightened(image, 8.0)).astype(int) - image).max() <= 3
