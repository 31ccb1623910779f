"""Ringing of the web's filters: of sRGB codes, so as deep in the shadow as it is high in the light."""

import numpy as np
import pytest

from degradations.blur import DEGRADATION, Blur, BlurOptions, Web, sample
from degradations.numerics.random import generator
from degradations.pairs.render import render_params
from storage.records import Scene

RINGING = Web(kernel="ringing", sigma=4.0, aspect=1.0, angle=0.0, beta=1.0)


@pytest.mark.parametrize(("dark", "light"), [(60, 200), (30, 120), (100, 220)])
def test_an_edge_rings_alike_on_both_sides(dark: int, light: int) -> None:
    image = np.full((256, 256, 3), dark, np.uint8)
    image[:, 128:] = light
    drawn = [(DEGRADATION, Blur(highlights=0.0, motion=RINGING))]
    codes = render_params(Scene(key="a", image=image), drawn).degraded.astype(int)
    over, under = codes.max() - light, dark - codes.min()
    assert over > 0.015 * (light - dark)
    assert abs(over - under) <= 1  # in light the ring under the edge is two to three times as deep


def test_codes_know_no_light_beyond_white() -> None:
    scene = Scene(key="a", image=np.full((64, 64, 3), 90, np.uint8))
    options = BlurOptions(shake=0, linear=0, object_motion=0, rotation=0, defocus=0, clip=0, web=1)
    drawn = [sample(generator(seed), 0.5, scene, options) for seed in range(60)]
    rung = [each for each in drawn if isinstance(each.motion, Web) and each.motion.kernel == "ringing"]
    assert rung
    assert all(each.highlights == 0 for each in rung)
