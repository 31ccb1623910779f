"""Haze: Koschmieder's laws, what the air does with distance, and what severity means."""

import dataclasses
import json

import numpy as np
import pytest
from pydantic import TypeAdapter

from degradations import load
from degradations.haze import Haze, HazeOptions, optical_depth, sample, veil
from degradations.kernels.air import distances, optical_depths, through_air
from degradations.numerics.light import decode, luminance
from degradations.numerics.random import generator
from degradations.numerics.strips import enlarged, strips
from degradations.pairs.contract import Frame
from degradations.pairs.render import render_params
from degradations.weather.atmosphere import SKY, layout, soften
from storage.records import Scene

HAZE = load("haze")


def scene_of(height: int = 192, width: int = 256, seed: int = 0) -> Scene:
    """A textured scene on level ground under a sky: inverse depth grows from the horizon down."""
    rng = generator(seed)
    texture = (rng.bit_generator.random_raw(height * width * 3) >> 57).astype(np.uint8).reshape(height, width, 3)
    rows = np.linspace(-0.4, 1, height, dtype=np.float32)[:, None]
    depth = np.broadcast_to(np.clip(rows, 0, 1), (height, width)).copy()
    return Scene(key="s", image=texture + np.uint8(40), depth=depth)


def drawn(severity: float, scene: Scene, seed: int = 3, **changes: object) -> Haze:
    haze = sample(generator(seed), severity, scene, HazeOptions())
    return dataclasses.replace(haze, **changes)


def plain(severity: float, scene: Scene, **changes: object) -> Haze:
    """Homogeneous air of one colour without end, scatter or noise: Koschmieder's own."""
    still = {"layer": 0.0, "unevenness": 0.0, "scatter": 0.0, "noise": 0.0, "exponent": 0.0}
    return drawn(severity, scene, **{**still, **changes})


def frame_of(scene: Scene) -> Frame:
    light = decode(scene.image)
    return Frame(degraded=light, clean=light)


def blend(light: np.ndarray, depth: float, colour: np.ndarray) -> np.ndarray:
    out, width = np.empty_like(light), light.shape[1]
    depths = np.full(light.shape[:2], depth, np.float32)
    through_air(light, depths, np.ones(3 * width, np.float32), np.tile(colour, width), out)
    return out


def test_no_distance_changes_nothing_and_infinite_distance_is_airlight() -> None:
    light, air = decode(scene_of().image), np.array([0.5, 0.6, 0.7], np.float32)
    assert np.abs(blend(light, 0.0, air) - light).max() < 1e-6
    assert np.abs(blend(light, 200.0, air) - air).max() < 1e-6


def test_one_haze_after_another_is_the_haze_of_both() -> None:
    scene = scene_of()
    thin, thick, both = (plain(0.5, scene, beta=beta) for beta in (0.05, 0.11, 0.16))
    once = veil(frame_of(scene), both, scene).degraded
    first = veil(frame_of(scene), thin, scene)
    twice = veil(Frame(degraded=first.degraded, clean=first.degraded), thick, scene).degraded
    assert np.abs(once - twice).max() < 1e-5


def test_the_sky_at_the_horizon_is_airlight_and_the_nearest_point_keeps_most_light() -> None:
    scene = scene_of()
    haze = plain(1.0, scene)
    hazy = veil(frame_of(scene), haze, scene).degraded
    assert np.abs(hazy[10] - np.array(haze.airlight)).max() < 1e-3
    assert np.exp(-optical_depth(haze, scene)[-1]).min() > np.exp(-optical_depth(haze, scene)[80]).max()


@pytest.mark.parametrize(("severity", "expected"), [(0.2, 0.7), (0.4, 0.52), (0.6, 0.35), (0.8, 0.19), (1.0, 0.06)])
def test_transmission_at_the_95th_percentile_of_distance_is_the_levels(severity: float, expected: float) -> None:
    scene = scene_of(512, 512)
    haze = plain(severity, scene)
    assert scene.depth is not None
    ground = optical_depth(haze, scene)[scene.depth > 0.04]
    assert np.exp(-np.percentile(ground, 95)) == pytest.approx(expected, abs=0.09)


def test_contrast_falls_and_the_dark_channel_rises_with_severity() -> None:
    scene = scene_of()
    levels = [render_params(scene, [(HAZE, plain(s, scene))]).degraded for s in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)]
    contrasts = [float(image.std()) for image in levels]
    dark = [float(image.min(axis=2).mean()) for image in levels]
    assert contrasts == sorted(contrasts, reverse=True)
    assert dark == sorted(dark)


def test_harm_grows_with_severity_for_whatever_air_is_drawn() -> None:
    scene = scene_of()
    for seed in range(6):
        images = [render_params(scene, [(HAZE, drawn(s / 5, scene, seed))]).degraded for s in range(6)]
        harms = [float(np.square(image.astype(float) - scene.image).mean()) for image in images]
        assert harms == sorted(harms)
        assert harms[0] == 0


