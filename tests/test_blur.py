"""Laws of blur: what any spread of light obeys, and what each cause adds."""

import dataclasses
import json
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from degradations import load
from degradations.blur import (
    Blur,
    BlurOptions,
    Clip,
    Defocus,
    Linear,
    ObjectMotion,
    Rotation,
    Shake,
    Still,
    Web,
    sample,
)
from degradations.coding.web import Pass, wear
from degradations.numerics.light import decode, encode
from degradations.numerics.random import generator
from degradations.numerics.strips import whole
from degradations.optics import convolve as _convolve
from degradations.optics import psf
from degradations.optics.convolve import convolve, gaussian
from degradations.optics.layers import layered_defocus
from degradations.optics.motion import camera_path, moving_object
from degradations.optics.straight import motion
from degradations.pairs.recipes import draw, params_of
from degradations.pairs.render import render, render_params, replay
from storage.canonical import encode as canonical
from storage.errors import SourceError
from storage.records import Scene
from tests.scenes import leaves

BLUR = load("blur")
CAUSES = ("shake", "linear", "object_motion", "rotation", "defocus", "web")
LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)


def only(cause: str) -> BlurOptions:
    weights = dict.fromkeys((*CAUSES, "clip"), 0.0)
    return BlurOptions(**{**weights, cause: 1.0})


def scene_of(height: int = 160, width: int = 200, **changes: object) -> Scene:
    rows, columns = np.mgrid[:height, :width]
    segments = ((rows - height / 2) ** 2 + (columns - width / 2) ** 2 < (0.28 * height) ** 2).astype(np.uint8)
    depth = (0.9 * rows / max(1, height - 1)).astype(np.float32)
    scene = Scene(key="s", image=leaves(height, width), depth=depth, segments=segments)
    return dataclasses.replace(scene, **changes)


def drawn(cause: str, severity: float, scene: Scene, seed: int = 4) -> Blur:
    blur: Blur = sample(generator(seed), severity, scene, only(cause))
    return blur


def degraded(blur: Blur, scene: Scene) -> np.ndarray:
    return render_params(scene, [(BLUR, blur)]).degraded


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((one.astype(float) - other) ** 2) / 255**2 + 1e-12))


def impulse(row: int = 64, column: int = 61, side: int = 129) -> np.ndarray:
    light = np.zeros((side, side, 3), np.float32)
    light[row, column] = 1
    return light


def centroid(light: np.ndarray) -> np.ndarray:
    plane = light.sum(axis=2, dtype=np.float64)
    return np.array([(plane * place).sum() / plane.sum() for place in np.indices(plane.shape)])


def spread_of(light: np.ndarray) -> float:
    """RMS distance from the centroid."""
    plane = light.sum(axis=2, dtype=np.float64)
    rows, columns = np.indices(plane.shape) - centroid(light)[:, None, None]
    return float(np.sqrt((plane * (rows**2 + columns**2)).sum() / plane.sum()))


KERNELS = {
    **{
        f"shake-{seed}": psf.splat(psf.trajectory(31.0, seed, centripetal=0.4, jerk=1.5, tremor=0.6))
        for seed in range(6)
    },
    **{f"line-{angle}": psf.splat(psf.line(17.3, angle)) for angle in (0.0, 0.4, 1.2, 2.5)},
    **{f"disk-{blades}": psf.aperture(6.4, blades=blades, rotation=0.3, ring=0.5) for blades in (0, 5, 6, 9)},
    "generalised": psf.bell(3.0, 2.0, 0.4, beta=0.6, plateau=False),
    "plateau": psf.bell(3.0, 1.5, 0.4, beta=1.8, plateau=True),
}


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())
def test_kernels_keep_the_light_and_its_place(kernel: np.ndarray) -> None:
    reach = len(kernel) // 2
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    assert kernel.min() >= 0
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert abs((kernel * rows).sum()) < 1e-4
    assert abs((kernel * columns).sum()) < 1e-4


