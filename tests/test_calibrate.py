"""Calibration: the severity that is used moves until the loss is that of the level that was asked for."""

import dataclasses
import json
from collections import Counter

import numpy as np
import pytest
import skimage.data

from degradations.pairs import calibrate
from degradations.pairs.calibrate import EVALUATIONS, calibrated, draw_calibrated, proxy, psnr
from degradations.pairs.recipes import draw, recipe_of
from degradations.pairs.render import render, replay
from filters.strength import Strength
from flows.__main__ import run
from flows.dataset import Dataset
from storage.canonical import decode, encode
from storage.records import Recipe, Scene
from tasks import degrade, mixture
from tests.builds import build_here, settings_for, write_photographs

PHOTOGRAPHS = [
    skimage.data.astronaut(),
    skimage.data.coffee(),
    skimage.data.chelsea(),
    skimage.data.rocket(),
    np.ascontiguousarray(skimage.data.astronaut()[:300, 200:]),
    (skimage.data.coffee() * 0.2).astype(np.uint8),
]


def scene_of(image):
    depth = np.tile(np.linspace(0, 1, image.shape[1], dtype=np.float32), (image.shape[0], 1))
    return Scene(key="a", image=image, depth=depth, segments=(depth * 7).astype(np.uint8))


def loss(scene, recipe):
    rendered = render(scene, recipe)
    return psnr(rendered.clean, rendered.degraded)


@pytest.mark.parametrize("answer", [0.003, 0.02, 0.3, 0.55, 0.97, 1.0])
@pytest.mark.parametrize("asked", [0.01, 0.5, 1.0])
def test_bisection_finds_a_severity_in_a_narrow_band(answer, asked):
    def psnr_at(severity):
        return 50 - 40 * severity

    low = psnr_at(answer)
    found = calibrated(asked, (low - 0.4, low + 0.4), psnr_at)
    assert abs(psnr_at(found) - low) <= 0.4
    assert 0 < found <= 1


def test_a_severity_that_is_in_its_band_stays():
    assert calibrated(0.37, (20, 30), lambda severity: 25.0) == 0.37


@pytest.mark.parametrize(("found", "expected"), [(60.0, 0.99), (1.0, 0.01)])
def test_where_nothing_lands_in_the_band_the_closest_is_used(found, expected):
    asked = []

    def psnr_at(severity):
        asked.append(severity)
        return found - severity

    used = calibrated(0.5, (20, 30), psnr_at)
    assert used == pytest.approx(expected, abs=0.02)
    assert len(asked) == EVALUATIONS


@pytest.mark.parametrize("name", ["haze", "noise", "low_light", "compression", "blur_noise"])
def test_calibration_brings_pairs_into_a_planted_band(name):
    before, after = Counter(), Counter()
    for seed, image in enumerate(PHOTOGRAPHS):
        scene = scene_of(image)
        plain = draw(name, 0.5, scene, seed=seed)
        moved = draw_calibrated(name, 0.5, scene, seed=seed, band=BANDS[name])
        low, high = BANDS[name]
        before[name] += low <= loss(scene, plain) <= high
        after[name] += low <= loss(scene, moved) <= high
    assert before[name] <= 3
    assert after[name] >= 5


BANDS = {
    "haze": (18.0, 22.0),
    "noise": (27.0, 30.0),
    "low_light": (17.0, 21.0),
    "compression": (30.0, 34.0),
    "blur_noise": (28.0, 31.0),
}


@pytest.fixture
def hazy():
    scene = scene_of(PHOTOGRAPHS[0])
    return scene, draw_calibrated("haze", 0.9, scene, seed=1, band=(24.0, 27.0))


def test_the_recipe_says_what_was_asked_for_and_what_was_used(hazy):
    scene, recipe = hazy
    assert recipe.severity == 0.9
    assert recipe.used is not None
    assert recipe.used < 0.9
    assert recipe.steps == draw("haze", recipe.used, scene, seed=1).steps
    assert recipe.digest == recipe_of("haze", 0.9, recipe.steps, used=recipe.used).digest


def test_calibration_is_deterministic_and_replays(hazy):
    scene, recipe = hazy
    assert recipe == draw_calibrated("haze", 0.9, scene, seed=1, band=(24.0, 27.0))
    stored = decode(Recipe, encode(recipe))
    again = replay(scene.image, stored, {"depth": scene.depth, "segments": scene.segments})
    assert np.array_equal(again.degraded, render(scene, recipe).degraded)


