"""The laws of flare: light is only added, linear in the gain, of the source's colour, over the area asked for."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from degradations._contract import Frame
from degradations._glare import stray_light
from degradations._light import decode
from degradations._random import generator
from degradations._render import render_params
from degradations.flare import DEGRADATION, Flare, FlareOptions, apply, sample
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
