"""The laws of low light: light is k g L exactly, noise comes after the exposure, the mean falls with severity."""

import dataclasses
import json
from typing import Any

import cv2
import numpy as np
import pytest

from degradations.camera import darkening
from degradations.camera.illumination import illumination
from degradations.camera.lamps import lamps_of
from degradations.camera.tone_curves import fit
from degradations.low_light import DEGRADATION, MODES, LowLight, LowLightOptions, capture, sample
from degradations.numerics.light import decode, luminance
from degradations.numerics.random import generator
from degradations.pairs.contract import Frame, Light
from degradations.pairs.recipes import draw, params_of
from degradations.pairs.render import render, render_params
from storage.records import Image, Scene, Step

PLAIN = {"noise": False, "field": False, "cast": False, "toe": False, "lamps": False}


def photograph(height: int = 160, width: int = 200) -> Image:
    """Smooth tones and hard-edged blocks of many colours."""
    rows, columns = np.mgrid[:height, :width] / min(height, width)
    waves = 120 + 50 * np.sin(5 * rows + 3 * columns)[..., None] * np.array([1.0, 0.8, 0.6])
    blocks = np.random.default_rng(0).uniform(-60, 60, (24, 30, 3))
    placed = blocks[(rows * 19).astype(int) % 24, (columns * 19).astype(int) % 30]
    return np.rint(waves + placed).clip(0, 255).astype(np.uint8)


def scene_of(image: Image, **kwargs: Any) -> Scene:
    return Scene(key="a", image=image, **kwargs)


def drawn(seed: int, severity: float, scene: Scene, **options: Any) -> LowLight:
    return sample(generator(seed), severity, scene, LowLightOptions(**options))


def light_of(params: LowLight, scene: Scene) -> Light:
    """The degraded light before it is encoded."""
    light = decode(scene.image)
    frame = Frame(degraded=light, clean=light)
    for part in DEGRADATION.parts:
        frame = part.apply(frame, params, scene)
    return frame.degraded


def dark(params: LowLight, scene: Scene) -> Image:
    return render_params(scene, [(DEGRADATION, params)]).degraded


def error(first: Image, second: Image) -> float:
    return float(np.mean((first.astype(np.float64) - second) ** 2))


@pytest.mark.parametrize("severity", [0.1, 0.5, 1.0])
def test_plain_light_is_exposure_times_gain_times_light(severity: float) -> None:
    scene = scene_of(photograph())
    params = drawn(1, severity, scene, mode="physical", **PLAIN)
    expected = decode(scene.image) * (params.exposure * params.gain)
    np.testing.assert_allclose(light_of(params, scene), expected, rtol=1e-5)


def test_hue_stays_without_a_cast() -> None:
    scene = scene_of(photograph())
    light, clean = light_of(drawn(1, 0.8, scene, mode="physical", **PLAIN), scene), decode(scene.image)
    np.testing.assert_allclose(light[..., 0] * clean[..., 1], light[..., 1] * clean[..., 0], rtol=1e-4)


def test_noise_at_black_is_the_read_noise_times_the_squared_gain() -> None:
    scene = scene_of(np.zeros((1024, 1024, 3), np.uint8))
    params = drawn(1, 0.9, scene, mode="physical", field=False, cast=False, toe=False, lamps=False)
    params = dataclasses.replace(params, bits=0, row=0.0, red=1.0, blue=1.0, crosstalk=0.0, chroma=1.0, blotch=1.0)
    light = light_of(params, scene)
    assert float(light[2:-2:2, 2:-2:2, 0].var()) == pytest.approx(
        params.read * params.gain**2, rel=0.03
    )  # red's own sites


def test_noise_follows_the_dark_light_not_the_clean() -> None:
    scene = scene_of(np.full((1024, 1024, 3), 180, np.uint8))
    params = drawn(1, 0.9, scene, mode="physical", field=False, cast=False, toe=False, lamps=False)
    params = dataclasses.replace(params, bits=0, row=0.0, red=1.0, blue=1.0, crosstalk=0.0, chroma=1.0, blotch=1.0)
    captured = capture(
        Frame(degraded=decode(scene.image) * np.float32(params.exposure), clean=decode(scene.image)), params, scene
    )
    signal = float(decode(scene.image)[0, 0, 0]) * params.exposure
    variance = float(captured.degraded[2:-2:2, 2:-2:2, 0].var())
    assert variance == pytest.approx(params.shot * signal + params.read, rel=0.02)