def test_a_second_photograph_of_another_size_is_no_obstacle():
    scene = dataclasses.replace(scene_of(PHOTOGRAPHS[0]), overlays={"reflection": np.zeros((90, 40, 3), np.uint8)})
    assert draw_calibrated("noise", 0.9, scene, seed=1, band=(28.0, 30.0)).used is not None


def test_a_pair_in_its_band_is_the_one_that_was_asked_for():
    scene = scene_of(PHOTOGRAPHS[1])
    plain = draw("haze", 0.5, scene, seed=4)
    found = loss(scene, plain)
    assert draw_calibrated("haze", 0.5, scene, seed=4, band=(found - 1, found + 1)) == plain
    assert plain.used is None


@pytest.mark.parametrize("name", ["flare", "reflection", "rain_haze"])
def test_types_that_solve_for_their_area_are_drawn_as_asked(name):
    scene = scene_of(PHOTOGRAPHS[1])
    assert draw_calibrated(name, 0.5, scene, seed=4, band=(90.0, 99.0)) == draw(name, 0.5, scene, seed=4)


@pytest.mark.parametrize("name", ["haze", "compression"])
def test_the_copy_is_tried_eight_times_at_most(name, monkeypatch):
    sizes = []

    def counted(scene, recipe):
        sizes.append(scene.image.shape[0] * scene.image.shape[1])
        return render(scene, recipe)

    monkeypatch.setattr(calibrate, "render", counted)
    draw_calibrated(name, 0.5, scene_of(PHOTOGRAPHS[0]), seed=1, band=(90.0, 99.0))
    small = [size for size in sizes if size <= 256 * 256]
    assert len(small) == EVALUATIONS
    assert len(sizes) == EVALUATIONS + 1


@pytest.mark.parametrize("shape", [(512, 512), (300, 900), (257, 256), (900, 60), (4000, 20)])
@pytest.mark.parametrize("native", [True, False])
def test_the_copy_holds_as_many_pixels_as_it_may_and_its_annotations_fit(shape, native):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    small = proxy(scene_of(image), native=native)
    assert small.image.shape[0] * small.image.shape[1] <= 1.03 * 256 * 256
    assert small.depth.shape == small.segments.shape == small.image.shape[:2]
    assert set(np.unique(small.segments)) <= set(range(8))


def test_a_mosaic_shows_native_pixels():
    image = np.arange(512, dtype=np.uint16)[None, :, None] * np.ones((400, 1, 3), np.uint16)
    columns = proxy(scene_of((image % 251).astype(np.uint8)), native=True).image[0, :, 0].astype(int)
    steps = np.diff(columns)
    assert np.count_nonzero((steps != 1) & (steps != -250)) <= 3


def test_the_filter_tells_the_band_it_holds_a_level_to():
    generic = Strength(measured=False, psnr=(7.0, 30.0))
    assert generic.band("haze", 3)["psnr"] == (7.0, 30.0)
    assert Strength(psnr=(7.0, 30.0)).band("sandstorm", 3)["psnr"] == (7.0, 30.0)


def test_a_dataset_is_calibrated_when_its_settings_say_so(tmp_path, capsys):
    folder = write_photographs(tmp_path / "photographs", count=4)
    tables = {
        "mixture": {"variants": 2, "weights": {"haze": 1}, "calibrate": True},
        "filters": {"resolution": {"min_side": 256}, "strength": {"measured": False, "psnr": [18.0, 20.0]}},
    }
    outcome, _ = build_here(settings_for(folder, tmp_path / "d", **tables))
    rows = list(Dataset(tmp_path / "d").rows("pairs"))
    inside = [18 <= row["scores"]["strength.psnr"] <= 20 for row in rows]
    used = [json.loads(row["recipe"])["used"] for row in rows]
    assert sum(inside) >= 0.75 * len(rows)
    assert sum(value is not None for value in used) >= 0.5 * len(rows)
    assert run(["verify", str(tmp_path / "d"), "--replay", "9", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["identical"] == outcome.pairs["kept"]


def test_without_the_setting_nothing_is_calibrated():
    assert mixture.Options().calibrate is False
    assert degrade.Options().calibrate == ()
