"""Presence: each degradation shows in its own statistic, an absent or mislabelled one is dropped."""

from functools import cache

import cv2
import numpy as np
import pytest
from skimage import data

import degradations
from degradations.noise import NoiseOptions
from degradations.pairs.recipes import draw
from degradations.pairs.render import render
from filters import load
from filters._contract import Sample
from filters._evidence import evidence
from filters.presence import classify, propose
from storage.records import Recipe, Scene, Step
from tests.scenes import scene

NINE = ("blur", "compression", "flare", "haze", "low_light", "moire", "noise", "rain", "reflection")
CLEAN = data.astronaut()


@cache
def pair(name, photograph="astronaut", severity=0.7):
    image = getattr(data, photograph)()
    rows = np.linspace(0, 1, image.shape[0], dtype=np.float32)
    depth = np.ascontiguousarray(np.broadcast_to(rows[:, None], image.shape[:2]))
    segments = (np.indices(image.shape[:2]).sum(0) // 150).astype(np.uint8)
    other = np.ascontiguousarray(data.coffee()[:, ::-1])
    scene = Scene(key="a", image=image, depth=depth, segments=segments, overlays={"reflection": other})
    recipe = draw(name, severity, scene, seed=5)
    made = render(scene, recipe)
    return made.clean, made.degraded, recipe


def scores_of(clean, degraded):
    return load("presence")().open("cpu")([Sample(key="a", clean=clean, degraded=degraded)])[0]


def recipe_of(*names):
    steps = tuple(Step(degradation=name, params={}, inputs={}) for name in names)
    return Recipe(name="+".join(names), severity=0.5, steps=steps, digest="")


def reason_of(clean, degraded, recipe):
    return load("presence")().judge(scores_of(clean, degraded), recipe).reason


@pytest.mark.parametrize("photograph", ["astronaut", "chelsea"])
@pytest.mark.parametrize("name", NINE)
def test_degradation_that_was_applied_is_present(name, photograph):
    assert reason_of(*pair(name, photograph)) == ""


@pytest.mark.parametrize("name", [*NINE, "sandstorm"])
def test_degradation_that_was_not_applied_is_absent(name):
    assert reason_of(CLEAN, CLEAN, recipe_of(name)) == f"absent_{name}"


@pytest.mark.parametrize("name", ["blur_noise", "low_light_haze", "rain_haze", "blur_noise_compression"])
def test_every_step_of_a_combination_shows(name):
    assert reason_of(*pair(name)) == ""


def test_combination_that_lacks_a_step_is_dropped_for_it():
    clean, degraded, _ = pair("blur")
    assert reason_of(clean, degraded, recipe_of("blur", "low_light")) == "absent_low_light"


@pytest.mark.parametrize("name", ["haze", "low_light"])
def test_haze_and_darkness_may_hide_each_other(name):
    clean, degraded, _ = pair(name)
    assert reason_of(clean, degraded, recipe_of("low_light", "haze")) == ""
    assert reason_of(clean, clean, recipe_of("low_light", "haze")) == "absent_low_light"


@pytest.mark.parametrize(
    ("made", "called"), [("haze", "noise"), ("noise", "blur"), ("rain", "low_light"), ("blur", "haze")]
)
def test_mislabelled_pair_is_dropped(made, called):
    clean, degraded, _ = pair(made)
    assert reason_of(clean, degraded, recipe_of(called)) in {f"absent_{called}", f"unlike_{called}"}


@pytest.mark.parametrize("mode", ["sensor", "granular", "web"])
def test_noise_in_a_part_of_the_picture_shows(mode):
    options = {"noise": NoiseOptions(mode=mode, segment_aware=1.0)}
    target = scene("chelsea", 384)
    recipe = draw("noise", 0.3, target, seed=1, options=options)
    made = render(target, recipe)
    scores = scores_of(made.clean, made.degraded)
    limit = (scores["noise"] + scores["noisiest"]) / 2  # more than usual blocks show
    assert load("presence")(noise=limit).judge(scores, recipe).keep
    assert load("presence")(noise=limit, noise_likeness=1).judge(scores, recipe).reason == "absent_noise"


@pytest.mark.parametrize("share", [0.12, 0.3])
def test_noise_that_was_pasted_into_a_part_shows(share):
    degraded = CLEAN.copy()
    degraded[: round(share * len(CLEAN))] = noisy(5)[: round(share * len(CLEAN))]
    assert scores_of(CLEAN, degraded)["noise"] < 0.1
    assert reason_of(CLEAN, degraded, recipe_of("noise")) == ""


def test_busy_detail_that_is_not_like_noise_is_none():
    clean, degraded, _ = pair("moire", severity=0.3)
    scores = scores_of(clean, degraded)
    assert scores["noisiest"] > load("presence")().noise
    assert reason_of(clean, degraded, recipe_of("noise")) == "absent_noise"


def test_unknown_type_is_kept_when_pixels_changed():
    clean, degraded, _ = pair("haze")
    assert reason_of(clean, degraded, recipe_of("sandstorm")) == ""


def test_pair_without_a_recipe_is_kept():
    assert load("presence")().judge(scores_of(CLEAN, CLEAN)).keep


def gaussian(sigma):
    return cv2.GaussianBlur(CLEAN, (0, 0), sigma)


def noisy(sigma):
    noise = np.random.default_rng(0).normal(0, sigma, CLEAN.shape)
    return np.clip(np.rint(CLEAN + noise), 0, 255).astype(np.uint8)


def jpeg(loss):
    return cv2.imdecode(cv2.imencode(".jpg", CLEAN, [cv2.IMWRITE_JPEG_QUALITY, 100 - loss])[1], cv2.IMREAD_COLOR)


def darker(stops):
    return np.rint(255 * ((CLEAN / 255.0) ** 2.2 / 2**stops) ** (1 / 2.2)).astype(np.uint8)


def veiled(share):
    return np.rint(CLEAN * (1 - share) + 210 * share).astype(np.uint8)


def lit(light):
    rows, columns = np.indices(CLEAN.shape[:2])
    glow = light * np.exp(-((rows - 400) ** 2 + (columns - 60) ** 2) / 60**2)
    return np.clip(CLEAN + glow[..., None], 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "degrade", "strengths"),
    [
        ("blur", gaussian, (0.6, 1.2, 2.5)),
        ("noise", noisy, (3, 8, 20)),
        ("compression", jpeg, (20, 60, 90)),
        ("low_light", darker, (0.5, 1.5, 3)),
        ("haze", veiled, (0.15, 0.35, 0.7)),
        ("flare", lit, (20, 60, 150)),
    ],
)
def test_score_grows_with_the_strength(name, degrade, strengths):
    scores = [scores_of(CLEAN, degrade(strength))[name] for strength in strengths]
    assert scores == sorted(scores)
    assert scores[0] > getattr(load("presence")(), name)