@pytest.mark.parametrize("cutoff", [0.3, 1.0, 2.9])
def test_ringing_overshoots_but_keeps_the_light_and_its_place(cutoff: float) -> None:
    kernel = psf.ringing(cutoff)
    assert kernel.min() < 0
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert np.array_equal(kernel, kernel[::-1, ::-1])


def test_a_trajectory_spreads_light_as_far_as_the_line_of_its_length() -> None:
    for seed in range(5):
        points = psf.trajectory(30.0, seed, centripetal=0.3, jerk=1.0, tremor=0.5)
        assert np.sqrt((points**2).sum(axis=1).mean()) == pytest.approx(30 / np.sqrt(12))


@pytest.mark.parametrize("radius", [4.0, 6.5, 11.0])
@pytest.mark.parametrize("blades", [0, 5, 8])
def test_an_opening_has_the_area_of_its_disk(radius: float, blades: int) -> None:
    kernel = psf.aperture(radius, blades=blades, rotation=0.1, ring=0.0)
    assert 1 / kernel.max() == pytest.approx(np.pi * radius**2, rel=0.15)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 1.7, 2.5, 4.6, 9.0])
@pytest.mark.parametrize("column", [60, 61, 62, 63])
def test_a_gaussian_has_its_variance_and_stays_in_place_at_every_phase(sigma: float, column: int) -> None:
    blurred = gaussian(impulse(column=column), sigma)
    assert np.abs(centroid(blurred) - (64, column)).max() < 1e-3
    assert spread_of(blurred) == pytest.approx(np.sqrt(2) * sigma, rel=5e-3)


@pytest.mark.parametrize("length", [0.5, 6.0, 15.0, 31.0, 58.0])
@pytest.mark.parametrize("angle", [0.0, 0.7, 1.6, 2.8])
def test_a_straight_motion_has_its_length_and_stays_in_place(length: float, angle: float) -> None:
    blurred = motion(impulse(), length, angle)
    assert blurred.sum() == pytest.approx(3, rel=1e-5)
    assert np.abs(centroid(blurred) - (64, 61)).max() < 0.05
    assert spread_of(blurred) == pytest.approx(length / np.sqrt(12), abs=0.55)


@pytest.mark.parametrize("shape", [(70, 90, 3), (5, 7, 3), (33, 64), (40, 1, 3), (64, 100, 4)])
@pytest.mark.parametrize("kernel", [KERNELS["line-0.4"], KERNELS["shake-1"], KERNELS["generalised"]], ids=len)
def test_every_way_to_convolve_is_the_slow_sum(shape: tuple[int, ...], kernel: np.ndarray) -> None:
    light = np.random.default_rng(0).random(shape, dtype=np.float32)
    turned = np.ascontiguousarray(kernel[::-1, ::-1])
    slow = cv2.filter2D(light.astype(np.float64), -1, turned.astype(np.float64), borderType=cv2.BORDER_REFLECT_101)
    for way in (
        convolve(light, kernel),
        whole(_convolve._tiling(light, turned), light),
        _convolve._fourier(light, kernel),
    ):
        assert np.abs(way - slow.reshape(shape)).max() < 1e-5


@pytest.mark.parametrize("cause", CAUSES)
def test_harm_grows_with_severity_and_nothing_happens_at_0(cause: str) -> None:
    scene = scene_of()
    harm = [psnr(scene.image, degraded(drawn(cause, severity, scene), scene)) for severity in LEVELS]
    assert np.array_equal(degraded(drawn(cause, 0.0, scene), scene), scene.image)
    assert all(mild > strong + 0.3 for mild, strong in pairwise(harm))


@pytest.mark.parametrize("cause", CAUSES)
def test_severity_changes_nothing_but_strength(cause: str) -> None:
    scene = scene_of()
    strengths = {"length", "radius", "reach", "sigma", "turns"}
    weak, strong = (dataclasses.asdict(drawn(cause, severity, scene).motion) for severity in (0.3, 0.9))
    assert {name for name in weak if weak[name] != strong[name]} <= strengths


