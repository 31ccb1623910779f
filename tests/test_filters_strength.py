"""Strength: PSNR, SSIM and area, and the bands they must lie in."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from filters import load, strength
from filters._contract import Sample
from storage.records import Recipe

IMAGE = data.astronaut()


def scores_of(clean, degraded):
    return load("strength")().open("cpu")([Sample(key="a", clean=clean, degraded=degraded)])[0]


def blurred(sigma, image=IMAGE):
    return cv2.GaussianBlur(image, (0, 0), sigma)


def reason_of(degraded, recipe=None, **options):
    return load("strength")(**options).judge(scores_of(IMAGE, degraded), recipe).reason


def recipe(name, severity):
    return Recipe(name=name, severity=severity, steps=(), digest="")


def test_psnr_is_that_of_the_literature():
    expected = peak_signal_noise_ratio(IMAGE, blurred(2))
    assert scores_of(IMAGE, blurred(2))["psnr"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("sigma", [0.5, 2, 8])
def test_ssim_is_that_of_the_literature(sigma):
    planes = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (IMAGE, blurred(sigma))]
    expected = structural_similarity(*planes, data_range=255, use_sample_covariance=False)
    assert scores_of(IMAGE, blurred(sigma))["ssim"] == pytest.approx(expected, abs=1e-5)


def test_ssim_of_a_large_image_is_near_that_of_all_its_pixels():
    large = np.tile(IMAGE, (4, 3, 1))
    assert scores_of(large, blurred(2, large))["ssim"] == pytest.approx(scores_of(IMAGE, blurred(2))["ssim"], abs=0.01)


def test_area_counts_pixels_changed_in_any_channel():
    degraded = IMAGE.copy()
    degraded[:128, :256, 2] ^= 64
    assert scores_of(IMAGE, degraded)["area"] == pytest.approx(1 / 8)


def test_equal_images_score_perfectly_and_are_too_weak():
    assert scores_of(IMAGE, IMAGE) == {"psnr": 100.0, "ssim": pytest.approx(1), "area": 0.0}
    assert reason_of(IMAGE) == "too_weak"


@pytest.mark.parametrize(
    ("degraded", "reason"),
    [(blurred(2), ""), (IMAGE ^ 1, "too_weak"), (255 - IMAGE, "too_strong"), (np.zeros_like(IMAGE), "too_strong")],
)
def test_generic_band_holds_without_a_recipe(degraded, reason):
    assert reason_of(degraded) == reason


def test_unmeasured_name_falls_back_to_the_generic_band():
    assert reason_of(blurred(2), recipe("sandstorm_fog", 0.5)) == ""
    assert reason_of(IMAGE, recipe("sandstorm_fog", 0.5)) == "too_weak"


def test_band_is_that_of_the_name_and_level(monkeypatch):
    band = {"psnr": [20, 30], "ssim": [0.5, 0.9], "area": [0.1, 1]}
    monkeypatch.setattr(strength, "_measured_bands", lambda: {"blur": {"3": band}})
    assert [reason_of(blurred(sigma), recipe("blur", 0.6)) for sigma in (0.5, 2, 12)] == ["too_weak", "", "too_strong"]
    assert reason_of(blurred(0.5), recipe("blur", 0.8)) == ""
    assert reason_of(blurred(0.5), recipe("blur", 0.6), measured=False) == ""


def test_area_beyond_the_band_is_too_strong(monkeypatch):
    band = {"psnr": [0, 100], "ssim": [-1, 1], "area": [0, 0.1]}
    monkeypatch.setattr(strength, "_measured_bands", lambda: {"flare": {"1": band}})
    assert reason_of(blurred(4), recipe("flare", 0.1)) == "too_strong"


def test_shipped_bands_are_bands():
    file = Path(strength.__file__).with_name("_bands.json")
    for levels in (json.loads(file.read_text()) if file.exists() else {}).values():
        assert set(levels) <= set("12345")
        for band in levels.values():
            assert set(band) == {"psnr", "ssim", "area"}
            assert all(low < high for low, high in band.values())


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 40, 3)])
def test_strength_measures_the_smallest_images(shape):
    assert scores_of(np.zeros(shape, np.uint8), np.full(shape, 9, np.uint8))["area"] == 1
