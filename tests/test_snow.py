"""Snow: flakes by layers of depth, and that a tenth degradation is one file."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
from pydantic import TypeAdapter

from degradations import load, names
from degradations.numerics.light import decode
from degradations.numerics.random import generator
from degradations.pairs.contract import Frame
from degradations.pairs.recipes import draw
from degradations.pairs.render import render, render_params, replay
from degradations.snow import LAYERS, Snow, fall, layer, sample
from storage.records import Scene

SNOW = load("snow")


def scene_of(height: int = 256, width: int = 320, grey: int = 60, near: float = 0.0) -> Scene:
    depth = np.full((height, width), near, np.float32)
    return Scene(key="s", image=np.full((height, width, 3), grey, np.uint8), depth=depth)


def drawn(severity: float, scene: Scene, seed: int = 3, **changes: object) -> Snow:
    return dataclasses.replace(sample(generator(seed), severity, scene, SNOW.options()), **changes)


def test_snow_is_found_by_its_file_alone() -> None:
    assert "snow" in names()


def test_severity_zero_changes_no_byte() -> None:
    scene = scene_of()
    assert np.array_equal(render_params(scene, [(SNOW, drawn(0.0, scene))]).degraded, scene.image)


def test_harm_grows_with_severity() -> None:
    scene = scene_of()
    for seed in range(3):
        images = [render_params(scene, [(SNOW, drawn(level / 5, scene, seed))]).degraded for level in range(6)]
        harms = [float(np.square(image.astype(float) - scene.image).mean()) for image in images]
        assert harms == sorted(harms)
        assert harms[-1] > harms[1] > 0


def test_light_lies_between_the_scene_and_the_flakes() -> None:
    scene = scene_of(grey=30)
    params = drawn(1.0, scene)
    frame = Frame(degraded=decode(scene.image), clean=decode(scene.image))
    light = fall(frame, params, scene).degraded
    ends = np.stack([frame.clean[0, 0], np.array(params.light, np.float32)])
    assert np.all(light >= ends.min(axis=0) - 1e-6)
    assert np.all(light <= ends.max(axis=0) + 1e-6)


def test_flakes_fall_only_before_what_is_farther_away() -> None:
    near, far = scene_of(near=1.0), scene_of(near=0.0)
    params = drawn(1.0, far, veil=0.0)
    frame = Frame(degraded=decode(near.image), clean=decode(near.image))
    covered = [(fall(frame, params, scene).degraded != frame.degraded).mean() for scene in (near, far)]
    assert 0 < covered[0] < covered[1]


def test_near_flakes_are_few_and_large() -> None:
    params = drawn(1.0, scene_of(), defocus=0.0, fall=0.0)
    planes = [layer((1024, 1024), index, params) for index in range(len(LAYERS))]
    parts = [cv2.connectedComponentsWithStats((plane > 60).astype(np.uint8)) for plane in planes]
    counts = [found[0] - 1 for found in parts]
    areas = [float(np.median(found[2][1:, cv2.CC_STAT_AREA])) for found in parts]
    assert counts == sorted(counts)
    assert areas == sorted(areas, reverse=True)


def test_a_recipe_replays_byte_for_byte() -> None:
    scene = scene_of()
    recipe = draw("snow", 0.7, scene, seed=5)
    assert scene.depth is not None
    again = replay(scene.image, recipe, {"depth": scene.depth})
    assert np.array_equal(again.degraded, render(scene, recipe).degraded)


def test_params_survive_json() -> None:
    params = drawn(0.8, scene_of())
    assert TypeAdapter(Snow).validate_python(json.loads(json.dumps(dataclasses.asdict(params)))) == params


@pytest.mark.parametrize("shape", [(1, 1), (17, 1031), (300, 257)])
@pytest.mark.parametrize("value", [0, 255])
def test_odd_sizes_and_blank_images_give_numbers(shape: tuple[int, int], value: int) -> None:
    scene = scene_of(*shape, grey=value)
    frame = Frame(degraded=decode(scene.image), clean=decode(scene.image))
    light = fall(frame, drawn(1.0, scene), scene).degraded
    assert np.isfinite(light).all()
    assert light.shape == (*shape, 3)
