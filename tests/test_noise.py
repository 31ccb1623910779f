"""The laws of noise: variance by signal, whiteness on the mosaic, rows, segments, and the sigma that severity names."""

import dataclasses
import json
from typing import Any

import cv2
import numpy as np
import pytest

from degradations.camera.colour import demosaic, from_sensor, keeping
from degradations.camera.sensor import Sensor, blotches, development, expose, raw_noise, stuck
from degradations.noise import DEGRADATION, SIGMA, Noise, NoiseOptions, sample
from degradations.numerics.random import gaussian_field, generator
from degradations.pairs.contract import Light
from degradations.pairs.recipes import draw, params_of
from degradations.pairs.render import render, render_params
from storage.records import Image, Scene, Step

MODES = ("sensor", "granular", "web")
MEGAPIXEL = (1024, 1024)


def photograph(height: int = 160, width: int = 200) -> Image:
    """Smooth tones and hard-edged blocks of many colours."""
    rows, columns = np.mgrid[:height, :width] / min(height, width)
    waves = 120 + 50 * np.sin(5 * rows + 3 * columns)[..., None] * np.array([1.0, 0.8, 0.6])
    blocks = np.random.default_rng(0).uniform(-60, 60, (24, 30, 3))
    placed = blocks[(rows * 19).astype(int) % 24, (columns * 19).astype(int) % 30]
    return np.rint(waves + placed).clip(0, 255).astype(np.uint8)


def scene_of(image: Image, **kwargs: Any) -> Scene:
    return Scene(key="a", image=image, **kwargs)


def drawn(seed: int, severity: float, scene: Scene, **options: Any) -> Noise:
    return sample(generator(seed), severity, scene, NoiseOptions(**options))


def noisy(params: Noise, scene: Scene) -> Image:
    return render_params(scene, [(DEGRADATION, params)]).degraded


def error(first: Image, second: Image) -> float:
    return float(np.mean((first.astype(np.float64) - second) ** 2))


def raw(value: float, sensor: Sensor) -> Light:
    rows = gaussian_field((MEGAPIXEL[0], 1), sensor.seed, stream=1)
    return raw_noise(np.full(MEGAPIXEL, value, np.float32), sensor, gaussian_field(MEGAPIXEL, sensor.seed), rows)


def neighbours(plane: Light) -> float:
    """Correlation of a plane with itself, one pixel to the right."""
    return float(np.corrcoef(plane[:, :-1].ravel(), plane[:, 1:].ravel())[0, 1])


@pytest.mark.parametrize("signal", [0.02, 0.2, 0.5])
def test_variance_on_the_mosaic_is_linear_in_the_signal(signal: float) -> None:
    noise = raw(signal, Sensor(shot=0.003, read=2e-5, seed=4))
    assert float(noise.var()) == pytest.approx(0.003 * signal + 2e-5, rel=0.01)  # 1 Mpx: 0.14 % expected
    assert abs(float(noise.mean())) < 4 * float(noise.std()) / 1024


def test_noise_is_white_on_the_mosaic_and_correlated_after_demosaicing() -> None:
    sensor = Sensor(shot=0.003, read=2e-5, seed=5)
    noise = raw(0.3, sensor)
    assert abs(neighbours(noise)) < 0.01
    seen = np.zeros((*MEGAPIXEL, 3), np.float32)
    development(noise, sensor)(seen, slice(0, len(seen)), seen)
    assert neighbours(seen[..., 0]) > 0.3


def test_rows_share_a_noise_of_the_recorded_sigma() -> None:
    means = raw(0.3, Sensor(shot=0.001, read=1e-5, row=0.01, seed=6)).mean(axis=1)
    assert float(means.std()) == pytest.approx(0.01, rel=0.1)  # 1024 rows: 2.2 % expected


def test_converter_leaves_only_its_own_levels() -> None:
    signal = np.float32(0.3)
    codes = (raw(float(signal), Sensor(shot=0.001, read=1e-5, bits=10, seed=7)) + signal) * 1023
    assert np.abs(codes - np.rint(codes)).max() < 1e-3


def test_stuck_pixels_are_as_many_as_recorded_and_read_white() -> None:
    rows, columns = stuck(MEGAPIXEL, 1e-4, 8)
    assert len(rows) == round(1e-4 * 2**20)
    out = expose(np.full((*MEGAPIXEL, 3), 0.1, np.float32), Sensor(shot=1e-6, read=1e-6, hot=1e-4, seed=8))
    inner = (np.minimum(rows, columns) > 0) & (np.maximum(rows, columns) < 1023)  # demosaicing drops the border's own
    assert inner.sum() > 90
    assert (out[rows[inner], columns[inner]].max(axis=1) > 0.9).all()


