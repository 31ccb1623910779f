"""Work by rows: what `render` does strip by strip is what the parts do one after another to the whole picture."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import skimage.data

from degradations import load, names
from degradations.blur import Blur, Web
from degradations.numerics.light import decode, encode, expand_highlights
from degradations.numerics.random import gaussian_field
from degradations.numerics.strips import strips, whole
from degradations.pairs.contract import Frame, Stage
from degradations.pairs.render import render_params
from storage.records import Image, Scene
from tests.scenes import annotated, sampled

SHAPE = (101, 1201)  # five strips, the last of five rows


def wide_scene() -> Scene:
    astronaut = np.asarray(skimage.data.astronaut())[100 : 100 + SHAPE[0]]
    image = np.ascontiguousarray(np.hstack((astronaut, astronaut[:, ::-1], astronaut))[:, : SHAPE[1]])
    image[30:50, 700:740] = 255
    return annotated(image)


def one_after_another(scene: Scene, name: str, params: Any) -> Image:
    """Return the degraded side with every part done to the whole picture before the next."""
    light = decode(scene.image)
    frame, state = Frame(degraded=light, clean=light), Stage.EXPOSURE
    for part in sorted(load(name).parts, key=lambda part: part.stage):
        if part.stage is Stage.CODEC and frame.degraded.dtype != np.uint8:
            frame = replace(frame, degraded=encode(frame.degraded))
        elif state < part.stage < Stage.CODEC:
            frame, state = replace(frame, degraded=np.clip(frame.degraded, 0, 1)), Stage.ISP
        frame = part.apply(frame, params, scene)
    return frame.degraded if frame.degraded.dtype == np.uint8 else encode(frame.degraded)


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("seed", range(3))
def test_strips_through_all_parts_are_part_after_part(name: str, seed: int) -> None:
    scene = wide_scene()
    params = sampled(name, 0.7, scene, seed)
    assert len(list(strips(SHAPE))) == 5
    np.testing.assert_array_equal(
        render_params(scene, [(load(name), params)]).degraded, one_after_another(scene, name, params)
    )


@pytest.mark.parametrize("highlights", [0.0, 4.0])
def test_a_gaussian_from_codes_to_codes_is_part_after_part(highlights: float) -> None:
    web = Web(kernel="gaussian", sigma=40.0, aspect=1.0, angle=0.0, beta=1.0)  # 4 pixels
    scene, params = wide_scene(), Blur(highlights=highlights, motion=web)
    found = render_params(scene, [(load("blur"), params)]).degraded
    np.testing.assert_array_equal(found, one_after_another(scene, "blur", params))


def test_the_scene_itself_is_never_written_to() -> None:
    scene = wide_scene()
    before = scene.image.copy()
    for name in names():
        pair = render_params(scene, [(load(name), sampled(name, 0.7, scene, 1))])
        assert not np.shares_memory(pair.degraded, scene.image)
    np.testing.assert_array_equal(scene.image, before)


@pytest.mark.parametrize("shape", [SHAPE, (101, 31, 3)])
def test_rows_of_a_field_are_those_of_the_whole(shape: tuple[int, ...]) -> None:
    field = gaussian_field(shape, 5, stream=2)
    parts = [gaussian_field(shape, 5, stream=2, rows=rows) for _, _, rows in strips(shape, pixels=999)]
    assert len(parts) > 3
    np.testing.assert_array_equal(np.concatenate(parts), field)


def test_highlights_by_strips_are_those_of_the_picture() -> None:
    scene, light = wide_scene(), decode(wide_scene().image)
    params = sampled("blur", 0.8, scene, 0)
    work = expand_highlights.prepare(Frame(degraded=light, clean=light), params, scene)
    assert not isinstance(work, Frame)
    expanded = whole(work, light)
    white = scene.image.min(axis=2) == 255
    np.testing.assert_allclose(expanded[white], 1 + params.highlights, rtol=1e-5)
    np.testing.assert_array_equal(expanded[scene.image.min(axis=2) < 247], light[scene.image.min(axis=2) < 247])