@pytest.mark.parametrize("mode", MODES)
def test_picture_darkens_with_severity(mode: str) -> None:
    scene = scene_of(photograph())
    for seed in range(4):
        images = [dark(drawn(seed, s, scene, mode=mode), scene) for s in (0, 0.02, 0.1, 0.2, 0.4, 0.6, 0.8, 1)]
        quiet = [dark(drawn(seed, s, scene, mode=mode, noise=False), scene) for s in (0, 0.1, 0.3, 0.5, 0.7, 0.9, 1)]
        means = [float(image.mean()) for image in quiet]
        harm = [error(image, scene.image) for image in images]
        assert means == sorted(means, reverse=True)
        assert harm == sorted(harm)


@pytest.mark.parametrize("mode", MODES)
def test_nothing_changes_at_severity_zero(mode: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (65, 47, 3), dtype=np.uint8)
    segments = (image[..., 0] // 64).astype(np.uint8)
    scene = scene_of(image, depth=(image[..., 1] / 255).astype(np.float32), segments=segments)
    for seed in range(5):
        np.testing.assert_array_equal(dark(drawn(seed, 0.0, scene, mode=mode), scene), image)


def test_paper_mode_attenuates_and_applies_gamma() -> None:
    image = np.arange(256, dtype=np.uint8)[None, :, None].repeat(4, axis=0).repeat(3, axis=2)
    params = drawn(1, 0.5, scene_of(image), mode="paper")
    expected = (params.attenuation * image / 255) ** params.gamma * 255
    np.testing.assert_allclose(dark(params, scene_of(image)), expected, atol=0.75)


def test_fit_reaches_the_mean_and_comes_near_the_deviation() -> None:
    luma = np.clip(np.random.default_rng(1).normal(130, 50, 40_000), 0, 255)
    histogram = np.bincount(np.rint(luma).astype(int), minlength=256).astype(np.float64)
    attenuation, gamma = fit(histogram, 0.15, 0.11)
    out = (attenuation * luma / 255) ** gamma
    assert out.mean() == pytest.approx(0.15, rel=0.02)
    assert out.std() == pytest.approx(0.11, rel=0.1)


def test_illumination_never_adds_light() -> None:
    scene = scene_of(photograph(), depth=np.linspace(0, 1, 160 * 200, dtype=np.float32).reshape(160, 200))
    for seed in range(10):
        field = illumination(drawn(seed, 1.0, scene, mode="physical"), scene)
        assert field.min() > 0
        assert field.max() <= 1 + 1e-6


def test_flash_lights_what_is_near() -> None:
    depth = np.full((160, 200), 0.1, np.float32)
    depth[:, :100] = 1
    scene = scene_of(photograph(), depth=depth)
    params = dataclasses.replace(
        drawn(1, 1.0, scene, mode="physical"), field=1.5, flash=1.0, vignette=0.0, unevenness=0.0
    )
    field = illumination(params, scene)
    assert field[:, :10].mean() > 2 * field[:, -10:].mean()


def test_lamps_stay_white_in_a_dark_picture() -> None:
    image = photograph()
    image[20:34, 20:34] = 255
    scene = scene_of(image)
    params = dataclasses.replace(drawn(1, 0.5, scene, mode="physical", **PLAIN), highlights=8.0)
    without = dataclasses.replace(params, highlights=0.0)
    assert dark(params, scene)[25, 25].min() == 255
    assert dark(without, scene)[25, 25].max() < 200
    np.testing.assert_array_equal(dark(params, scene)[100], dark(without, scene)[100])


def test_a_glint_by_day_is_no_lamp_by_night() -> None:
    image = np.full((512, 512, 3), 140, np.uint8)
    image[100:104, 100:104] = 255
    image[300:340, 300:340] = 255
    scene = scene_of(image)
    params = dataclasses.replace(drawn(1, 0.8, scene, mode="physical", **PLAIN), highlights=8.0)
    out = dark(params, scene)
    assert out[320, 320].min() > 1.5 * out[102, 102].max()
    night = scene_of(np.where(image == 140, 20, image).astype(np.uint8))
    assert dark(params, night)[102, 102].min() == dark(params, night)[320, 320].min()


def test_a_sky_that_is_clipped_in_places_is_no_lamp() -> None:
    image = np.full((256, 256, 3), 240, np.uint8)
    image[128:] = 60
    image[30:80, 60:130] = 255
    assert len(lamps_of(image, 4.0).places) == 0
    image[180:220, 60:100] = 255  # the same before something dark
    lamp = lamps_of(image, 4.0)
    rows, columns = np.divmod(lamp.places, 256)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (179, 220, 59, 100)  # with half-lit rims
    inside = (rows > 180) & (rows < 219) & (columns > 60) & (columns < 99)
    np.testing.assert_allclose(lamp.light[inside], 5.0, rtol=1e-4)


def test_a_lamp_shines_to_its_rim_where_compression_has_rung() -> None:
    image = np.full((256, 256, 3), 60, np.uint8)
    image[180:220, 60:100] = 255
    image[180:220, 60:66] = np.random.default_rng(0).integers(236, 256, (40, 6, 1))
    lamp = lamps_of(image, 4.0)
    light = np.zeros(256 * 256, np.float32)
    light[lamp.places] = lamp.light.min(axis=1)
    light = light.reshape(256, 256)
    assert light[182:218, 62:66].min() > 3.5
    assert light[200, 50] == 0


def test_a_white_backdrop_around_something_dark_is_no_lamp() -> None:
    image = np.full((256, 256, 3), 255, np.uint8)
    image[40:, 60:200] = 30
    image[100:140, 100:140] = 255  # nor is what is seen of it through a gap
    assert len(lamps_of(image, 4.0).places) == 0


def test_light_comes_from_where_the_photograph_is_bright_more_often_than_not() -> None:
    image = np.full((120, 180, 3), 40, np.uint8)
    image[60:80, 150:170] = 220
    places = [drawn(seed, 0.5, scene_of(image)) for seed in range(60)]
    near = [abs(p.lamp_row - 0.58) < 0.1 and abs(p.lamp_column - 0.89) < 0.1 for p in places]
    assert 0.4 < np.mean(near) < 0.85


def test_half_of_the_cameras_leave_no_noise() -> None:
    shots = [drawn(seed, 0.7, scene_of(photograph()), mode="physical").shot for seed in range(80)]
    assert 0.3 < np.mean(np.array(shots) == 0) < 0.7


def test_uneven_light_is_metered_so_its_pool_is_brighter_than_even_light() -> None:
    scene = scene_of(photograph())
    lit = [p for seed in range(30) if (p := drawn(seed, 0.6, scene, mode="physical")).field > 1]
    even = [drawn(seed, 0.6, scene, mode="physical", field=False) for seed in range(30)]
    assert len(lit) > 4
    assert np.mean([p.gain for p in lit]) > 1.3 * np.mean([p.gain for p in even])


def test_faded_colours_keep_their_luminance() -> None:
    scene = scene_of(photograph())
    params = dataclasses.replace(drawn(1, 0.5, scene, mode="physical", **PLAIN), saturation=0.5)
    full = dataclasses.replace(params, saturation=1.0)
    faded, coloured = light_of(params, scene), light_of(full, scene)
    np.testing.assert_allclose(luminance(faded), luminance(coloured), rtol=1e-4)
    assert float(np.ptp(faded, axis=2).mean()) == pytest.approx(0.5 * float(np.ptp(coloured, axis=2).mean()), rel=1e-3)


def test_segments_receive_light_of_their_own() -> None:
    segments = np.zeros((160, 200), np.uint8)
    segments[80:] = 1
    scene = scene_of(photograph(), segments=segments)
    params = dataclasses.replace(drawn(1, 1.0, scene, mode="physical", noise=False), segment_stops=(0.0, -1.0))
    even = dataclasses.replace(params, segment_stops=(0.0, 0.0))
    halves = light_of(params, scene)[120:] / np.maximum(light_of(dataclasses.replace(even, toe=0.0), scene)[120:], 1e-9)
    assert float(np.median(halves)) < 0.51


@pytest.mark.parametrize("severity", [0.05, 0.4, 1.0])
def test_learned_curve_is_monotone_and_below_the_identity(severity: float) -> None:
    curve = np.reshape(darkening.curve(photograph(), severity), (3, -1))
    assert (np.diff(curve, axis=1) >= 0).all()
    assert (curve <= np.linspace(0, 1, curve.shape[1]) + 1e-6).all()


def test_learned_darkening_looks_at_the_picture() -> None:
    bright = np.clip(photograph().astype(np.int32) + 70, 0, 255).astype(np.uint8)
    assert darkening.curve(photograph(), 0.6) != darkening.curve(bright, 0.6)


def test_other_weights_pass_through_the_hook(tmp_path: Any) -> None:
    stored = json.loads(darkening.WEIGHTS.read_text())
    stored["b3"] = [value - 2 * (index % darkening.POINTS == 0) for index, value in enumerate(stored["b3"])]
    file = tmp_path / "darker.json"
    file.write_text(json.dumps(stored))
    scene = scene_of(photograph())
    own, other = (
        dark(drawn(1, 0.6, scene, mode="model", noise=False, model_weights=m), scene) for m in (None, str(file))
    )
    assert other.mean() < own.mean()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"w1": [[0.0]]}', "lacks b1"),
        ("[1, 2]", "lacks b1"),
        ("weights", "no JSON file"),
        (None, "no JSON file"),
        (json.dumps({key: [[0.0]] for key in ("w1", "b1", "w2", "b2", "w3", "b3")}), "from 17 inputs to 51 outputs"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path: Any, content: str, told: str) -> None:
    file = tmp_path / "broken.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ValueError, match=told):
        drawn(1, 0.5, scene_of(photograph()), mode="model", model_weights=str(file))


