"""Rain: counts, opacities, occlusion and directions of streaks; splashes; drops on the glass."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
from pydantic import TypeAdapter

from degradations import load
from degradations.numerics.light import decode
from degradations.numerics.random import generator
from degradations.pairs.contract import Frame
from degradations.pairs.render import render_params
from degradations.rain import Rain, RainOptions, fall, sample, transmittance
from degradations.weather.drops import Glass, refract
from degradations.weather.splashes import crowns, ground, struck
from degradations.weather.streaks import LAYERS, Fall, drops_in_layer, layers, slope, terminal_velocity
from degradations.weather.strokes import count, draw
from storage.records import Scene

RAIN = load("rain")
STEADY = Fall(
    rate=40,
    density=1.0,
    shutter=1 / 120,
    focal=1100,
    angle=12,
    turbulence=0,
    converge=0,
    aperture=0,
    emphasis=6,
    seed=4,
)


def scene_of(height: int = 192, width: int = 256, grey: int = 60) -> Scene:
    """A grey scene on level ground under a sky."""
    rows = np.linspace(-0.4, 1, height, dtype=np.float32)[:, None]
    depth = np.broadcast_to(np.clip(rows, 0, 1), (height, width)).copy()
    return Scene(key="s", image=np.full((height, width, 3), grey, np.uint8), depth=depth)


def drawn(severity: float, scene: Scene, seed: int = 3, mode: str = "streaks", **changes: object) -> Rain:
    return dataclasses.replace(sample(generator(seed), severity, scene, RainOptions(mode=mode)), **changes)


def frame_of(scene: Scene) -> Frame:
    light = decode(scene.image)
    return Frame(degraded=light, clean=light)


def test_marshall_palmer_and_terminal_velocity_have_their_published_values() -> None:
    assert slope(25.0) == pytest.approx(2.085, abs=0.01)
    assert terminal_velocity(np.array([1.0, 5.0], np.float32)) == pytest.approx([3.997, 9.137], abs=0.01)


def test_harder_rain_has_more_drops_worth_drawing_in_every_layer() -> None:
    for z in LAYERS[:3]:
        counts = [drops_in_layer(rate, z, 1100) for rate in (2, 10, 40, 120)]
        assert counts == sorted(counts)
        assert counts[0] < counts[-1]


def test_streaks_point_where_the_recipe_says() -> None:
    plane = np.max(layers((1024, 1024), STEADY)[0], axis=0).astype(np.float32)
    down, across = cv2.Sobel(plane, cv2.CV_32F, 0, 1), cv2.Sobel(plane, cv2.CV_32F, 1, 0)
    along = 0.5 * np.arctan2(2 * (down * across).mean(), (across**2 - down**2).mean())  # of the gradients
    assert np.degrees(-along) == pytest.approx(STEADY.angle, abs=2)


def test_streaks_converge_on_one_point_when_the_rain_comes_towards_the_camera() -> None:
    towards = dataclasses.replace(STEADY, angle=0, converge=0.6)
    plane = np.max(layers((1024, 1024), towards)[0], axis=0).astype(np.float32)
    slants = []
    for half in (plane[:, :340], plane[:, -340:]):
        down, across = cv2.Sobel(half, cv2.CV_32F, 0, 1), cv2.Sobel(half, cv2.CV_32F, 1, 0)
        slants.append(-0.5 * np.arctan2(2 * (down * across).mean(), (across**2 - down**2).mean()))
    assert slants[0] > 0.05
    assert slants[1] < -0.05


def test_the_number_of_streaks_follows_the_area_and_their_size_the_resolution() -> None:
    cover = {shape: (np.max(layers(shape, STEADY)[0], axis=0) > 0).mean() for shape in ((512, 512), (512, 1024))}
    assert cover[512, 1024] == pytest.approx(cover[512, 512], rel=0.25)
    harms = [
        np.mean([layers((s, s), dataclasses.replace(STEADY, seed=k))[0][2].mean() for k in range(6)])
        for s in (512, 1024)
    ]
    assert harms[0] == pytest.approx(harms[1], rel=0.35)


def test_streaks_hide_only_what_lies_behind_them() -> None:
    scene = scene_of(512, 512)
    close = dataclasses.replace(scene, depth=np.ones((512, 512), np.float32))
    far = dataclasses.replace(scene, depth=np.full((512, 512), 0.05, np.float32))
    params = drawn(0.8, scene, metres=0.3, aperture=0.0, extinction=0.0)
    assert transmittance(params, close).min() > 0.99
    assert transmittance(params, far).min() < 0.9


def test_transmittance_is_between_zero_and_one_and_the_result_between_scene_and_environment() -> None:
    scene = scene_of(512, 512, grey=30)
    params = drawn(1.0, scene, splashes=0.0, wetness=0.0)
    passed = transmittance(params, scene)
    assert passed.min() >= 0
    assert passed.max() <= 1
    light = fall(frame_of(scene), params, scene).degraded
    ends = np.stack([decode(scene.image)[0, 0], np.array(params.environment, np.float32)])
    assert np.all(light >= ends.min(axis=0) - 1e-6)
    assert np.all(light <= ends.max(axis=0) + 1e-6)


def test_a_darker_background_changes_more() -> None:
    changes = []
    for grey in (20, 90, 140):
        scene = scene_of(256, 256, grey=grey)
        params = drawn(0.7, scene, environment=(0.5, 0.5, 0.5), splashes=0.0, wetness=0.0)
        changes.append(np.abs(fall(frame_of(scene), params, scene).degraded - decode(scene.image)).mean())
    assert changes == sorted(changes, reverse=True)


@pytest.mark.parametrize("mode", ["streaks", "raindrop", "night"])
def test_severity_zero_changes_no_byte(mode: str) -> None:
    scene = scene_of()
    assert np.array_equal(render_params(scene, [(RAIN, drawn(0.0, scene, mode=mode))]).degraded, scene.image)


@pytest.mark.parametrize("mode", ["streaks", "raindrop", "night"])
def test_harm_grows_with_severity(mode: str) -> None:
    scene = scene_of(384, 384)
    textured = dataclasses.replace(
        scene, image=np.add(scene.image, np.uint8(80), where=np.eye(384, dtype=bool)[..., None], out=scene.image.copy())
    )
    for seed in range(3):
        harms = []
        for level in range(6):
            rainy = render_params(textured, [(RAIN, drawn(level / 5, textured, seed, mode))]).degraded
            harms.append(float(np.square(rainy.astype(float) - textured.image).mean()))
        assert harms == sorted(harms)
        assert harms[-1] > harms[1] > 0


def test_the_wind_and_the_camera_do_not_depend_on_severity() -> None:
    scene = scene_of()
    mild, extreme = drawn(0.1, scene), drawn(0.9, scene)
    kept = ("angle", "converge", "focal", "metres", "event_seed", "glass_seed", "environment")
    assert all(getattr(mild, name) == getattr(extreme, name) for name in kept)


def test_ground_is_what_recedes_evenly_to_the_horizon_and_never_sky_or_wall() -> None:
    scene = scene_of(400, 400)
    wall = np.full((400, 400), 0.5, np.float32)
    assert scene.depth is not None
    up = ground(scene.depth, 0.2857)
    assert up[60:95].mean() > 0.9
    assert up[:25].max() == 0
    assert ground(wall, 0.2857).max() == 0


def test_splashes_are_larger_and_denser_near_the_camera_and_never_in_the_sky() -> None:
    scene = scene_of(512, 512)
    assert scene.depth is not None
    plane, _ = crowns(scene.depth, ground(scene.depth, 0.2857), density=3000, radius=9.0, seed=1)
    assert plane[:140].max() == 0
    assert (plane[400:] > 0).mean() > 3 * (plane[180:290] > 0).mean() > 0


def test_a_drop_shows_the_scene_upside_down() -> None:
    light = np.zeros((400, 400, 3), np.float32)
    light[:200] = 1.0
    glass = Glass(count=40, radius=30, spread=0.1, view=0.5, defocus=0.0, film=0.0, seed=2)
    seen = refract(light, glass)
    changed = np.abs(seen - light).max(axis=2) > 0.5
    assert changed[:200].any()
    assert changed[200:].any()
    middle = refract(light, dataclasses.replace(glass, count=0))
    assert np.array_equal(middle, light)


def test_a_film_of_water_mixes_in_the_light_around_and_keeps_its_mean() -> None:
    glass = Glass(count=0, radius=12, spread=0.4, view=0.5, defocus=2.0, film=0.3, seed=2)
    edge = np.full((256, 256, 3), 0.2, np.float32)
    edge[:, 128:] = 0.6
    through = refract(edge, glass)
    np.testing.assert_allclose(refract(np.full_like(edge, 0.4), glass), 0.4, rtol=1e-5)
    contrast = float(through[:, 132:150].mean() - through[:, 106:124].mean()) / 0.4
    assert contrast == pytest.approx(1 - 0.3 * (1 - 0.15), abs=0.1)  # the veil keeps a little of a step
    assert through.mean() == pytest.approx(0.4, abs=0.02)


def test_drops_scale_with_the_image() -> None:
    glass = Glass(count=60, radius=12, spread=0.4, view=0.5, defocus=2.0, film=0.0, seed=2)
    checker = (np.indices((512, 512)).sum(axis=0) // 64 % 2).astype(np.float32)[..., None].repeat(3, 2)
    large = cv2.resize(checker, (1024, 1024), interpolation=cv2.INTER_NEAREST)
    harms = [float(np.square(refract(image, glass) - image).mean()) for image in (checker, large)]
    assert harms[0] == pytest.approx(harms[1], rel=0.2)


def test_night_rain_is_bright_near_lamps_only() -> None:
    scene = scene_of(512, 512, grey=5)
    lit = scene.image.copy()
    lit[200:230, 40:70] = 255
    scene = dataclasses.replace(scene, image=lit)
    params = drawn(0.9, scene, mode="night", splashes=0.0, drops=0.0)
    change = fall(frame_of(scene), params, scene).degraded - decode(lit)
    assert change[160:195, 30:90].mean() > 2 * change[160:195, 430:490].mean() > 0


def test_auto_takes_the_night_for_dark_photographs_and_raindrop_at_its_share() -> None:
    dark, day = scene_of(grey=12), scene_of(grey=150)
    none = RainOptions(raindrop=0.0)
    assert sample(generator(1), 0.5, dark, none).mode == "night"
    assert sample(generator(1), 0.5, day, none).mode == "streaks"
    modes = [sample(generator(s), 0.5, day, RainOptions(raindrop=0.5)).mode for s in range(60)]
    assert 15 < modes.count("raindrop") < 45


def test_an_overlay_of_rain_brightens_where_it_is_bright() -> None:
    scene = scene_of()
    pattern = np.zeros((10, 20, 3), np.uint8)
    pattern[:, 10:] = 255
    params = drawn(0.5, scene, flip=False)
    patterned = transmittance(params, dataclasses.replace(scene, overlays={"rain": pattern}))
    ratio = patterned / transmittance(params, scene)
    assert ratio[:, -80:].max() == pytest.approx(1 - params.pattern, abs=0.01)
    assert ratio[:, :80].min() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("mode", ["streaks", "raindrop", "night"])
def test_params_survive_json_and_parts_leave_their_input(mode: str) -> None:
    scene = scene_of()
    params = drawn(0.8, scene, mode=mode)
    again = TypeAdapter(Rain).validate_python(json.loads(json.dumps(dataclasses.asdict(params))))
    assert again == params
    frame = frame_of(scene)
    before = frame.degraded.copy()
    for part in RAIN.parts:
        assert np.array_equal(part.apply(frame, params, scene).degraded, part.apply(frame, params, scene).degraded)
        assert np.array_equal(frame.degraded, before)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (17, 1031), (300, 257)])
@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("mode", ["streaks", "raindrop", "night"])
def test_odd_sizes_and_blank_images_give_numbers(shape: tuple[int, int], value: int, mode: str) -> None:
    scene = Scene(key="s", image=np.full((*shape, 3), value, np.uint8), depth=np.full(shape, 0.3, np.float32))
    params = drawn(1.0, scene, mode=mode, drops=60.0)
    frame = frame_of(scene)
    for part in RAIN.parts:
        frame = part.apply(frame, params, scene)
    assert np.isfinite(frame.degraded).all()
    assert frame.degraded.shape == (*shape, 3)


def test_a_stroke_is_drawn_where_and_as_bright_as_told() -> None:
    lines = np.array([[[10, 5], [10, 25]], [[2, 15], [20, 15]]], np.float32)
    plane = draw((30, 40), lines, np.array([1.0, 0.5], np.float32), np.ones(2, np.float32))
    assert plane[10, 20] > 220
    assert plane[4, 15] == pytest.approx(128, abs=25)
    assert plane[25:].max() == 0
    assert plane[10, 15] > 220


def test_counts_are_poisson_like_and_never_negative() -> None:
    assert count(100.0, 1.0) == 110
    assert count(0.5, -4.0) == 0


def lawn_and_tent(tent: tuple[int, int, int]) -> Scene:
    """A tent on a lawn, of whose depth nothing is known but that lower is nearer."""
    image = np.full((240, 320, 3), (90, 120, 50), np.uint8)
    image[60:180, 80:240] = tent
    depth = np.broadcast_to(np.linspace(0.05, 1, 240, dtype=np.float32)[:, None], (240, 320)).copy()
    return Scene(key="s", image=image, depth=depth)


def test_no_drop_splashes_on_a_wall_that_is_not_of_the_colour_of_the_ground() -> None:
    scene = lawn_and_tent((40, 35, 40))
    assert scene.depth is not None
    up = struck(ground(scene.depth, 0.0), scene.image)
    assert up[20:42, 25:55].max() < 0.02
    assert up[20:42, :15].min() > 0.5


def test_drops_splash_on_ground_of_one_colour_wherever_depth_says_that_it_faces_up() -> None:
    scene = lawn_and_tent((90, 120, 50))
    assert scene.depth is not None
    up = ground(scene.depth, 0.0)
    np.testing.assert_allclose(struck(up, scene.image), up, atol=1e-5)
