"""Coupled degradations act in the order of physics, whatever the order in which they are named."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from degradations import load, names
from degradations.numerics.light import encode
from degradations.pairs.contract import Frame, Part, Stage
from degradations.pairs.coupled import COUPLED, check_name, steps_of
from degradations.pairs.recipes import draw, params_of, recipe_of
from degradations.pairs.render import render, render_params
from storage.records import Scene, Step
from tasks.mixture import Options
from tests.scenes import annotated, sampled, scene

SHORT = 160


def step(name: str, params: object) -> tuple[object, object]:
    return load(name), params


def one_save(target: Scene) -> object:
    """Return the params of a single JPEG of the picture at its own size, its grid at the corner."""
    drawn = sampled("compression", 0.8, target, 1, webp=0, avif=0, video=0)
    save = replace(drawn.generations[0], codec="jpeg", scale=1.0, sharpen=0.0, offset=(0, 0), quality=20)
    return replace(drawn, generations=(save,))


def dark(target: Scene, severity: float = 0.6) -> object:
    """Return the params of a darkness that is exposure and gain alone."""
    options = {"mode": "physical", "noise": False, "field": False, "cast": False, "toe": False, "lamps": False}
    return sampled("low_light", severity, target, 1, **options)


STAGES = {  # where each acts, as light goes from the lamp to the file
    "low_light": "HIGHLIGHTS ILLUMINATION EXPOSURE SENSOR ISP",
    "haze": "MEDIA SENSOR",
    "rain": "MEDIA GLASS",
    "snow": "MEDIA",
    "reflection": "GLASS",
    "moire": "SCREEN CODEC",
    "blur": "HIGHLIGHTS OPTICS CODEC",
    "flare": "OPTICS",
    "noise": "SENSOR ISP CODEC",
    "compression": "CODEC",
}


def test_each_degradation_acts_where_physics_puts_it() -> None:
    assert {name: " ".join(part.stage.name for part in load(name).parts) for name in names()} == STAGES


def test_parts_run_from_the_lamp_to_the_file_whatever_the_order_of_steps() -> None:
    target, ran = scene("chelsea", 32), []

    def probe(stage: Stage) -> Part:
        def apply(frame: Frame, params: object, target: Scene) -> Frame:
            ran.append((stage, frame.degraded.dtype))
            return frame

        return Part(stage, apply)

    drawn = [(replace(load("snow"), parts=(probe(stage),)), None) for stage in (*reversed(Stage), *Stage)]
    render_params(target, drawn)
    assert [stage for stage, _ in ran] == sorted([*Stage, *Stage])
    assert [stage.name for stage in Stage][1:] == (
        ["ILLUMINATION", "MEDIA", "GLASS", "SCREEN", "OPTICS", "EXPOSURE", "SENSOR", "ISP", "CODEC"]
    )
    assert all((kind == np.uint8) == (stage is Stage.CODEC) for stage, kind in ran)


def test_the_exposure_clips_what_the_sensor_sees() -> None:
    target, seen = scene("chelsea", 32), []

    def glare(frame: Frame, params: object, target: Scene) -> Frame:
        return replace(frame, degraded=frame.degraded * np.float32(9) - np.float32(0.5))

    def look(frame: Frame, params: object, target: Scene) -> Frame:
        seen.append((float(frame.degraded.min()), float(frame.degraded.max())))
        return frame

    parts = (Part(Stage.OPTICS, glare), Part(Stage.EXPOSURE, look), Part(Stage.SENSOR, look))
    render_params(target, [(replace(load("snow"), parts=parts), None)])
    assert seen[0][0] < 0
    assert seen[0][1] > 1
    assert seen[1] == (0.0, 1.0)


def test_what_is_mirrored_in_a_pane_has_no_haze_before_it() -> None:
    """Air lies behind the glass: where the scene is all airlight, the reflection is added as it is."""
    target = replace(scene("coffee", SHORT), depth=np.zeros((SHORT, scene("coffee", SHORT).image.shape[1]), np.float32))
    haze = replace(sampled("haze", 1.0, target, 1), layer=0.0, noise=0.0, beta=50.0, unevenness=0.0, scatter=0.0)
    haze = replace(haze, airlight=(0.2, 0.2, 0.2))
    pane = sampled("reflection", 0.5, target, 3, weight="fbm", swap_share=0)
    both = render_params(target, [step("reflection", pane), step("haze", haze)]).degraded
    hazy = render_params(target, [step("haze", haze)]).degraded
    mirrored = render_params(replace(target, image=hazy), [step("reflection", pane)]).degraded
    assert np.abs(both.astype(int) - mirrored).max() <= 1
    assert np.abs(both.astype(int) - hazy).max() > 20


@pytest.mark.parametrize("name", ["compression+noise+blur", "haze+low_light+rain", "flare+reflection+moire"])
def test_the_order_of_the_names_does_not_matter(name: str) -> None:
    target = scene("coffee", SHORT)
    pairs = [render(target, draw("+".join(names), 0.8, target, seed=4)) for names in permutations(name.split("+"))]
    assert all(np.array_equal(each.degraded, pairs[0].degraded) for each in pairs)


def test_the_order_of_steps_in_a_recipe_does_not_matter_across_stages() -> None:
    target = scene("coffee", SHORT)
    recipe = draw("blur_noise_compression", 0.9, target, seed=2)
    orders = [recipe_of(recipe.name, recipe.severity, steps) for steps in permutations(recipe.steps)]
    assert len({render(target, each).degraded.tobytes() for each in orders}) == 1


def test_blur_comes_before_noise_and_noise_before_the_codec() -> None:
    target = scene("astronaut", SHORT)
    save, noise, blur = one_save(target), sampled("noise", 0.7, target, 2), sampled("blur", 0.7, target, 3)
    together = render_params(target, [step("compression", save), step("noise", noise), step("blur", blur)])
    blurred_then_noisy = render_params(target, [step("blur", blur), step("noise", noise)]).degraded
    saved = render_params(replace(target, image=blurred_then_noisy), [step("compression", save)])
    assert np.array_equal(together.degraded, saved.degraded)
    assert not np.array_equal(together.degraded, blurred_then_noisy)


def test_noise_after_blur_keeps_its_grain() -> None:
    target = scene("astronaut", SHORT)
    blur = sampled("blur", 1.0, target, 3, shake=0, linear=0, object_motion=0, rotation=0, defocus=0, web=1)
    noise = sampled("noise", 0.6, target, 2, mode="web")
    coupled = render_params(target, [step("noise", noise), step("blur", blur)]).degraded.astype(float)
    alone = render_params(target, [step("blur", blur)]).degraded
    grain = np.diff(coupled - alone, axis=1).std()
    unblurred = render_params(target, [step("noise", noise)]).degraded.astype(float) - target.image
    assert grain == pytest.approx(np.diff(unblurred, axis=1).std(), rel=0.25)


def test_the_airlight_of_a_dark_haze_is_the_dimmed_one_of_the_day() -> None:
    """Light scattered in by the air is dimmed with the scene: at infinity the picture is gain x exposure x airlight."""
    full = scene("coffee", SHORT)
    far = annotated(full.image)
    target = replace(far, depth=np.zeros(full.image.shape[:2], np.float32))
    darkness = dark(target)
    haze = replace(sampled("haze", 1.0, target, 1), layer=0.0, noise=0.0, beta=50.0, unevenness=0.0, pattern=0.0)
    night = render_params(target, [step("haze", haze), step("low_light", darkness)]).degraded
    factor = darkness.exposure * darkness.gain  # type: ignore[attr-defined]
    expected = encode(np.array([[haze.airlight]], np.float32) * np.float32(factor))[0, 0]
    assert np.abs(night.reshape(-1, 3).astype(int) - expected.astype(int)).max() <= 1


def test_media_that_follow_an_illumination_scatter_its_light() -> None:
    """A night that is dark by its illumination, not by the exposure, has dark air too."""
    target = scene("rocket", SHORT)
    haze = replace(sampled("haze", 0.9, target, 1), noise=0.0)
    veil = load("haze").parts[0].apply
    day = np.full(target.image.shape, 0.4, np.float32)
    lit = veil(Frame(degraded=day, clean=day), haze, target).degraded
    dim = veil(Frame(degraded=day * np.float32(0.1), clean=day), haze, target).degraded
    assert dim == pytest.approx(lit * 0.1, rel=1e-3)


@pytest.mark.parametrize("name", [name for name in COUPLED if "compression" in name])
def test_the_last_grid_is_that_of_the_codec(name: str) -> None:
    """What a last codec of one generation at full size made is what the pair holds: nothing touches it afterwards."""
    target = scene("astronaut", SHORT)
    recipe = draw(name, 0.9, target, seed=6)
    steps = [(load(each.degradation), params_of(load(each.degradation), each)) for each in recipe.steps]
    before = [drawn for drawn, each in zip(steps, recipe.steps, strict=True) if each.degradation != "compression"]
    save = step("compression", one_save(target))
    uncoded = render_params(target, before).degraded
    coded = render_params(replace(target, image=uncoded), [save]).degraded
    assert np.array_equal(render_params(target, [save, *before]).degraded, coded)


@pytest.mark.parametrize("name", list(COUPLED))
def test_a_combination_is_the_union_of_its_steps_each_with_a_share_of_the_harm(name: str) -> None:
    target = scene("chelsea", 96)
    recipe = draw(name, 0.8, target, seed=1)
    assert tuple(each.degradation for each in recipe.steps) == steps_of(name)
    assert recipe.name == name
    assert recipe.severity == 0.8


def test_a_list_joined_by_plus_signs_is_a_combination() -> None:
    target = scene("chelsea", 96)
    recipe = draw("snow+low_light", 0.8, target, seed=1)
    assert [each.degradation for each in recipe.steps] == ["low_light", "snow"]
    assert all(isinstance(each, Step) for each in recipe.steps)
    assert not np.array_equal(render(target, recipe).degraded, target.image)


def test_an_unknown_member_is_named() -> None:
    with pytest.raises(ValueError, match="'sleet'"):
        draw("rain+sleet", 0.5, scene("chelsea", 96), seed=1)


def test_raindrop_is_rain_on_the_glass_by_name() -> None:
    target = scene("chelsea", 96)
    recipe = draw("raindrop", 0.8, target, seed=1)
    assert recipe.name == "raindrop"
    assert [(each.degradation, each.params["mode"]) for each in recipe.steps] == [("rain", "raindrop")]
    asked = draw("rain", 0.8, target, seed=1, options={"rain": load("rain").options(mode="raindrop")})
    assert recipe.steps == asked.steps


def test_raindrop_keeps_the_options_of_rain_but_its_mode_and_joins_lists() -> None:
    target = scene("chelsea", 96)
    options = {"rain": load("rain").options(mode="streaks")}
    recipe = draw("raindrop+noise", 0.8, target, seed=1, options=options)
    assert [each.degradation for each in recipe.steps] == ["noise", "rain"]
    assert recipe.steps[1].params["mode"] == "raindrop"
    assert Options(weights={"raindrop": 1.0}).shares() == {"raindrop": 1.0}


def test_the_darker_the_scene_the_longer_the_camera_shakes() -> None:
    """A long exposure links both: of one pair they are of one severity."""
    target, found = scene("chelsea", 96), []
    options = {
        "low_light": load("low_light").options(mode="physical"),
        "blur": load("blur").options(linear=0, object_motion=0, rotation=0, defocus=0, web=0),
    }
    for severity in (0.2, 0.4, 0.6, 0.8, 1.0):
        steps = {
            each.degradation: each.params
            for each in draw("low_light_blur", severity, target, seed=2, options=options).steps
        }
        found.append((steps["low_light"]["exposure"], steps["blur"]["motion"]["length"]))
    exposures, lengths = zip(*found, strict=True)
    assert list(exposures) == sorted(exposures, reverse=True)
    assert list(lengths) == sorted(lengths)
    assert lengths[-1] > 3 * lengths[0]


def test_a_list_may_hold_combinations() -> None:
    assert steps_of("rain_haze+blur") == ("blur", "haze", "rain")


def test_a_name_that_is_nearly_one_is_told_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean rain_haze"):
        check_name("blur+rain_hase")
