"""The laws of moire: a flat keeps its mean, beats lie where the closed form says, colours are out of step."""

import dataclasses
import json
from typing import Any

import cv2
import numpy as np
import pytest

from degradations.moire import (
    AREA,
    CONTRAST,
    DEGRADATION,
    LAYOUTS,
    Moire,
    MoireOptions,
    pattern,
    recapture,
    region,
    sample,
)
from degradations.numerics.light import LUMA, decode, luminance
from degradations.numerics.random import generator
from degradations.pairs.contract import Frame, Light
from degradations.pairs.recipes import draw, params_of
from degradations.pairs.render import render, render_params
from storage.records import Image, Scene, Step


def photograph(height: int = 160, width: int = 200) -> Image:
    """Smooth tones and hard-edged blocks of many colours."""
    rows, columns = np.mgrid[:height, :width] / min(height, width)
    waves = 120 + 50 * np.sin(5 * rows + 3 * columns)[..., None] * np.array([1.0, 0.8, 0.6])
    blocks = np.random.default_rng(0).uniform(-60, 60, (24, 30, 3))
    placed = blocks[(rows * 19).astype(int) % 24, (columns * 19).astype(int) % 30]
    return np.rint(waves + placed).clip(0, 255).astype(np.uint8)


def scene_of(image: Image, **kwargs: Any) -> Scene:
    return Scene(key="a", image=image, **kwargs)


def drawn(seed: int, severity: float, scene: Scene | None = None, **options: Any) -> Moire:
    return sample(generator(seed), severity, scene or scene_of(photograph()), MoireOptions(**options))


def one_grid(**changes: Any) -> Moire:
    """A single, undistorted grid all over the picture, without the look of a screen."""
    first = {
        "orders": (1,),
        "beat_rows": (0.0,),
        "beat_columns": (1 / 32,),
        "tilt_rows": (0.0,),
        "tilt_columns": (0.0,),
        "bulge": (0.0,),
        "phases": (0.0, 0.0),
        "weights": (1.0,),
        "area": 1.0,
        "saturation": 1.0,
        "layout": "rgb",
    }
    return dataclasses.replace(drawn(1, 0.8, screen_look=False, jpeg=0), **{**first, **changes})


def screened(params: Moire, scene: Scene) -> Image:
    return render_params(scene, [(DEGRADATION, params)]).degraded


def error(first: Image, second: Image) -> float:
    return float(np.mean((first.astype(np.float64) - second) ** 2))


def spectrum(plane: Light) -> Light:
    return np.abs(np.fft.fft(plane.mean(axis=0)))


@pytest.mark.parametrize("severity", [0.2, 0.6, 1.0])
def test_flat_keeps_its_mean(severity: float) -> None:
    light = np.full((1024, 1024, 3), 0.3, np.float32)
    for seed in range(3):
        params = drawn(seed, severity, screen_look=False, jpeg=0)
        out = recapture(Frame(degraded=light, clean=light), params, scene_of(np.zeros((1024, 1024, 3), np.uint8)))
        np.testing.assert_allclose(out.degraded.mean(axis=(0, 1), dtype=np.float64) / 0.3, 1, atol=1e-3)


@pytest.mark.parametrize("length", [16, 32, 64])
def test_beat_lies_at_the_recorded_wavelength(length: int) -> None:
    params = one_grid(beat_columns=(1 / length,), layout="rgb")
    cells = spectrum(pattern(params, (1024, 1024))[..., 1])
    assert int(np.argmax(cells[1:256])) + 1 == 1024 // length


def test_beat_is_that_of_the_sampled_screen() -> None:
    """The slow way: the grid's fundamental at every site of green, folded by sampling."""
    order, beat = 1, 1 / 32
    columns = np.arange(0, 1024, 2) + 1.0  # one lattice of green
    sampled = np.cos(2 * np.pi * (order / 2 + beat) * columns)
    assert int(np.argmax(np.abs(np.fft.fft(sampled))[1:256])) + 1 == 1024 // 32
    cells = spectrum(pattern(one_grid(), (1024, 1024))[..., 1])
    assert int(np.argmax(cells[1:256])) + 1 == 1024 // 32


@pytest.mark.parametrize(("layout", "sign"), [("rgb", -1), ("bgr", 1)])
@pytest.mark.parametrize("order", [1, 2])
def test_colours_are_a_third_of_a_pixel_apart(layout: str, sign: int, order: int) -> None:
    params = one_grid(orders=(order,), layout=layout)
    transforms = np.fft.fft(pattern(params, (1024, 1024)).mean(axis=0), axis=0)
    red, green, blue = np.angle(transforms[32])
    mosaic = np.pi * order / 2  # the sites of red, green and blue are half a pixel apart
    for step in (green - red, blue - green):
        off = (step - sign * 2 * np.pi / 3 - mosaic + np.pi) % (2 * np.pi) - np.pi
        assert abs(off) < 0.02


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_beats_with_the_recorded_contrast(layout: str) -> None:
    params = one_grid(layout=layout, contrast=0.1)
    assert float(np.sqrt(np.mean(pattern(params, (768, 1024)) ** 2))) == pytest.approx(0.1, rel=0.02)


@pytest.mark.parametrize("severity", [0.1, 0.2, 0.4, 0.6, 0.8, 1.0])
def test_area_is_that_of_the_level(severity: float) -> None:
    params = drawn(2, severity)
    expected = float(np.interp(severity, np.arange(6) / 5, AREA))
    assert params.area == pytest.approx(expected)
    assert float((region(params, (1024, 1536)) > 0.5).mean()) == pytest.approx(expected, abs=0.02)


