"""The laws of a pane of glass: Fresnel, additive in linear light, doubled by its second surface, over an area."""

import dataclasses
import json
from typing import Any

import cv2
import numpy as np
import pytest
from pydantic import TypeAdapter

from degradations.numerics.light import decode
from degradations.numerics.random import generator
from degradations.optics.disk import defocus, disk
from degradations.pairs.contract import Frame
from degradations.pairs.render import render_params
from degradations.pane.glass import ghost_ratio, surface, transmission
from degradations.pane.interior import interior
from degradations.reflection import DEGRADATION, Reflection, ReflectionOptions, apply, sample, strength
from storage.records import Image, Scene

BORDERS = ((0.0, 0.10), (0.10, 0.20), (0.20, 0.50), (0.50, 0.80), (0.80, 1.0))
KINDS = ("window", "fbm", "segments", "network_like")


def photograph(height: int = 192, width: int = 256, seed: int = 0) -> Image:
    """A picture with smooth tones, edges and nothing clipped."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width] / min(height, width)
    waves = [np.sin(rows * a + columns * b + c) for a, b, c in rng.uniform(2, 9, (3, 3))]
    blocks = (np.floor(rows * 5) + np.floor(columns * 4)) % 2
    return np.clip(np.stack(waves, axis=2) * 50 + 95 + 25 * blocks[..., None], 0, 235).astype(np.uint8)


def flat(value: int, shape: tuple[int, int] = (128, 160)) -> Image:
    return np.full((*shape, 3), value, np.uint8)


def scene_of(image: Image, overlay: Image | None = None, **kwargs: Any) -> Scene:
    return Scene(key="a", image=image, overlays={} if overlay is None else {"reflection": overlay}, **kwargs)


def drawn(seed: int, severity: float = 0.6, scene: Scene | None = None, **changes: Any) -> Reflection:
    options = ReflectionOptions(swap_share=0)
    params = sample(generator(seed), severity, scene or scene_of(photograph(), photograph(seed=9)), options)
    return dataclasses.replace(params, **changes)


def everywhere(seed: int, **changes: Any) -> Reflection:
    """An additive reflection whose weight is 1 all over the pane, of a photograph seen as it is."""
    plain: dict[str, Any] = {"weight": "fbm", "cover": -1e6, "tint": (1.0, 1.0, 1.0), "highlights": 0.0, "defocus": 0.0}
    return drawn(seed, **{**plain, "mirrored": False, "zoom": 1.0, **changes})


def seen_through(params: Reflection, scene: Scene) -> Frame:
    light = decode(scene.image)
    return apply(Frame(degraded=light, clean=light), params, scene)


def harm(scene: Scene, params: Reflection) -> tuple[float, float]:
    """Mean squared error and share of visibly changed pixels."""
    pair = render_params(scene, [(DEGRADATION, params)])
    difference = np.abs(pair.degraded.astype(int) - pair.clean)
    return float((difference**2).mean()), float((difference.max(axis=2) > 5.1).mean())


@pytest.mark.parametrize("incidence", [0, 20, 45, 60, 80])
def test_no_more_light_leaves_the_glass_than_reaches_it(incidence: float) -> None:
    reflected = surface(incidence) * (1 + ghost_ratio(incidence))
    assert 0 < reflected + transmission(incidence) <= 1


def test_normal_incidence_reflects_four_per_cent_a_surface_and_grazing_all() -> None:
    assert surface(0) == pytest.approx(0.04, abs=1e-9)
    assert surface(89.99) == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize(("incidence", "first"), [(0, 0.04), (60, 0.0892)])
def test_the_second_surface_mirrors_what_passes_the_first_twice(incidence: float, first: float) -> None:
    """F of one surface by Fresnel's equations, n = 1.5; both together 7.7 % of the light at normal incidence."""
    assert surface(incidence) == pytest.approx(first, abs=1e-4)
    assert ghost_ratio(incidence) == pytest.approx((1 - first) ** 2, abs=1e-3)
    assert transmission(incidence) == pytest.approx((1 - first) ** 2, abs=1e-3)


