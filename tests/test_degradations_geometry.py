"""Content stays where it is, and a photograph is harmed alike at every resolution."""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data

from degradations import load, names
from degradations.numerics.light import decode
from degradations.pairs.contract import Frame, Light, Stage
from degradations.pairs.coupled import COUPLED, steps_of
from degradations.pairs.recipes import draw
from degradations.pairs.render import Rendered, render, render_params
from filters._registration import register
from storage.records import Image, Scene
from tests.scenes import PHOTOGRAPHS, annotated, fitted, frozen, psnr, read, sampled, scene, shared_photographs

STILL = [name for name in names() if load(name).keeps_geometry]
STILL_COUPLED = [name for name in COUPLED if set(steps_of(name)) <= set(STILL)]
STILL_VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("blur", {"shake": 0, "linear": 0, "object_motion": 0, "rotation": 0, "defocus": 0}),  # what the web leaves
    ("blur", {"preset": "realrestorer"}),  # its released code moves content by 3.7 px in the median
    ("compression", {"preset": "web"}),
    ("haze", {"preset": "realrestorer"}),
    ("moire", {"preset": "mib"}),
    ("noise", {"preset": "realrestorer"}),
    ("rain", {"mode": "raindrop"}),
    ("rain", {"mode": "night"}),
]
CONFIDENT = 6.0  # standard deviations by which the peak of the correlation stands out; below it tells nothing
SCALED: list[tuple[str, dict[str, Any]]] = [
    ("haze", {}),
    ("blur", {}),
    ("flare", {}),
    ("reflection", {}),
    ("moire", {"jpeg": 0.0}),  # a codec acts at native pixels and harms a larger picture less
    ("low_light", {"noise": False}),  # so does a sensor
    ("rain", {}),
    ("snow", {}),
]
ALL_SCALED = pytest.mark.parametrize(("name", "options"), SCALED, ids=[name for name, _ in SCALED])


def pair(name: str, severity: float, target: Scene, seed: int, **options: Any) -> Rendered:
    return render_params(target, [(load(name), sampled(name, severity, target, seed, **options))])


# Alignment.


def shifts(name: str, targets: list[Scene], count: int, **options: Any) -> list[float]:
    """Return the shift in pixels of each pair of which the content can still be recognised."""
    given = {name: load(name).options(**options)} if options else None
    found = []
    for seed in range(count):
        target = targets[seed % len(targets)]
        rendered = render(target, draw(name, (seed % 5 + 1) / 5, target, seed=seed, options=given))
        found.append(register(rendered.clean, rendered.degraded))
    return [each.shift_px for each in found if each.confidence >= CONFIDENT]


def assert_aligned(found: list[float]) -> None:
    told = f"median {np.median(found):.3f} px, p95 {np.quantile(found, 0.95):.3f} px of {len(found)} pairs"
    sys.stdout.write(f" {told} ")  # the figures of EXPERIMENTS.md, seen with -s
    assert np.median(found) <= 0.1, told
    assert np.quantile(found, 0.95) <= 0.3, told


@pytest.mark.parametrize(("name", "count"), [*((name, 15) for name in STILL), *((name, 30) for name in STILL_COUPLED)])
def test_a_few_pairs_are_aligned(name: str, count: int) -> None:
    found = shifts(name, [scene(photograph, 384) for photograph in PHOTOGRAPHS], count)
    assert len(found) >= 10
    assert_aligned(found)


@pytest.mark.parametrize(("name", "options"), STILL_VARIANTS)
def test_a_few_pairs_of_other_modes_are_aligned(name: str, options: dict[str, Any]) -> None:
    found = shifts(name, [scene(photograph, 384) for photograph in PHOTOGRAPHS], 20, **options)
    assert len(found) >= 10
    assert_aligned(found)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), STILL_VARIANTS)
def test_200_pairs_of_other_modes_are_aligned(name: str, options: dict[str, Any]) -> None:
    photographs = [read(file) for file in shared_photographs(50)]
    found = shifts(name, [annotated(fitted(image, 512)) for image in photographs], 200, **options)
    assert len(found) >= 100
    assert_aligned(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*STILL, *STILL_COUPLED])
def test_200_pairs_are_aligned(name: str) -> None:
    photographs = [read(file) for file in shared_photographs(50)]
    found = shifts(name, [annotated(fitted(image, 512)) for image in photographs], 200)
    assert len(found) >= 100
    assert_aligned(found)


def test_only_blur_may_spread_edges() -> None:
    assert [name for name in names() if not load(name).keeps_geometry] == ["blur"]


SIDE, SPACING, REACH = 320, 80, 38  # of the impulse chart, in pixels