@pytest.mark.parametrize("cause", [*CAUSES, "clip"])
def test_params_survive_json_and_give_the_same_bytes(cause: str) -> None:
    scene = scene_of(96, 120)
    frames = np.stack([np.roll(scene.image, shift, axis=1) for shift in (-4, -2, 0, 2, 4)])
    scene = dataclasses.replace(scene, frames=frames)
    recipe = draw("blur", 0.6, scene, seed=11, options={"blur": only(cause)})
    again = params_of(BLUR, dataclasses.replace(recipe.steps[0], params=json.loads(canonical(recipe.steps[0].params))))
    assert again == params_of(BLUR, recipe.steps[0])
    inputs = {"depth": scene.depth, "segments": scene.segments, "frames": frames}
    before = scene.image.copy()
    assert np.array_equal(replay(scene.image, recipe, inputs).degraded, render(scene, recipe).degraded)
    assert np.array_equal(scene.image, before)


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("code", [0, 128, 255])
def test_an_even_picture_stays_as_it_is(cause: str, code: int) -> None:
    scene = scene_of(image=np.full((160, 200, 3), code, np.uint8))
    assert np.abs(degraded(drawn(cause, 0.8, scene), scene).astype(int) - code).max() <= (0 if code != 128 else 1)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.sampled_from([(1, 1), (1, 9), (2, 3), (17, 1031), (16, 16), (33, 65)]),
    cause=st.sampled_from([*CAUSES, "chain"]),
    severity=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_any_picture_of_any_size_is_blurred(shape: tuple[int, int], cause: str, severity: float, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (*shape, 3)).astype(np.uint8)
    scene = scene_of(*shape, image=noise)
    options = BlurOptions(preset="realrestorer") if cause == "chain" else dataclasses_only(cause)
    blur = sample(generator(seed), severity, scene, options)
    assert degraded(blur, scene).shape == noise.shape


def dataclasses_only(cause: str) -> BlurOptions:
    """Options for `cause`, and for shake where a scene of a few pixels has no object."""
    return only(cause).model_copy(update={"shake": 1e-6})


def test_light_is_averaged_and_not_its_code() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 250
    scene = scene_of(64, 64, image=stripes)
    blurred = degraded(Blur(highlights=0.0, motion=Linear(length=640.0, angle=np.pi / 2)), scene)
    half = encode(decode(stripes[:1, :1]) / 2)[0, 0, 0]
    assert abs(int(blurred[32, 32, 0]) - int(half)) <= 1


def test_clipped_lamps_leave_brighter_trails() -> None:
    image = np.full((128, 128, 3), 20, np.uint8)
    cv2.circle(image, (64, 64), 4, (255, 255, 255), -1)
    scene = scene_of(128, 128, image=image)
    plain, bright = (
        degraded(Blur(highlights=lamps, motion=Linear(length=240.0, angle=0.0)), scene) for lamps in (0.0, 6.0)
    )
    assert (bright.astype(int) - 20).sum() > 1.5 * (plain.astype(int) - 20).sum()
    assert np.array_equal(bright[:, :40], plain[:, :40])


@pytest.mark.parametrize("place", [(30, 40), (64, 64), (100, 20), (120, 125)])
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_a_turning_camera_keeps_every_point_in_place(place: tuple[int, int], seed: int) -> None:
    scene = scene_of(150, 150)
    turns = drawn("rotation", 0.8, scene, seed).motion.turns
    light = cv2.GaussianBlur(impulse(*place, side=150), (0, 0), 1.0)
    assert np.abs(centroid(camera_path(light, turns)) - place).max() < 0.05


def test_a_camera_that_does_not_turn_changes_nothing() -> None:
    light = decode(leaves(40, 50))
    assert np.array_equal(camera_path(light, ((0.0,) * 4, (0.0,) * 4)), light)