def test_without_reflection_the_scene_is_dimmed_by_the_transmission() -> None:
    scene = scene_of(photograph())
    params = drawn(1, gain=0.0, exposure=1.0, incidence=50.0, weight="fbm")
    frame = seen_through(params, scene)
    np.testing.assert_allclose(frame.degraded, transmission(50) * decode(scene.image), rtol=1e-6)
    np.testing.assert_array_equal(frame.degraded, frame.clean)


def test_automatic_exposure_leaves_the_clean_image_alone() -> None:
    scene = scene_of(photograph(), photograph(seed=4))
    pair = render_params(scene, [(DEGRADATION, drawn(2))])
    assert pair.clean is scene.image


@pytest.mark.parametrize("seed", range(4))
def test_camera_keeps_the_picture_from_burning_out_behind_a_strong_reflection(seed: int) -> None:
    bright = np.maximum(photograph(seed=seed), 215)
    scene = scene_of(bright, photograph(seed=seed + 9))
    params = drawn(seed, 0.9, scene, weight="fbm")
    metered = render_params(scene, [(DEGRADATION, params)])
    exposure = 1 / transmission(params.incidence)
    fixed = render_params(scene, [(DEGRADATION, dataclasses.replace(params, exposure=exposure))])
    burnt = [float((pair.degraded.max(axis=2) >= 250).mean()) for pair in (metered, fixed)]
    assert params.exposure < 0.8 * exposure
    assert burnt[0] < burnt[1]
    np.testing.assert_allclose(
        decode(metered.clean), decode(bright) * params.exposure / exposure, atol=0.006
    )  # what the same exposure shows without the reflection


@pytest.mark.parametrize("seed", range(4))
def test_constants_stay_constant(seed: int) -> None:
    params = everywhere(seed, defocus=6.0, gain=3.0)
    frame = seen_through(params, scene_of(flat(100), flat(180)))
    expected = decode(flat(100)) + 3 * strength(params) * decode(flat(180))
    np.testing.assert_allclose(frame.degraded, expected, rtol=1e-4)


