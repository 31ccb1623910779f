"""What alignment counts as evidence: beyond chance, through any tone curve, and not of what is white."""

import cv2
import numpy as np
import pytest
from skimage import data

from filters import load
from filters._contract import Sample
from filters._flow import flow
from filters._registration import register
from filters.alignment import REASONS
from storage.records import Recipe, Step

CLEAN = data.astronaut()
COFFEE = data.coffee()


def bulged(image, pixels):
    rows, columns = np.indices(image.shape[:2], dtype=np.float32)
    bump = pixels * np.exp(-((((rows - 200) ** 2 + (columns - 220) ** 2) / 90**2) ** 2)).astype(np.float32)
    return cv2.remap(image, columns + bump, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def recompressed(image, scale, quality):
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    stored = cv2.imdecode(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    return cv2.resize(stored, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)


def toned(image, curve):
    return np.rint(255 * curve(image / 255.0)).astype(np.uint8)


def crushed(light):
    return np.clip(light**3 * 0.9 - 0.02, 0, 1)


def lifted(light):
    return 0.3 + 0.7 * light**0.4


@pytest.mark.parametrize("image", [CLEAN, COFFEE])
@pytest.mark.parametrize(("scale", "quality"), [(0.5, 12), (0.35, 20), (0.7, 6)])
def test_soft_peaks_of_strong_compression_are_no_evidence(image, scale, quality):
    assert register(image, recompressed(image, scale, quality)).local_px == 0


@pytest.mark.parametrize(("scale", "quality"), [(0.5, 30), (0.7, 15)])
def test_warp_is_evidence_through_compression(scale, quality):
    assert register(CLEAN, recompressed(bulged(CLEAN, 4), scale, quality)).local_px > 0.5


@pytest.mark.parametrize("image", [CLEAN, COFFEE])
@pytest.mark.parametrize("curve", [crushed, lifted])
def test_tone_curve_moves_nothing(image, curve):
    found = flow(image, toned(image, curve))
    assert found.shift_px < 0.2
    assert found.warp_px == 0


@pytest.mark.parametrize("curve", [crushed, lifted])
def test_warp_is_found_through_a_tone_curve(curve):
    assert flow(CLEAN, toned(bulged(CLEAN, 4), curve)).warp_px > 1


def test_light_that_clipping_hid_is_no_warp():
    rng = np.random.default_rng(0)
    clean = cv2.GaussianBlur(rng.uniform(0, 255, (512, 512)).astype(np.float32), (0, 0), 3)
    clean = np.clip((clean - clean.mean()) * 6 + 120, 0, 200)
    clean[150:400, 150:400] = 255
    degraded = clean * 0.6
    degraded[180:370, 180:370] *= np.linspace(0.5, 1.2, 190)[:, None] > rng.uniform(0.4, 1.3, (190, 190))
    found = flow(*(np.repeat(plane[..., None], 3, 2).astype(np.uint8) for plane in (clean, degraded)))
    assert found.shift_px < 0.1
    assert found.warp_px == 0


def recipe(*names):
    steps = tuple(Step(degradation=name, params={}, inputs={}) for name in names)
    return Recipe(name="+".join(names), severity=0.5, steps=steps, digest="")


def test_pair_without_a_recipe_has_the_limits_of_an_unknown_degradation():
    judge = load("alignment")().judge
    for size in np.geomspace(0.05, 5, 20):
        scores = dict.fromkeys(REASONS, 0.0) | {"bend_px": size, "confidence": 20.0, "scale": 0.5, "pixel": 1.0}
        assert judge(scores).reason == judge(scores, recipe("unheard_of")).reason


@pytest.mark.parametrize("shape", [(1, 1, 3), (40, 200, 3), (66, 64, 3), (20, 300, 3)])
def test_white_and_tiny_images_have_finite_scores(shape):
    white = np.full(shape, 255, np.uint8)
    noise = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    for one, other in ((white, noise), (noise, white), (white, white)):
        scores = load("alignment")().open("cpu")([Sample(key="a", clean=one, degraded=other)])[0]
        assert np.isfinite(list(scores.values())).all()
