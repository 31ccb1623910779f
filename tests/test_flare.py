"""The laws of flare: light is only added, linear in the gain, of the source's colour, over the area asked for."""

import dataclasses
import json
from typing import Any

import cv2
import numpy as np
import pytest
from pydantic import TypeAdapter

from degradations.flare import DEGRADATION, Flare, FlareOptions, _draw, apply, sample
from degradations.numerics.light import decode, encode, linear_to_srgb
from degradations.numerics.random import generator
from degradations.optics.glare import stray_light
from degradations.pairs.contract import Frame
from degradations.pairs.render import render_params
from storage.records import Image, Scene

BORDERS = ((0.0, 0.10), (0.10, 0.20), (0.20, 0.50), (0.50, 0.80), (0.80, 1.0))


def photograph(height: int = 192, width: int = 256, seed: int = 0) -> Image:
    """A picture with smooth tones, edges and nothing clipped."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width] / min(height, width)
    waves = [np.sin(rows * a + columns * b + c) for a, b, c in rng.uniform(2, 9, (3, 3))]
    blocks = (np.floor(rows * 5) + np.floor(columns * 4)) % 2
    return np.clip(np.stack(waves, axis=2) * 50 + 95 + 25 * blocks[..., None], 0, 235).astype(np.uint8)


def scene_of(image: Image, **kwargs: Any) -> Scene:
    return Scene(key="a", image=image, **kwargs)


def drawn(seed: int, severity: float = 0.6, scene: Scene | None = None, **changes: Any) -> Flare:
    flare = sample(generator(seed), severity, scene or scene_of(photograph()), FlareOptions())
    return dataclasses.replace(flare, **changes)


def flared(params: Flare, scene: Scene) -> Frame:
    light = decode(scene.image)
    return apply(Frame(degraded=light, clean=light), params, scene)


def harm(scene: Scene, params: Flare) -> tuple[float, float]:
    """Mean squared error and share of visibly changed pixels."""
    pair = render_params(scene, [(DEGRADATION, params)])
    difference = np.abs(pair.degraded.astype(int) - pair.clean)
    return float((difference**2).mean()), float((difference.max(axis=2) > 5.1).mean())


@pytest.mark.parametrize("seed", range(12))
def test_light_is_only_added(seed: int) -> None:
    scene = scene_of(photograph())
    frame = flared(drawn(seed), scene)
    assert (frame.degraded >= decode(scene.image)).all()
    assert (frame.degraded >= frame.clean).all()


@pytest.mark.parametrize("seed", range(6))
def test_severity_zero_changes_no_byte(seed: int) -> None:
    scene = scene_of(photograph())
    pair = render_params(scene, [(DEGRADATION, drawn(seed, severity=0))])
    assert np.array_equal(pair.degraded, scene.image)
    assert np.array_equal(pair.clean, scene.image)


@pytest.mark.parametrize("seed", range(6))
def test_stray_light_is_linear_in_the_gain(seed: int) -> None:
    scene = scene_of(photograph())
    once, thrice = (flared(drawn(seed, gain=gain), scene) for gain in (0.01, 0.03))
    np.testing.assert_allclose(thrice.degraded - thrice.clean, 3 * (once.degraded - once.clean), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_far_glare_has_the_colour_of_its_source(seed: int) -> None:
    colour = np.array([1.0, 0.5, 0.25])
    params = drawn(
        seed, source="off_frame", sources=((-0.3, 0.5, *colour),), streaks=0.0, halo=0.0, ghosts=(), anamorphic=0.0
    )
    field = stray_light(params, (256, 256), (1.0,))
    np.testing.assert_allclose(field, field[..., :1] * colour.astype(np.float32), rtol=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_a_veil_is_all_that_is_the_same_everywhere(seed: int) -> None:
    """Whatever else is drawn, stray light falls with the distance: no lens shifts the mean of the whole picture."""
    source = (0.5, -40.0, 1.0, 1.0, 1.0)
    far = drawn(seed, source="off_frame", sources=(source,), veil=0.0, grease=0.0, ghosts=(), anamorphic=0.0)
    veiled = dataclasses.replace(far, veil=0.3)
    none, even = (stray_light(params, (128, 128), (1.0,)) for params in (far, veiled))
    near = stray_light(dataclasses.replace(far, sources=((0.5, 0.5, 1.0, 1.0, 1.0),)), (128, 128), (1.0,))
    assert none.max() < 0.02 * near.mean()
    np.testing.assert_allclose(even - none, 0.3, atol=1e-6)


@pytest.mark.parametrize(("axis", "flip"), [(0, "flip_rows"), (1, "flip_columns")])
def test_mirrored_lens_and_source_give_the_mirrored_field(axis: int, flip: str) -> None:
    params = drawn(3, source="off_frame", sources=((0.3, 0.2, 1.0, 0.9, 0.8),))
    row, column, *colour = params.sources[0]
    moved = (1 - row, column) if axis == 0 else (row, 1 - column)
    mirrored = dataclasses.replace(params, sources=((*moved, *colour),), **{flip: not getattr(params, flip)})
    field, image = (stray_light(p, (256, 320), (1.0,)) for p in (params, mirrored))
    np.testing.assert_allclose(np.flip(image, axis), field, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("seed", range(10))
def test_harm_grows_with_severity(seed: int) -> None:
    scene = scene_of(photograph(seed=seed))
    harms = [harm(scene, drawn(seed, severity, scene))[0] for severity in (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 1)]
    assert harms == sorted(harms)
    assert harms[-1] > 4 * harms[2]


@pytest.mark.parametrize("level", range(5))
@pytest.mark.parametrize("seed", range(5))
def test_touched_area_lies_in_the_band_of_its_level(level: int, seed: int) -> None:
    scene = scene_of(photograph(seed=seed))
    low, high = BORDERS[level]
    area = harm(scene, drawn(seed, 0.2 * level + 0.1, scene))[1]
    assert low - 0.02 <= area <= high + 0.02


def test_nuisance_values_do_not_depend_on_severity() -> None:
    mild, extreme = (dataclasses.asdict(drawn(5, severity)) for severity in (0.1, 0.9))
    assert mild.pop("gain") < extreme.pop("gain")
    assert mild == extreme


@pytest.mark.parametrize("seed", range(6))
def test_params_survive_json(seed: int) -> None:
    params = drawn(seed)
    assert TypeAdapter(Flare).validate_python(json.loads(json.dumps(dataclasses.asdict(params)))) == params


def inserted(**changes: Any) -> Flare:
    lamp = {"source": "inserted", "sources": ((0.5, 0.5, 1.0, 0.9, 0.8),), "lamp_radius": 40.0, "lamp_light": 4.0}
    return drawn(7, **{**lamp, **changes})


def test_inserted_lamp_stands_in_both_images_at_the_same_place() -> None:
    scene = scene_of(photograph(seed=3))
    added = flared(inserted(), scene).clean - decode(scene.image)
    row, column = np.unravel_index(added.sum(axis=2).argmax(), added.shape[:2])
    assert abs(row - 96) <= 1
    assert abs(column - 128) <= 1
    assert not added[:60].any()


def test_lamps_are_put_in_where_it_is_bright_in_the_upper_part() -> None:
    image = np.full((192, 256, 3), 40, np.uint8)
    image[:110, 128:] = 190
    image[175:] = 220
    found = [drawn(seed, scene=scene_of(image)) for seed in range(40)]
    rows, columns = np.array([flare.sources[0][:2] for flare in found if flare.source == "inserted"]).T
    assert len(rows) > 8
    assert (rows < 0.6).all()
    assert (columns > 0.45).mean() > 0.9


def test_by_day_no_lamp_is_put_in_before_walls_and_tables() -> None:
    wall = photograph(seed=2) // 2 + np.random.default_rng(0).integers(0, 90, (192, 256, 1), dtype=np.uint8)
    wall = cv2.resize(wall[::8, ::8], (256, 192), interpolation=cv2.INTER_NEAREST)
    page = np.full((192, 256, 3), 235, np.uint8)
    below_trees = np.full((192, 256, 3), 40, np.uint8)
    below_trees[60:110] = 220
    kinds = {drawn(seed, scene=scene_of(image)).source for image in (wall, page, below_trees) for seed in range(20)}
    assert kinds == {"off_frame"}


def test_by_day_the_source_has_the_colour_of_the_sun() -> None:
    """From low and golden to white: neither sodium nor the blue of an LED shines in a day's sky, at night both do."""
    day, night = scene_of(photograph()), scene_of((photograph() // 6).astype(np.uint8))
    suns, lamps = (np.array([drawn(seed, scene=scene).sources[0][2:] for seed in range(60)]) for scene in (day, night))
    assert (suns[:, 2] > 0.4).all()
    assert (suns[:, 2] < 1.05 * suns[:, 0]).all()
    assert (lamps[:, 2] < 0.2).any()
    assert (lamps[:, 2] > 1.05 * lamps[:, 0]).any()


def test_at_night_a_lamp_is_put_in_where_it_is_lit() -> None:
    night = np.full((192, 256, 3), 10, np.uint8)
    dark = {drawn(seed, scene=scene_of(night)).source for seed in range(20)}
    night[40:100, 100:160] = 140
    found = [drawn(seed, scene=scene_of(night)) for seed in range(40)]
    places = np.array([flare.sources[0][:2] for flare in found if flare.source == "inserted"])
    assert dark == {"off_frame"}
    assert len(places) > 5
    assert (places > (0.18, 0.36)).all()
    assert (places < (0.54, 0.65)).all()


@pytest.mark.parametrize("seed", range(4))
def test_the_star_of_any_opening_is_its_own_image_turned_by_half(seed: int) -> None:
    """The spectrum of what is real is symmetric (Goodman): five blades make ten streaks, as long as those opposite."""
    params = drawn(
        seed, source="inserted", sources=((0.5, 0.5, 1, 1, 1),), streaks=2.0, dust=30, ghosts=(), grease=0, anamorphic=0
    )
    with_star, without = (
        stray_light(dataclasses.replace(params, streaks=streaks), (256, 256), (1.0,)) for streaks in (2.0, 0.0)
    )
    star = with_star - without
    np.testing.assert_allclose(star, star[::-1, ::-1], atol=0.01 * star.max())


@pytest.mark.parametrize("seed", range(6))
def test_a_film_on_the_lens_is_far_out_of_focus(seed: int) -> None:
    """Its light changes over the width of the picture, hardly within a sixteenth: no smoke hangs before the scene."""
    params = drawn(seed, source="off_frame", sources=((0.5, -40.0, 1, 1, 1),), veil=0.5, ghosts=(), grease=0.65)
    field = np.log(stray_light(params, (256, 256), (1.0,))[..., 1])
    detail = field - cv2.GaussianBlur(field, (0, 0), 16)
    assert field.std() > 0.3
    assert detail.std() < 0.15


@pytest.mark.parametrize("source", ["highlight", "off_frame"])
def test_source_of_the_photograph_or_off_the_frame_leaves_the_clean_image_alone(source: Any) -> None:
    scene = scene_of(photograph())
    assert render_params(scene, [(DEGRADATION, inserted(source=source))]).clean is scene.image


def test_highlight_is_found_where_the_lamp_is() -> None:
    image = (photograph() // 4).astype(np.uint8)
    cv2.circle(image, (200, 40), 4, (255, 255, 255), -1)
    found = [drawn(seed, scene=scene_of(image)) for seed in range(20)]
    places = [flare.sources[0][:2] for flare in found if flare.source == "highlight"]
    assert places
    np.testing.assert_allclose(places, [(40.5 / 192, 200.5 / 256)] * len(places), atol=0.01)


def test_lamp_behind_a_segment_is_hidden_by_it_and_flares_less() -> None:
    segments = np.zeros((192, 256), np.uint8)
    segments[:, 132:] = 1
    free, half = (scene_of(photograph(), segments=labels) for labels in (np.zeros_like(segments), segments))
    whole, hidden = flared(inserted(), free), flared(inserted(), half)
    np.testing.assert_array_equal(hidden.clean[:, 132:], decode(half.image)[:, 132:])
    np.testing.assert_array_equal(hidden.clean[:, :132], whole.clean[:, :132])
    glare = [(frame.degraded - frame.clean).mean() for frame in (whole, hidden)]
    assert 0.3 < glare[1] / glare[0] < 0.9


def test_pattern_is_added_gamma_decoded_and_mirrored_as_recorded() -> None:
    pattern = photograph(192, 256, seed=8)
    scene = scene_of(photograph(), overlays={"flare": pattern})
    options = FlareOptions(pattern_share=1)
    params = dataclasses.replace(
        sample(generator(3), 0.5, scene, options), gain=0.5, flip_rows=True, flip_columns=False
    )
    added = flared(params, scene).degraded - decode(scene.image)
    assert params.source == "pattern"
    np.testing.assert_allclose(added, 0.5 * (pattern[::-1] / 255) ** params.pattern_gamma, atol=2e-3)


def test_patterns_are_mirrored_both_ways_and_used_in_the_share_asked_for() -> None:
    scene = scene_of(photograph(), overlays={"flare": photograph(seed=8)})
    found = [sample(generator(seed), 0.5, scene, FlareOptions(pattern_share=0.5)) for seed in range(40)]
    patterns = [flare for flare in found if flare.source == "pattern"]
    assert 8 < len(patterns) < 32
    assert len({(flare.flip_rows, flare.flip_columns) for flare in patterns}) == 4


def test_ghosts_lie_on_the_line_from_the_source_through_the_optical_centre() -> None:
    ghost = (0.6, 0.05, 50.0, 1.0, 1.0, 1.0, 0.0)
    source = (0.2, 0.3, 1.0, 1.0, 1.0)
    bare, full = (drawn(2, sources=(source,), ghosts=ghosts, grease=0.0) for ghosts in ((), (ghost,)))
    added = (stray_light(full, (256, 256), (1.0,)) - stray_light(bare, (256, 256), (1.0,)))[..., 1]
    rows, columns = np.mgrid[:256, :256] + 0.5
    centroid = (rows * added).sum() / added.sum() / 256, (columns * added).sum() / added.sum() / 256
    np.testing.assert_allclose(centroid, (0.5 + 0.6 * 0.3, 0.5 + 0.6 * 0.2), atol=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_resolution_does_not_change_the_harm(seed: int) -> None:
    large = photograph(1024, 1280, seed)
    params = drawn(seed, 0.7, scene_of(large))
    copies = [cv2.resize(large, (1280 // k, 1024 // k), interpolation=cv2.INTER_AREA) for k in (1, 2, 4)]
    decibels = [10 * np.log10(harm(scene_of(image), params)[0]) for image in copies]
    assert max(decibels) - min(decibels) < 1.5


@pytest.mark.parametrize("shape", [(1, 1), (17, 1031), (1031, 17), (3, 2)])
@pytest.mark.parametrize("value", [0, 255])
def test_odd_pictures_neither_fail_nor_change_shape(shape: tuple[int, int], value: int) -> None:
    for seed in range(4):
        scene = scene_of(np.full((*shape, 3), value, np.uint8), segments=np.zeros(shape, np.uint8))
        params = drawn(seed, 0.9, scene)
        assert np.isfinite(params.gain)
        assert render_params(scene, [(DEGRADATION, params)]).degraded.shape == (*shape, 3)


def test_apply_leaves_its_arguments_alone_and_repeats() -> None:
    scene = scene_of(photograph())
    light = decode(scene.image)
    frames = [apply(Frame(degraded=light, clean=light), inserted(), scene) for _ in range(2)]
    assert np.array_equal(encode(light), scene.image)
    assert np.array_equal(frames[0].degraded, frames[1].degraded)


def largest_correlation(count: int) -> float:
    """The largest of all correlations of two stray lights, as a screen shows them, of the seeds below `count`."""
    scene = scene_of(np.full((64, 64, 3), 90, np.uint8))
    seen = np.empty((count, 64 * 64 * 3), np.float32)
    for seed in range(count):
        params = _draw(generator(seed), scene, FlareOptions())
        field = stray_light(params, (64, 64), (1.0,))
        seen[seed] = linear_to_srgb(np.minimum(field * (0.05 / np.median(field)), 1)).ravel()
    seen -= seen.mean(axis=1, keepdims=True)
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    return max(float(np.triu(seen[at : at + 500] @ seen.T, at + 1).max()) for at in range(0, count, 500))


def test_no_two_of_150_lenses_make_the_same_flare() -> None:
    assert largest_correlation(150) < 0.95


@pytest.mark.slow
def test_no_two_of_3000_lenses_make_the_same_flare() -> None:
    assert largest_correlation(3000) < 0.95