@pytest.mark.parametrize(("distance", "angle"), [(8.0, 0.0), (14.0, np.pi / 2), (12.0, np.pi)])
def test_second_surface_doubles_the_scene_at_the_recorded_distance(distance: float, angle: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    scene = scene_of(flat(0, (512, 512)), noise)
    params = everywhere(1, ghost=2 * distance, ghost_angle=angle, incidence=30.0, gain=5.0)
    layer = seen_through(params, scene).degraded[..., 1]
    spectrum = np.abs(np.fft.rfft2(layer - layer.mean())) ** 2
    correlation = np.fft.irfft2(spectrum, s=layer.shape)
    correlation /= correlation[0, 0]
    right, down = round(distance * np.cos(angle)), round(distance * np.sin(angle))
    ratio = ghost_ratio(30.0)
    assert correlation[down % 512, right % 512] == pytest.approx(ratio / (1 + ratio**2), abs=0.03)
    centred = np.fft.fftshift(correlation)
    centred[253:260, 253:260] = 0  # the peak of the scene with itself
    row, column = np.unravel_index(centred.argmax(), centred.shape)
    assert (abs(row - 256), abs(column - 256)) == (abs(down), abs(right))


@pytest.mark.parametrize("seed", range(3))
def test_reflection_is_linear_in_the_gain(seed: int) -> None:
    scene = scene_of(photograph(), photograph(seed=5))
    once, twice = (seen_through(drawn(seed, weight="fbm", gain=gain, faint=gain / 8), scene) for gain in (2.0, 4.0))
    np.testing.assert_allclose(twice.degraded - twice.clean, 2 * (once.degraded - once.clean), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["window", "fbm"])
@pytest.mark.parametrize("severity", [0.15, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_glass_mirrors_everywhere_though_faintly(kind: Any, severity: float, seed: int) -> None:
    """No pane stops mirroring in its midst: of an even world it shows something all over."""
    scene = scene_of(photograph(seed=seed), flat(180, (192, 256)))
    params = sample(generator(seed), severity, scene, ReflectionOptions(weight=kind, swap_share=0))
    frame = seen_through(params, scene)
    added = frame.degraded - frame.clean
    assert added.min() > 0.05 * added.max()
    assert added.max() > 1.2 * added.min()


def test_what_is_mirrored_faintly_grows_with_severity() -> None:
    scene = scene_of(photograph(), photograph(seed=9))
    severities = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    found = [drawn(4, severity, scene, weight="fbm").faint for severity in severities]
    assert found[0] == 0
    assert found == sorted(found)
    assert found[-1] > 0


def test_swapping_the_roles_is_swapping_the_photographs() -> None:
    first, second = photograph(512, 512, seed=1), photograph(512, 512, seed=2)
    params = everywhere(4, gain=4.0)
    swapped = seen_through(dataclasses.replace(params, swapped=True), scene_of(first, second))
    plain = seen_through(params, scene_of(second, first))
    np.testing.assert_allclose(swapped.degraded, plain.degraded, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(swapped.clean, decode(second))


def test_roles_are_swapped_in_the_share_asked_for_when_the_other_photograph_is_large_enough() -> None:
    large, small = (scene_of(photograph(), photograph(192, width)) for width in (256, 200))
    options = ReflectionOptions(swap_share=1)
    assert all(sample(generator(seed), 0.5, large, options).swapped for seed in range(3))
    assert not any(sample(generator(seed), 0.5, small, options).swapped for seed in range(3))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("procedural", [False, True])
def test_severity_zero_changes_no_byte(kind: Any, procedural: bool) -> None:
    scene = scene_of(photograph(), None if procedural else photograph(seed=3), segments=np.zeros((192, 256), np.uint8))
    options = ReflectionOptions(weight=kind, auto_exposure=procedural, swap_share=0)
    pair = render_params(scene, [(DEGRADATION, sample(generator(1), 0, scene, options))])
    assert np.array_equal(pair.degraded, scene.image)
    assert np.array_equal(pair.clean, scene.image)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_harm_grows_with_severity(kind: Any, seed: int) -> None:
    labels = (photograph(seed=7)[..., 0] // 40).astype(np.uint8)
    scene = scene_of(photograph(seed=seed), photograph(seed=seed + 20), segments=labels)
    options = ReflectionOptions(weight=kind, swap_share=0)
    severities = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 1)
    harms = [harm(scene, sample(generator(seed), severity, scene, options))[0] for severity in severities]
    assert harms == sorted(harms)
    assert harms[-1] > 4 * harms[2]


@pytest.mark.parametrize("level", range(5))
@pytest.mark.parametrize("seed", range(5))
def test_touched_area_lies_in_the_band_of_its_level(level: int, seed: int) -> None:
    scene = scene_of(photograph(seed=seed))
    low, high = BORDERS[level]
    area = harm(scene, drawn(seed, 0.2 * level + 0.1, scene))[1]
    assert low - 0.03 <= area <= high + 0.03


@pytest.mark.parametrize("seed", range(6))
def test_params_survive_json(seed: int) -> None:
    params = drawn(seed)
    assert TypeAdapter(Reflection).validate_python(json.loads(json.dumps(dataclasses.asdict(params)))) == params


@pytest.mark.parametrize("radius", [0.3, 1.0, 2.7, 8.0])
def test_disk_has_sum_one_and_its_centroid_in_the_middle(radius: float) -> None:
    kernel = disk(radius)
    offsets = np.arange(len(kernel)) - len(kernel) // 2
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    assert (kernel * offsets).sum() == pytest.approx(0, abs=1e-6)
    assert (kernel * offsets[:, None] ** 2).sum() == pytest.approx(radius**2 / 4, rel=0.1, abs=0.2)


def test_defocus_keeps_constants_and_adds_no_negative_light() -> None:
    light = decode(photograph())
    assert (defocus(light, 9.0) >= 0).all()
    np.testing.assert_allclose(defocus(np.full_like(light, 0.3), 5.0), 0.3, rtol=1e-5)


def test_procedural_rooms_differ_and_repeat() -> None:
    first, again, other = (interior((64, 80), seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.9
    assert (first >= 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_resolution_does_not_change_the_harm(seed: int) -> None:
    large, other = photograph(1024, 1280, seed), photograph(700, 1100, seed + 30)
    overlay = other if seed else None
    params = drawn(seed, 0.7, scene_of(large, overlay))
    copies = [cv2.resize(large, (1280 // k, 1024 // k), interpolation=cv2.INTER_AREA) for k in (1, 2, 4)]
    decibels = [10 * np.log10(harm(scene_of(image, overlay), params)[0]) for image in copies]
    assert max(decibels) - min(decibels) < 1.5


@pytest.mark.parametrize("shape", [(1, 1), (17, 1031), (1031, 17), (3, 2)])
@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("kind", KINDS)
def test_odd_pictures_neither_fail_nor_change_shape(shape: tuple[int, int], value: int, kind: Any) -> None:
    for overlay in (None, photograph(33, 57), flat(0, (1, 1))):
        scene = scene_of(np.full((*shape, 3), value, np.uint8), overlay, segments=np.zeros(shape, np.uint8))
        params = sample(generator(value), 0.9, scene, ReflectionOptions(weight=kind))
        assert np.isfinite((params.gain, params.cover)).all()
        assert render_params(scene, [(DEGRADATION, params)]).degraded.shape == (*shape, 3)


def test_apply_leaves_its_arguments_alone_and_repeats() -> None:
    scene = scene_of(photograph(), photograph(seed=6))
    light = decode(scene.image)
    params = drawn(3, exposure=1.0, weight="window")
    frames = [apply(Frame(degraded=light, clean=light), params, scene) for _ in range(2)]
    assert np.array_equal(light, decode(scene.image))
    assert np.array_equal(frames[0].degraded, frames[1].degraded)


def test_mirrored_photograph_keeps_its_aspect() -> None:
    overlay = np.zeros((300, 900, 3), np.uint8)
    cv2.circle(overlay, (450, 150), 60, (255, 255, 255), -1)
    params = everywhere(2, gain=2.0, ghost=0.0, row=0.5, column=0.5)
    layer = seen_through(params, scene_of(flat(0, (256, 256)), overlay)).degraded[..., 1]
    rows, columns = (np.flatnonzero(layer.max(axis=axis) > 0.5 * layer.max()) for axis in (1, 0))
    assert abs(len(rows) - len(columns)) <= 2
    assert len(rows) == pytest.approx(120 * 256 / 300, abs=3)


def test_what_is_mirrored_is_warm_cold_or_greenish_but_not_violet() -> None:
    tints = np.array([drawn(seed).tint for seed in range(24)])
    green = tints[:, 1] - (tints[:, 0] + tints[:, 2]) / 2
    assert (green >= 0).all()
    assert (green < 0.04).all()
    assert np.ptp(tints[:, 0] / tints[:, 2]) > 0.2


def test_a_small_photograph_is_enlarged_smoothly() -> None:
    ramp = np.broadcast_to(np.linspace(20, 230, 40).astype(np.uint8)[None, :, None], (40, 40, 3))
    scene = scene_of(flat(0, (512, 512)), np.ascontiguousarray(ramp))
    added = seen_through(everywhere(2, gain=2.0, ghost=0.0), scene).degraded[256, 60:450, 1]
    steps = np.diff(added)
    assert steps.max() < 4 * np.median(steps)


@pytest.mark.parametrize("seed", range(3))
def test_the_rim_of_a_clipped_wall_is_not_nicked_where_a_jpeg_has_rung(seed: int) -> None:
    overlay = flat(40, (512, 512))
    overlay[:, 200:] = 255
    rung = np.random.default_rng(seed).integers(244, 256, (64, 1), dtype=np.uint8)
    overlay[:, 200:208] = np.repeat(rung, 8, axis=0)[..., None]
    params = everywhere(seed, gain=2.0, ghost=0.0, highlights=6.0)
    added = seen_through(params, scene_of(flat(0, (512, 512)), overlay)).degraded[..., 1]
    rim = added[:, 202:206]
    assert rim.min() > 0.7 * rim.max()
    assert added[:, :190].max() < 0.01 * added.max()


def test_segments_reflect_as_wholes() -> None:
    segments = np.zeros((192, 256), np.uint8)
    segments[:, 128:] = 1
    scene = scene_of(flat(60, (192, 256)), flat(200, (192, 256)), segments=segments)
    params = drawn(5, 0.5, scene, weight="segments", softness=0.05, gain=4.0)
    added = np.stack(
        [
            (seen_through(dataclasses.replace(params, cover=level), scene).degraded - decode(scene.image)).mean(
                axis=(0, 2)
            )
            for level in np.linspace(-1.5, 1.5, 9)
        ]
    )
    steps = np.abs(np.diff(added, axis=1))[:, 1:-1].max(axis=0)
    assert 118 <= steps.argmax() <= 136
