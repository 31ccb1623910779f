"""Highlights that are re-expanded: only what is clipped in every channel, without a cast."""

from dataclasses import replace

import numpy as np
import pytest

from degradations import load
from degradations.numerics.light import brightened, decode, encode
from degradations.pairs.render import render_params
from storage.records import Scene
from tests.scenes import sampled


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


def test_a_pale_sky_in_a_pane_keeps_its_hue() -> None:
    sky = np.full((64, 64, 3), (215, 235, 255), np.uint8)
    target = Scene(key="pane", image=np.full((64, 64, 3), 30, np.uint8), overlays={"reflection": sky})
    pane = replace(sampled("reflection", 0.9, target, 5, swap_share=0, weight="window"), tint=(1.0, 1.0, 1.0))
    pairs = [render_params(target, [(load("reflection"), replace(pane, highlights=over))]) for over in (0.0, 8.0)]
    np.testing.assert_array_equal(pairs[0].degraded, pairs[1].degraded)
    assert pairs[1].degraded.min() > pairs[1].clean.max()  # there is a reflection