def test_blue_is_scattered_more_by_aerosol_and_less_by_dust() -> None:
    scene = scene_of()
    nothing = np.zeros((192, 256, 3), np.float32)
    black = Frame(degraded=nothing, clean=nothing)
    white = (0.8, 0.8, 0.8)
    aerosol = veil(black, plain(0.5, scene, exponent=1.2, airlight=white), scene).degraded[100, 0]
    dust = veil(black, plain(0.5, scene, exponent=-0.5, airlight=white), scene).degraded[100, 0]
    assert aerosol[2] > aerosol[1] > aerosol[0]
    assert dust[0] > dust[1] > dust[2]


def test_air_that_thins_out_with_height_lets_the_upper_sky_through() -> None:
    scene = scene_of()
    reach = layout(scene.depth, offset=0.1).reach  # type: ignore[arg-type]
    depths = optical_depth(plain(0.5, scene, layer=0.3 * reach), scene)
    assert depths[0].max() < 0.5 * depths[40].max()


def test_uneven_air_keeps_its_mean_density_and_is_seen() -> None:
    scene = scene_of(512, 512)
    even, uneven = plain(0.5, scene), plain(0.5, scene, unevenness=0.4)
    ratio = optical_depth(uneven, scene) / np.maximum(optical_depth(even, scene), 1e-6)
    assert ratio.mean() == pytest.approx(1, abs=0.25)
    assert 0.15 < ratio.std() < 0.7


def test_what_is_farther_on_a_ray_has_more_air_before_it_however_uneven_the_air() -> None:
    density = np.linspace(0.1, 4, 64, dtype=np.float32)[None]  # columns are rays
    away = np.broadcast_to(np.geomspace(0.01, 300, 500, dtype=np.float32)[:, None], (500, 64)).copy()
    depths = np.empty_like(away)
    optical_depths(away, density, np.zeros(500, np.float32), 0, 1.0, 2.0, depths)
    assert (np.diff(depths, axis=0) > 0).all()


def test_near_air_is_of_one_clump_and_that_of_the_sky_of_many() -> None:
    """Uneven air is no smoke on a near face, nor cloth on the sky: its relative spread is largest in between."""
    scene = scene_of(512, 512)
    haze = plain(1.0, scene, unevenness=0.5, cell=400.0)
    spreads = []
    for inverse in (1.0, 0.15, 0.0):
        flat = dataclasses.replace(scene, depth=np.full((512, 512), inverse, np.float32))
        depths = optical_depth(haze, flat)
        spreads.append(float(depths.std() / depths.mean()))
    near, between, sky = spreads
    assert near < 0.8 * between
    assert sky < 0.6 * between


def night() -> Scene:
    """Return a dark flat wall with one lamp, all of it equally far away."""
    image = np.full((256, 256, 3), 20, np.uint8)
    image[120:136, 56:72] = 255
    return Scene(key="s", image=image, depth=np.full((256, 256), 0.4, np.float32))


def test_night_air_is_bright_around_a_lamp_and_dark_away_from_it() -> None:
    scene = night()
    haze = drawn(0.8, scene, noise=0.0, scatter=0.0, unevenness=0.0)
    light = luminance(veil(frame_of(scene), haze, scene).degraded)
    assert light[128, 80] > 1.5 * light[128, 230]
    assert light[128, 230] < 0.05


def test_day_has_no_lamps_in_its_air() -> None:
    assert drawn(0.8, scene_of()).glow == 0