def test_a_network_of_another_width_passes_through_the_hook(tmp_path: Any) -> None:
    source = np.random.default_rng(0)
    sizes = (darkening.BINS + 1, 5, 9, 3 * darkening.POINTS)
    stored = {f"w{n}": source.normal(size=(sizes[n - 1], sizes[n])).tolist() for n in (1, 2, 3)}
    stored |= {f"b{n}": source.normal(size=sizes[n]).tolist() for n in (1, 2, 3)}
    file = tmp_path / "own.json"
    file.write_text(json.dumps(stored))
    scene = scene_of(photograph())
    recipe = draw(
        "low_light", 0.8, scene, seed=3, options={"low_light": LowLightOptions(mode="model", model_weights=str(file))}
    )
    made = render(scene, recipe).degraded
    file.unlink()  # the curve stands in the recipe: a replay needs no weights
    np.testing.assert_array_equal(render(scene, recipe).degraded, made)
    assert made.mean() < scene.image.mean()


@pytest.mark.parametrize("mode", MODES)
def test_same_params_give_the_same_psnr_at_any_size(mode: str) -> None:
    large = cv2.resize(photograph(), (640, 512), interpolation=cv2.INTER_CUBIC)
    small = cv2.resize(large, (320, 256), interpolation=cv2.INTER_AREA)
    params = drawn(2, 0.7, scene_of(large), mode=mode, noise=False)
    ratio = error(dark(params, scene_of(large)), large) / error(dark(params, scene_of(small)), small)
    assert abs(10 * np.log10(ratio)) < 0.5