def test_exposure_is_measured_in_stops():
    assert scores_of(CLEAN, darker(2))["low_light"] == pytest.approx(2, abs=0.05)


def test_unexplained_detail_of_white_noise_is_its_level():
    flat = np.full((256, 256, 3), 120, np.uint8)
    noise = np.random.default_rng(0).normal(0, 10, (256, 256, 1))
    degraded = np.rint(flat + noise).astype(np.uint8)
    expected = np.asarray(noise[..., 0] - cv2.GaussianBlur(noise[..., 0], (5, 5), 1.1)).std()
    assert evidence(flat, degraded)["rest_0"] == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_gain_is_the_transmission_of_a_veil(share):
    found = evidence(CLEAN, veiled(share))
    assert [found[f"gain_{octave}"] for octave in range(5)] == pytest.approx([1 - share] * 5, abs=0.02)


def test_parallel_lines_stand_out_of_the_spectrum():
    columns = np.indices(CLEAN.shape[:2])[1]
    lines = np.clip(CLEAN + 8 * np.cos(columns * 0.6)[..., None], 0, 255).astype(np.uint8)
    assert scores_of(CLEAN, lines)["moire"] > scores_of(CLEAN, noisy(8))["moire"] + 3


def test_classify_names_most_of_the_nine():
    guesses = {name: classify(*pair(name)[:2]) for name in NINE}
    right = sum(max(chances, key=chances.__getitem__) == name for name, chances in guesses.items())
    assert right >= 8
    assert all(sum(chances.values()) == pytest.approx(1) for chances in guesses.values())


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("blur", gaussian(2.5)),
        ("compression", jpeg(90)),
        ("noise", noisy(15)),
        ("low_light", darker(3.5)),
        ("haze", veiled(0.7)),
    ],
)
def test_propose_sees_what_one_image_suffers_from(name, image):
    assert propose(image)[name] > max(0.5, propose(CLEAN)[name])


@pytest.mark.parametrize("shape", [(1, 1, 3), (9, 60, 3), (64, 64, 3)])
def test_presence_measures_the_smallest_images(shape):
    image = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    assert all(np.isfinite(list(scores_of(image, image // 2).values())))
    assert all(np.isfinite(list(propose(image).values())))


def test_shipped_likeness_knows_the_nine():
    clean, degraded, _ = pair("noise")
    assert set(NINE) <= set(classify(clean, degraded)) <= {*degradations.names()}
    assert set(propose(clean)) == set(NINE)