def test_strips_leave_no_seam() -> None:
    light = np.full((512, 1024, 3), 0.2, np.float32)
    sensor = Sensor(shot=0.01, read=1e-4, red=2, blue=1.7, crosstalk=0.5, chroma=0.3, blotch=0.9, seed=9)
    rows = gaussian_field((512, 1), 9, stream=1)
    filtered = (
        np.full((512, 1024), 0.2, np.float32)
        / np.array([[2, 1], [1, 1.7]], np.float32)[np.ix_([0, 1] * 256, [0, 1] * 512)]
    )
    noise = raw_noise(filtered, sensor, gaussian_field((512, 1024), 9), rows)
    matrix = keeping(1, sensor.chroma) @ from_sensor(sensor.red, sensor.blue, sensor.crosstalk)
    coarse = cv2.resize(blotches(noise, sensor), (1024, 512), interpolation=cv2.INTER_LINEAR)
    whole = light + demosaic(noise, matrix) + coarse
    np.testing.assert_allclose(expose(light, sensor), whole, atol=1e-4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("severity", [0.2, 0.4, 0.6])
def test_sigma_at_mid_grey_is_that_of_the_level(mode: str, severity: float) -> None:
    scene = scene_of(np.full((*MEGAPIXEL, 3), 128, np.uint8))
    image = noisy(drawn(3, severity, scene, mode=mode, segment_aware=0), scene)
    expected = SIGMA[round(severity * 5)]
    assert float(image.std(axis=(0, 1)).mean()) == pytest.approx(expected, rel=0.05)
    assert float(image.mean()) == pytest.approx(128, abs=4)  # zero mean in light is a little less in sRGB


@pytest.mark.parametrize("mode", [*MODES, "realrestorer"])
def test_harm_grows_with_severity(mode: str) -> None:
    scene = scene_of(photograph())
    options = {"preset": mode} if mode == "realrestorer" else {"mode": mode}
    for seed in range(3):
        images = [noisy(drawn(seed, s, scene, **options), scene) for s in (0, 0.02, 0.1, 0.2, 0.4, 0.6, 0.8, 1)]
        harm = [error(image, scene.image) for image in images]
        assert harm == sorted(harm)
        assert harm[0] == 0


def test_variance_in_a_segment_is_the_square_of_its_recorded_gain() -> None:
    segments = np.zeros(MEGAPIXEL, np.uint8)
    segments[:, 512:] = 1
    scene = scene_of(np.full((*MEGAPIXEL, 3), 128, np.uint8), segments=segments)
    params = dataclasses.replace(drawn(1, 0.2, scene, mode="sensor", segment_aware=1), area=1.0)
    image = noisy(params, scene).astype(np.float64)
    ratio = image[:, :480].var() / image[:, 544:].var()
    gains = params.segment_gains
    assert ratio == pytest.approx((gains[0] / gains[1]) ** 2, rel=0.05)
    assert float(np.mean(np.square(gains))) == pytest.approx(1)


def test_noise_reduction_leaves_what_cannot_be_seen_where_it_works() -> None:
    segments = np.zeros(MEGAPIXEL, np.uint8)
    segments[:, 512:] = 1
    scene = scene_of(np.full((*MEGAPIXEL, 3), 128, np.uint8), segments=segments)
    for mode in MODES:
        params = dataclasses.replace(drawn(1, 0.6, scene, mode=mode, segment_aware=1), area=0.5, segment_gains=(1, 1))
        image = noisy(params, scene).astype(np.float64)
        quiet, loud = sorted((image[:, :480].std(), image[:, 544:].std()))
        assert quiet / loud == pytest.approx(params.left, rel=0.05, abs=0.01)
        assert quiet < 5.1 / 2


def test_tones_stand_in_for_absent_segments() -> None:
    params = drawn(1, 0.4, scene_of(photograph()), segment_aware=1)
    assert len(params.segment_gains) > 2


def test_granular_chroma_is_a_third_of_luma() -> None:
    scene = scene_of(np.full((*MEGAPIXEL, 3), 128, np.uint8))
    params = dataclasses.replace(
        drawn(2, 0.4, scene, mode="granular", segment_aware=0), grain_chroma=0.35 * SIGMA[2] / 255
    )
    image = noisy(params, scene).astype(np.float64)
    luma = image @ np.array([0.2126, 0.7152, 0.0722])
    chroma = image - luma[..., None]
    assert chroma.std(axis=(0, 1)).mean() / luma.std() == pytest.approx(0.35, rel=0.25)


def test_grain_fades_towards_black_and_white() -> None:
    image = np.repeat(np.repeat(np.array([[10, 118, 250]], np.uint8), 400, axis=1), 1024, axis=0)[..., None].repeat(
        3, 2
    )
    scene = scene_of(np.ascontiguousarray(image))
    params = dataclasses.replace(drawn(2, 0.3, scene, mode="granular", segment_aware=0), midtones=True)
    out = noisy(params, scene).astype(np.float64)
    black, grey, white = (out[:, start : start + 400].std() for start in (0, 400, 800))
    assert grey > 1.5 * black
    assert grey > 4 * white


def test_clumped_grain_is_coarser() -> None:
    scene = scene_of(np.full((*MEGAPIXEL, 3), 128, np.uint8))
    grain = drawn(2, 0.4, scene, mode="granular", segment_aware=0)
    params = dataclasses.replace(grain, grain_radius=0.0, grain_chroma=0.0, clump=0)
    clumped = dataclasses.replace(params, clump=5, clump_threshold=0.4)
    first, second = (noisy(p, scene)[..., 1].astype(np.float32) for p in (params, clumped))
    assert abs(neighbours(first)) < 0.01
    assert neighbours(second) > 0.2
    assert float(second.std()) == pytest.approx(float(first.std()), rel=0.05)


def test_poisson_noise_of_the_web_follows_the_signal() -> None:
    image = np.zeros((*MEGAPIXEL, 3), np.uint8)
    image[:, :512], image[:, 512:] = 100, 200
    scene = scene_of(image)
    params = dataclasses.replace(
        drawn(2, 0.2, scene, mode="web", segment_aware=0), white=0.0, poisson=0.002, grey=False
    )
    out = noisy(params, scene).astype(np.float64)
    dark, light = out[:, :512].var(), out[:, 512:].var()
    tones = [np.sqrt(((v / 255 + 0.055) / 1.055) ** 2.4) for v in (100, 200)]
    slopes = [0.879 * tone ** (-1 / 6) for tone in tones]  # of sRGB over the square root of light
    assert light / dark == pytest.approx(tones[1] / tones[0] * (slopes[1] / slopes[0]) ** 2, rel=0.05)


def test_composite_mixes_two_to_four_kinds() -> None:
    scene = scene_of(photograph(48, 64))
    for seed in range(20):
        params = drawn(seed, 0.5, scene, preset="realrestorer")
        active = [value > 0 for value in (params.white, params.impulse, params.poisson, params.grain)]
        assert 2 <= sum(active) <= 4


@pytest.mark.parametrize("mode", [*MODES, "realrestorer"])
def test_nothing_changes_at_severity_zero(mode: str) -> None:
    scene = scene_of(np.random.default_rng(0).integers(0, 256, (65, 47, 3), dtype=np.uint8))
    options = {"preset": mode} if mode == "realrestorer" else {"mode": mode}
    for seed in range(5):
        np.testing.assert_array_equal(noisy(drawn(seed, 0.0, scene, segment_aware=1, **options), scene), scene.image)


def test_nuisance_does_not_depend_on_severity() -> None:
    scene = scene_of(photograph())
    first, second = drawn(5, 0.2, scene), drawn(5, 0.9, scene)
    for name in ("seed", "red", "crosstalk", "grain_radius", "clump", "segment_gains", "grey", "chroma"):
        assert getattr(first, name) == getattr(second, name)


@pytest.mark.parametrize("options", [{"mode": mode} for mode in MODES] + [{"preset": "realrestorer"}])
def test_recipe_survives_json_and_renders_the_same_bytes(options: dict[str, Any]) -> None:
    scene = scene_of(photograph())
    recipe = draw("noise", 0.7, scene, seed=3, options={"noise": NoiseOptions(**options)})
    step = recipe.steps[0]
    again = Step(degradation="noise", params=json.loads(json.dumps(dict(step.params))), inputs={})
    first = render(scene, recipe).degraded
    np.testing.assert_array_equal(noisy(params_of(DEGRADATION, again), scene), first)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (17, 1031), (5, 4), (3, 900)])
@pytest.mark.parametrize("fill", [0, 128, 255])
def test_any_size_and_tone_renders(shape: tuple[int, int], fill: int) -> None:
    image = np.full((*shape, 3), fill, np.uint8)
    before = image.copy()
    for options in ({"mode": mode, "segment_aware": 1} for mode in MODES):
        out = noisy(drawn(1, 1.0, scene_of(image), **options), scene_of(image))
        assert out.shape == image.shape
        assert out.dtype == np.uint8
    assert noisy(drawn(1, 1.0, scene_of(image), preset="realrestorer"), scene_of(image)).shape == image.shape
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("mode", MODES)
def test_content_does_not_move(mode: str) -> None:
    scene = scene_of(photograph())
    shifts = []
    for seed in range(5):
        planes = [
            cv2.cvtColor(i, cv2.COLOR_RGB2GRAY).astype(np.float32)
            for i in (scene.image, noisy(drawn(seed, 0.3, scene, mode=mode), scene))
        ]
        (column, row), _ = cv2.phaseCorrelate(*planes, cv2.createHanningWindow(planes[0].shape[::-1], cv2.CV_32F))
        shifts.append(np.hypot(row, column))
    assert np.median(shifts) <= 0.1