@cache
def chart() -> Scene:
    """White points on black, each row of them at a depth of its own; an object covers those in the middle."""
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image[SPACING // 2 :: SPACING, SPACING // 2 :: SPACING] = 255
    depth = np.full((SIDE, SIDE), 0.2, np.float32) + 0.2 * (np.arange(SIDE, dtype=np.float32) // SPACING)[:, None]
    segments = np.zeros((SIDE, SIDE), np.uint8)
    segments[80:240, 80:240] = 1
    return Scene(key="s", image=frozen(image), depth=frozen(depth), segments=frozen(segments))


def spread_light(params: Any) -> Light:
    """Return the light of the chart after the parts of blur that come before the exposure."""
    frame = Frame(degraded=decode(chart().image), clean=decode(chart().image))
    for part in load("blur").parts:
        if part.stage <= Stage.OPTICS:
            frame = part.apply(frame, params, chart())
    return np.asarray(frame.degraded)


def centroids(light: Light) -> np.ndarray:
    """Return how far the centroid of each response lies from its point, (N, 2) of rows and columns."""
    offsets = np.arange(-REACH, REACH + 1)
    found = []
    for row in range(SPACING // 2, SIDE, SPACING):
        for column in range(SPACING // 2, SIDE, SPACING):
            window = light[row - REACH : row + REACH + 1, column - REACH : column + REACH + 1].sum(axis=2)
            total = window.sum(dtype=np.float64)
            found.append((window.sum(axis=1) @ offsets / total, window.sum(axis=0) @ offsets / total))
    return np.array(found)


CAUSES = ("shake", "linear", "object_motion", "rotation", "defocus", "web")


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("severity", [0.2, 0.6, 1.0])
def test_what_motion_and_defocus_make_of_a_point_is_centred_on_it(cause: str, severity: float) -> None:
    weights = {name: float(name == cause) for name in CAUSES}
    for seed in range(3):
        params = sampled("blur", severity, chart(), seed, **weights)
        assert params.motion.cause == cause
        assert np.abs(centroids(spread_light(params))).max() < 0.05


# Resolution.

Sizes = Callable[[], list[Scene]]  # of one photograph, small to large
WEAKEST = 50.0  # dB: less harm is mostly rounding, which a blur averages away: up to 1/6 of a squared code, 55.9 dB


def band_limited(image: Image, short: int, sides: tuple[int, ...]) -> list[Scene]:
    """Return the scene of one photograph at several sizes, its detail such that the smallest holds all of it."""
    small = fitted(image, short)
    return [annotated(fitted(small, side)) for side in sides]


def spreads(
    name: str, options: dict[str, Any], photographs: list[Callable[[], list[Scene]]], count: int
) -> list[float]:
    """Return by how many dB the same params harm the same photograph differently at its sizes."""
    found = []
    for seed in range(count):
        scenes = photographs[seed % len(photographs)]()
        params = sampled(name, (seed % 5 + 1) / 5, scenes[-1], seed, **options)
        rendered = [render_params(target, [(load(name), params)]) for target in scenes]
        harms = [min(psnr(each.clean, each.degraded), WEAKEST) for each in rendered]
        found.append(max(harms) - min(harms))
    return found


@cache
def _bundled(photograph: str, sides: tuple[int, ...]) -> list[Scene]:
    return band_limited(np.asarray(getattr(skimage.data, photograph)()), 288, sides)


def _shared(file: Path, sides: tuple[int, ...]) -> list[Scene]:
    return band_limited(read(file), 384, sides)


@ALL_SCALED
def test_a_photograph_is_harmed_alike_at_two_sizes(name: str, options: dict[str, Any]) -> None:
    sizes = [partial(_bundled, photograph, (384, 768)) for photograph in ("astronaut", "coffee")]
    found = spreads(name, options, sizes, 6)
    sys.stdout.write(f" {name}: median {np.median(found):.2f} dB, largest {max(found):.2f} dB ")
    assert max(found) < 1.5


@pytest.mark.slow
@ALL_SCALED
def test_a_photograph_is_harmed_alike_at_512_1024_and_2048_pixels(name: str, options: dict[str, Any]) -> None:
    sizes = [partial(_shared, file, (512, 1024, 2048)) for file in shared_photographs(20)]
    found = spreads(name, options, sizes, 20)
    sys.stdout.write(f" {name}: median {np.median(found):.2f} dB, largest {max(found):.2f} dB ")
    assert max(found) < 1.5
    assert np.median(found) < 0.75


@pytest.mark.parametrize("name", ["flare", "haze", "low_light", "moire", "noise", "rain", "reflection", "snow"])
def test_fields_of_20_seeds_harm_alike_at_two_sizes(name: str) -> None:
    """Fields are drawn anew at every size: their harms are compared as a distribution, by its mean and its spread."""
    harms = np.empty((20, 2))
    for seed in range(20):
        small, large = _bundled(PHOTOGRAPHS[seed % 4], (256, 512))
        params = sampled(name, 0.5, large, seed)
        for size, target in enumerate((small, large)):
            rendered = render_params(target, [(load(name), params)])
            harms[seed, size] = psnr(rendered.clean, rendered.degraded)
    assert abs(float(np.diff(harms.mean(axis=0))[0])) < 0.5
    assert harms[:, 1].std() == pytest.approx(harms[:, 0].std(), rel=0.2)


@pytest.mark.parametrize(("name", "options"), [("noise", {}), ("compression", {})])
def test_sensor_and_codec_act_at_native_pixels(name: str, options: dict[str, Any]) -> None:
    """The exemption: neither a sensor's noise nor a codec's blocks grow with the picture."""
    small, large = _bundled("astronaut", (256, 512))
    params = sampled(name, 0.8, large, 1, **options)
    rendered = [render_params(target, [(load(name), params)]) for target in (small, large)]
    grains = [np.diff(each.degraded.astype(float) - each.clean, axis=1).std() for each in rendered]
    assert grains[0] > 0.5 * grains[1]  # of light that scaled, the slope would halve and more


def test_registration_sees_a_shift_of_a_third_of_a_pixel() -> None:
    """The measure of alignment is not blind."""
    target = scene("coffee", 256)
    moved = np.asarray(0.67 * target.image + 0.33 * np.roll(target.image, 1, axis=1)).astype(np.uint8)
    assert register(target.image, moved).shift_px == pytest.approx(0.33, abs=0.1)


def test_a_scene_without_overlays_is_aligned_too() -> None:
    target = replace(scene("rocket", 256), overlays={})
    for name in STILL:
        found = register(target.image, pair(name, 0.6, target, 2).degraded)
        assert found.shift_px < 0.3 or found.confidence < CONFIDENT
