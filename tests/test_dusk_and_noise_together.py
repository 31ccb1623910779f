"""What holds between the steps of a combination: whose light is beyond white, and where a dark scene is noisy."""

import numpy as np
import pytest

from degradations import load
from degradations.numerics.light import encode
from degradations.pairs.contract import Options
from degradations.pairs.recipes import draw, params_of
from degradations.pairs.render import render, render_params
from storage.records import Scene
from tests.scenes import annotated, leaves

SHORT = 192
EXPOSED = load("low_light").options(mode="physical", noise=False, field=False, cast=False, toe=False)
SHAKEN = load("blur").options(linear=0, object_motion=0, rotation=0, defocus=0, web=0)
OPTIONS: dict[str, Options] = {"low_light": EXPOSED, "blur": SHAKEN}


def overcast() -> Scene:
    """Return a scene under a pale sky that is clipped in places, as a camera leaves it."""
    image = leaves(SHORT, SHORT)
    sky = image[: SHORT // 2]
    sky[:] = 240
    sky[20:60, 30:70] = 255
    return annotated(image)


@pytest.mark.parametrize("name", ["low_light_blur", "low_light_blur_noise", "blur+low_light"])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_clipped_sky_does_not_shine_at_dusk(name: str, seed: int) -> None:
    """Blur means light that is there: nothing may be brighter than the brightest that the others leave."""
    target = overcast()
    recipe = draw(name, 0.7, target, seed=seed, options=OPTIONS)
    others = [(load(step.degradation), params_of(load(step.degradation), step)) for step in recipe.steps]
    unblurred = render_params(target, [drawn for drawn in others if drawn[0] is not load("blur")]).degraded
    sky = np.s_[: SHORT // 3]
    assert int(render(target, recipe).degraded[sky].max()) <= int(unblurred[sky].max()) + 3


def test_a_lamp_still_shines_when_a_night_is_shaken() -> None:
    image = np.full((SHORT, SHORT, 3), 30, np.uint8)
    image[80:110, 80:110] = 255
    target = annotated(image)
    recipe = draw("low_light_blur", 0.5, target, seed=3, options=OPTIONS)
    exposure, gain = (recipe.steps[0].params[key] for key in ("exposure", "gain"))
    paper = encode(np.full((1, 1, 3), exposure * gain, np.float32))[0, 0, 0]  # what is merely white
    assert int(render(target, recipe).degraded[90:100, 90:100].max()) > int(paper) + 20


def test_a_blur_alone_still_knows_that_white_is_clipped() -> None:
    (step,) = draw("blur", 0.7, overcast(), seed=1, options=OPTIONS).steps
    assert step.params["highlights"] > 0


@pytest.mark.parametrize("name", ["low_light_noise", "low_light_blur_noise", "low_light_noise_compression"])
def test_noise_in_the_dark_is_all_over(name: str) -> None:
    aware: dict[str, Options] = {"noise": load("noise").options(segment_aware=1.0)}
    for seed in range(4):
        steps = {step.degradation: step.params for step in draw(name, 0.6, overcast(), seed=seed, options=aware).steps}
        assert steps["noise"]["segment_gains"] == []


def test_noise_by_day_still_goes_by_segments() -> None:
    aware: dict[str, Options] = {"noise": load("noise").options(segment_aware=1.0)}
    steps = draw("blur_noise", 0.6, overcast(), seed=0, options=aware | OPTIONS).steps
    assert steps[1].params["segment_gains"]