def test_area_grows_around_itself() -> None:
    small, large = (region(drawn(2, severity), (512, 512)) for severity in (0.4, 0.7))
    assert (small <= large + 1e-6).all()


@pytest.mark.parametrize("options", [{}, {"preset": "mib"}])
def test_harm_grows_with_severity(options: dict[str, Any]) -> None:
    scene = scene_of(photograph(320, 400))
    for seed in range(4):
        images = [screened(drawn(seed, s, scene, **options), scene) for s in (0, 0.02, 0.1, 0.2, 0.4, 0.6, 0.8, 1)]
        harm = [error(image, scene.image) for image in images]
        assert harm == sorted(harm)
        assert harm[-1] > 4 * harm[3] > 0


@pytest.mark.parametrize("options", [{}, {"preset": "mib"}, {"jpeg": 1}])
def test_nothing_changes_at_severity_zero(options: dict[str, Any]) -> None:
    scene = scene_of(np.random.default_rng(0).integers(0, 256, (65, 47, 3), dtype=np.uint8))
    for seed in range(5):
        np.testing.assert_array_equal(screened(drawn(seed, 0.0, scene, **options), scene), scene.image)


def test_nuisance_does_not_depend_on_severity() -> None:
    first, second = drawn(5, 0.2), drawn(5, 0.9)
    for name in ("layout", "orders", "beat_rows", "tilt_columns", "phases", "blur", "area_seed"):
        assert getattr(first, name) == getattr(second, name)


def test_one_to_three_grids_are_fused() -> None:
    assert {len(drawn(seed, 0.5).orders) for seed in range(30)} == {1, 2, 3}


@pytest.mark.parametrize("options", [{}, {"preset": "mib"}])
def test_same_params_give_the_same_psnr_at_any_size(options: dict[str, Any]) -> None:
    large = cv2.resize(photograph(), (1280, 1024), interpolation=cv2.INTER_CUBIC)
    small = cv2.resize(large, (640, 512), interpolation=cv2.INTER_AREA)
    for seed in range(3):
        params = drawn(seed, 0.7, scene_of(large), jpeg=0, **options)
        ratio = error(screened(params, scene_of(large)), large) / error(screened(params, scene_of(small)), small)
        assert abs(10 * np.log10(ratio)) < 1.5


def test_blend_takes_the_pattern_that_is_handed_in() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::8] = 255
    image = np.full((256, 256, 3), 128, np.uint8)
    scene = scene_of(image, overlays={"moire": stripes})
    params = drawn(1, 1.0, scene, preset="mib", pattern_share=1.0, jpeg=0)
    assert params.use_overlay
    profile = spectrum(screened(params, scene).astype(np.float32).mean(axis=2))
    assert int(np.argmax(profile[1:20])) + 1 == 8


def test_blend_weighs_multiply_and_grain_merge() -> None:
    scene = scene_of(np.full((64, 64, 3), 128, np.uint8), overlays={"moire": np.full((8, 8, 3), 204, np.uint8)})
    params = dataclasses.replace(drawn(1, 1.0, scene, preset="mib", pattern_share=1.0, jpeg=0), blend=0.7, opacity=1.0)
    tone = np.sqrt(decode(scene.image)[0, 0, 0])
    expected = 0.7 * tone * 0.8 + 0.3 * (tone + 0.8 * (0.8 - 0.5))
    light = recapture(Frame(degraded=decode(scene.image), clean=decode(scene.image)), params, scene).degraded
    assert float(light.mean()) == pytest.approx(expected**2, rel=1e-3)


@pytest.mark.parametrize("options", [{}, {"preset": "mib"}, {"jpeg": 1}])
def test_recipe_survives_json_and_renders_the_same_bytes(options: dict[str, Any]) -> None:
    scene = scene_of(photograph())
    recipe = draw("moire", 0.7, scene, seed=3, options={"moire": MoireOptions(**options)})
    again = Step(degradation="moire", params=json.loads(json.dumps(dict(recipe.steps[0].params))), inputs={})
    np.testing.assert_array_equal(screened(params_of(DEGRADATION, again), scene), render(scene, recipe).degraded)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (17, 1031), (5, 4)])
@pytest.mark.parametrize("fill", [0, 128, 255])
def test_any_size_and_tone_renders(shape: tuple[int, int], fill: int) -> None:
    image = np.full((*shape, 3), fill, np.uint8)
    for options in ({}, {"preset": "mib"}, {"jpeg": 1}):
        out = screened(drawn(1, 1.0, **options), scene_of(image))
        assert out.shape == image.shape
        assert out.dtype == np.uint8
    assert (image == fill).all()


def test_content_does_not_move() -> None:
    scene = scene_of(photograph(320, 400))
    shifts = []
    for seed in range(8):
        planes = [luminance(decode(image)) for image in (scene.image, screened(drawn(seed, 0.5, scene), scene))]
        (column, row), _ = cv2.phaseCorrelate(*planes, cv2.createHanningWindow(planes[0].shape[::-1], cv2.CV_32F))
        shifts.append(np.hypot(row, column))
    assert np.median(shifts) <= 0.1


def test_contrast_rises_over_the_levels() -> None:
    assert [drawn(1, level / 5).contrast for level in range(1, 6)] == pytest.approx(CONTRAST[1:])


def test_patterns_are_of_about_as_much_colour_as_light() -> None:
    shares = []
    for seed in range(60):
        seen = pattern(dataclasses.replace(drawn(seed, 0.5), area=1.0), (256, 256))
        light = seen @ LUMA
        shares.append(np.sqrt(((seen - light[..., None]) ** 2).mean()) / light.std())
    assert 0.6 < np.median(shares) < 2  # two photographed screens: 0.9 to 3.6