@pytest.mark.parametrize("mode", MODES)
def test_recipe_survives_json_and_renders_the_same_bytes(mode: str) -> None:
    scene = scene_of(photograph())
    recipe = draw("low_light", 0.7, scene, seed=3, options={"low_light": LowLightOptions(mode=mode)})
    again = Step(degradation="low_light", params=json.loads(json.dumps(dict(recipe.steps[0].params))), inputs={})
    np.testing.assert_array_equal(dark(params_of(DEGRADATION, again), scene), render(scene, recipe).degraded)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (17, 1031), (5, 4)])
@pytest.mark.parametrize("fill", [0, 128, 255])
def test_any_size_and_tone_renders(shape: tuple[int, int], fill: int) -> None:
    image = np.full((*shape, 3), fill, np.uint8)
    scene = scene_of(image, depth=np.full(shape, 0.5, np.float32), segments=np.zeros(shape, np.uint8))
    for mode in MODES:
        out = dark(drawn(1, 1.0, scene, mode=mode), scene)
        assert out.shape == image.shape
        assert out.dtype == np.uint8
    assert (image == fill).all()


def test_content_does_not_move() -> None:
    scene = scene_of(photograph())
    shifts = []
    for seed in range(8):
        planes = [
            luminance(decode(image)) for image in (scene.image, dark(drawn(seed, 0.5, scene, field=False), scene))
        ]
        (column, row), _ = cv2.phaseCorrelate(*planes, cv2.createHanningWindow(planes[0].shape[::-1], cv2.CV_32F))
        shifts.append(np.hypot(row, column))
    assert np.median(shifts) <= 0.1