def test_beyond_the_reach_of_a_moving_object_nothing_changes() -> None:
    scene = scene_of()
    length = 20.0
    moved = moving_object(decode(scene.image), scene.segments == 1, length, 1.2)
    beyond = cv2.dilate((scene.segments == 1).astype(np.uint8), np.ones((25, 25), np.uint8)) == 0
    assert beyond.sum() > 5000
    assert np.array_equal(moved[beyond], decode(scene.image)[beyond])


def test_behind_a_moving_object_its_surroundings_go_on() -> None:
    image = np.full((120, 120, 3), 60, np.uint8)
    inside = np.zeros((120, 120), bool)
    inside[40:80, 40:80] = True
    image[inside] = 220
    moved = moving_object(decode(image), inside, 24.0, np.pi / 2)
    assert np.ptp(moved[..., 0]) <= np.ptp(decode(image)[..., 0]) + 1e-5
    assert np.all(np.diff(moved[60, 20:60, 0]) >= -1e-5)
    expected = float(decode(image)[inside].mean() + decode(image)[0, 0, 0]) / 2
    assert moved[60, 40, 0] == pytest.approx(expected, rel=0.12)


def test_a_circle_of_confusion_grows_linearly_with_disparity() -> None:
    light, spreads = np.zeros((129, 129, 3), np.float32) + impulse(), []
    for disparity in (0.5, 0.6, 0.7, 0.9):
        depth = np.full((129, 129), disparity, np.float32)
        depth[0, 0], depth[0, 1] = 0.5, 0.9
        kernel = lambda radius: psf.aperture(radius, blades=0, rotation=0.0, ring=0.0)  # noqa: E731
        spreads.append(spread_of(layered_defocus(light, depth, focus=0.5, reach=20.0, kernel=kernel)[40:90, 40:90]))
    assert spreads[0] < 1e-3
    assert np.array(spreads[1:]) == pytest.approx(np.array([2.0, 4.0, 8.0]) / np.sqrt(2), abs=0.3)


def test_what_is_in_focus_stays_sharp_before_a_blurred_background() -> None:
    scene = scene_of()
    depth = np.where(scene.segments == 1, 0.9, 0.1).astype(np.float32)
    scene = dataclasses.replace(scene, depth=depth)
    blur = Defocus(radius=40.0, focus=0.9, reach=50.0, blades=7, rotation=0.2, ring=0.3)
    out = degraded(Blur(highlights=0.0, motion=blur), scene)
    near, far = scene.segments == 1, scene.segments == 0
    assert np.abs(out.astype(int) - scene.image)[near].max() <= 1
    assert np.abs(out.astype(int) - scene.image)[far].mean() > 5


def test_a_blurred_foreground_spreads_over_what_is_sharp_behind() -> None:
    image = np.full((120, 120, 3), 30, np.uint8)
    image[:, 60:] = 200
    depth = np.where(np.arange(120) >= 60, 0.9, 0.1).astype(np.float32)[None].repeat(120, axis=0)
    scene = scene_of(120, 120, image=image, depth=np.ascontiguousarray(depth))
    blur = Defocus(radius=60.0, focus=0.1, reach=75.0, blades=0, rotation=0.0, ring=0.0)
    row = degraded(Blur(highlights=0.0, motion=blur), scene)[60, :, 0].astype(int)
    assert row[56] > 60
    assert np.abs(row[:45] - 30).max() <= 1
    assert np.all(np.diff(row) >= -1)


def test_without_what_it_reads_a_blur_says_what_is_missing() -> None:
    scene = scene_of(depth=None, segments=None)
    for cause, missing in (
        (ObjectMotion(length=9.0, angle=0.0, segment=1), "segments"),
        (Defocus(radius=3.0, focus=0.5, reach=9.0, blades=0, rotation=0.0, ring=0.0), "depth"),
        (Clip(span=2.0), "frames"),
    ):
        with pytest.raises(ValueError, match=missing):
            degraded(Blur(highlights=0.0, motion=cause), scene)