def test_light_of_lamps_in_night_air_is_as_dim_as_they_are() -> None:
    scene = night()
    haze = drawn(0.8, scene, noise=0.0, scatter=0.0)
    lit = frame_of(scene)
    dim = Frame(degraded=lit.degraded * np.float32(0.1), clean=lit.clean)
    bright, dark = (veil(frame, haze, scene).degraded for frame in (lit, dim))
    np.testing.assert_allclose(dark, 0.1 * bright, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_harm_grows_with_severity_by_night_too(seed: int) -> None:
    scene = night()
    images = [render_params(scene, [(HAZE, drawn(s / 5, scene, seed))]).degraded for s in range(6)]
    harms = [float(np.square(image.astype(float) - scene.image).mean()) for image in images]
    assert harms == sorted(harms)
    assert harms[0] == 0


def test_the_densest_haze_is_hardly_noisier_than_a_thin_one() -> None:
    """Air that scatters more light in is no darker: the sensor catches as many photons."""
    scene = scene_of()
    for seed in range(5):
        thin, dense = (drawn(severity, scene, seed).noise for severity in (0.4, 1.0))
        assert thin < dense < 1.5 * thin


def test_noise_is_as_strong_as_recorded_and_has_no_mean() -> None:
    grey = np.full((1024, 1024, 3), 118, np.uint8)
    scene = Scene(key="s", image=grey, depth=np.full((1024, 1024), 0.5, np.float32))
    params = dataclasses.replace(drawn(1.0, scene), beta=0.0, noise=4.0)
    change = render_params(scene, [(HAZE, params)]).degraded.astype(float) - 118
    assert change.std() == pytest.approx(4.0, rel=0.1)
    assert abs(change.mean()) < 0.1


def test_an_overlay_makes_the_air_denser_where_it_is_bright() -> None:
    scene = scene_of()
    pattern = np.zeros((10, 20, 3), np.uint8)
    pattern[:, 10:] = 255
    patterned = dataclasses.replace(scene, overlays={"haze": pattern})
    params = plain(0.5, scene, pattern=0.6, flip=False)
    ratio = optical_depth(params, patterned) / optical_depth(params, scene)
    assert ratio[:, -50:].mean() > 1.3
    assert ratio[:, :50].mean() < 0.7


def test_the_same_air_does_the_same_harm_at_every_resolution() -> None:
    psnr: list[float] = []
    params = None
    for side in (512, 1024, 2048):
        rows, columns = np.mgrid[0:side, 0:side] / side
        image = (128 + 90 * np.sin(9 * rows + 4) * np.cos(7 * columns)).astype(np.uint8)[..., None].repeat(3, 2)
        depth = np.clip(rows * 1.3 - 0.3, 0, 1).astype(np.float32)
        scene = Scene(key="s", image=image, depth=depth)
        params = params or drawn(0.7, scene)
        hazy = render_params(scene, [(HAZE, params)]).degraded
        psnr.append(-10 * np.log10(np.square((hazy.astype(float) - image) / 255).mean()))
    assert max(psnr) - min(psnr) < 1.5


def test_severity_zero_changes_no_byte() -> None:
    scene = scene_of()
    assert np.array_equal(render_params(scene, [(HAZE, drawn(0.0, scene))]).degraded, scene.image)


@pytest.mark.parametrize("preset", ["physical", "realrestorer"])
def test_params_survive_json_and_parts_leave_their_input(preset: str) -> None:
    scene = scene_of()
    params = sample(generator(5), 0.8, scene, HazeOptions(preset=preset))
    again = TypeAdapter(Haze).validate_python(json.loads(json.dumps(dataclasses.asdict(params))))
    assert again == params
    frame = frame_of(scene)
    before = frame.degraded.copy()
    first, second = (veil(frame, params, scene).degraded for _ in range(2))
    assert np.array_equal(frame.degraded, before)
    assert np.array_equal(first, second)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (17, 1031), (65, 64)])
@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("near", [0.0, 1.0])
def test_odd_sizes_and_blank_images_give_numbers(shape: tuple[int, int], value: int, near: float) -> None:
    scene = Scene(key="s", image=np.full((*shape, 3), value, np.uint8), depth=np.full(shape, near, np.float32))
    light = veil(frame_of(scene), drawn(1.0, scene), scene).degraded
    assert np.isfinite(light).all()
    assert light.shape == (*shape, 3)
    assert render_params(scene, [(HAZE, drawn(0.6, scene))]).degraded.shape == (*shape, 3)


def test_airlight_is_nearly_grey_by_day_and_dark_by_night() -> None:
    rng = generator(1)
    day = scene_of()
    orange = np.zeros_like(day.image)
    orange[:] = (250, 120, 10)
    sunset = dataclasses.replace(day, image=orange)
    night = dataclasses.replace(day, image=day.image // 30)
    by_day = sample(rng, 0.5, sunset, HazeOptions(kind="fog")).airlight
    by_night = sample(rng, 0.5, night, HazeOptions(kind="fog")).airlight
    assert max(by_day) / min(by_day) < 1.8
    assert float(luminance(np.array([[by_day]], np.float32))[0, 0]) >= 0.3
    assert max(by_night) < 0.15


def test_distance_falls_with_inverse_depth_and_the_sky_is_as_far_as_told() -> None:
    inverse = np.linspace(0, 1, 101, dtype=np.float32)[None]
    away = np.empty_like(inverse)
    distances(inverse, 0.1, 500.0, SKY, away)
    away = away[0]
    assert away[0] == pytest.approx(500)
    assert away[-1] == pytest.approx(1)
    assert np.all(np.diff(away) < 0)


def test_enlarging_by_bands_is_enlarging_at_once() -> None:
    small = soften(decode(scene_of(150, 170).image), 4.0)
    parts = [enlarged(small, rows, (150, 170)) for _, _, rows in strips((150, 9999))]
    whole = enlarged(small, slice(0, 150), (150, 170))
    assert np.array_equal(np.concatenate(parts), whole)
    assert whole.shape == (150, 170, 3)