def test_scenes_without_annotations_get_causes_that_need_none() -> None:
    scene = scene_of(depth=None, segments=None)
    causes = {sample(generator(seed), 0.5, scene, BlurOptions()).motion.cause for seed in range(40)}
    assert causes == {"shake", "linear", "rotation", "defocus", "web"}


RESOLVED = {
    "shake": Shake(length=30.0, seed=3, centripetal=0.3, jerk=1.0, tremor=0.4),
    "linear": Linear(length=30.0, angle=0.6),
    "rotation": Rotation(turns=((-0.008, -0.004, -0.02, 0.0), (0.002, 0.0, 0.003, 0.0), (0.006, 0.004, 0.017, 0.0))),
    "defocus": Defocus(radius=9.0, focus=None, reach=0.0, blades=6, rotation=0.1, ring=0.0),
    "layers": Defocus(radius=9.0, focus=0.1, reach=14.0, blades=0, rotation=0.1, ring=0.0),
    "gaussian": Web(kernel="gaussian", sigma=5.0, aspect=1.0, angle=0.0, beta=1.0),
    "bell": Web(kernel="generalised", sigma=5.0, aspect=2.0, angle=0.7, beta=0.7),
    "ringing": Web(kernel="ringing", sigma=6.0, aspect=1.0, angle=0.0, beta=1.0),
    "object": ObjectMotion(length=40.0, angle=1.4, segment=1),
}


@pytest.mark.parametrize("cause", RESOLVED.values(), ids=RESOLVED.keys())
def test_a_blur_harms_alike_at_every_resolution(cause: object) -> None:
    small, harms = leaves(192, 192), []
    for side in (192, 384, 768):
        image = cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)
        scene = scene_of(side, side, image=image)
        harms.append(psnr(image, degraded(Blur(highlights=0.0, motion=cause), scene)))
    assert np.ptp(harms) < 1.5


@pytest.mark.parametrize("interpolation", ["area", "bilinear", "bicubic"])
@pytest.mark.parametrize("enlargement", ["bilinear", "bicubic"])
def test_a_pass_through_the_web_does_not_shift(interpolation: str, enlargement: str) -> None:
    blob = np.zeros((150, 131, 3), np.float32)
    blob[77, 61] = 1
    image = encode(cv2.GaussianBlur(blob, (0, 0), 9) * np.float32(400))
    step = Pass(
        sigma=2.3,
        cutoff=0.0,
        scale=0.27,
        interpolation=interpolation,
        noise=0.0,
        photons=0.0,
        grey=False,
        quality=0,
        seed=0,
    )
    assert np.abs(centroid(wear(image, (step, step), enlargement)) - centroid(image)).max() < 0.1


def test_released_chain_changes_nothing_at_0_and_harms_more_with_severity() -> None:
    scene, options = scene_of(192, 192), BlurOptions(preset="realrestorer")
    still = sample(generator(2), 0.0, scene, options)
    assert still.motion == Still()
    for seed in range(4):
        harm = [psnr(scene.image, degraded(sample(generator(seed), s, scene, options), scene)) for s in LEVELS]
        assert all(mild > strong for mild, strong in pairwise(harm))


def test_no_possible_cause_is_an_error() -> None:
    with pytest.raises(SourceError, match="no cause"):
        sample(generator(0), 0.5, scene_of(segments=None), only("object_motion"))


def test_scenery_does_not_move() -> None:
    segments = np.zeros((160, 200), np.uint8)
    segments[:60] = 1  # the sky
    segments[60:160, :40] = 2  # a wall at the left that reaches the ground
    segments[90:140, 90:130] = 3  # someone in the middle
    depth = np.broadcast_to(np.linspace(0, 1, 160, dtype=np.float32)[:, None], segments.shape)
    scene = scene_of(segments=segments, depth=np.ascontiguousarray(depth))
    drawn = {sample(generator(seed), 0.5, scene, only("object_motion")).motion.segment for seed in range(12)}
    assert drawn == {3}
