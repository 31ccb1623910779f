"""Defocus by depth, layer by layer and block by block, against the whole picture at once."""

import numpy as np
import pytest

from degradations import load
from degradations.blur import Blur, Defocus
from degradations.numerics.light import brightened, encode
from degradations.numerics.strips import Stream, streamed
from degradations.optics.defocus import opened
from degradations.optics.layers import _centres, layered_defocus, layering
from degradations.optics.psf import aperture
from degradations.pairs.contract import Light
from degradations.pairs.render import render_params
from degradations.pairs.severity import pixels
from storage.records import Plane, Scene

SHAPES = [(300, 610), (61, 40), (17, 90), (9, 300), (40, 7), (3, 2), (1, 1)]


def kernel(radius: float) -> Light:
    return aperture(radius, blades=7, rotation=0.2, ring=0.3)


def depth_of(shape: tuple[int, int]) -> Plane:
    """Return ground that comes nearer downwards, a near post before it and a far, flat sky."""
    rows, columns = np.indices(shape) / np.array(shape)[:, None, None]
    ground = np.clip(1.2 * rows - 0.3, 0.05, 0.8) + 0.05 * np.sin(7 * columns)
    return np.where(abs(columns - 0.6) < 0.08, 0.95, ground).astype(np.float32)


def light_of(shape: tuple[int, int]) -> Light:
    return np.random.default_rng(0).random((*shape, 3), dtype=np.float32) ** 3


def at_once(light: Light, disparity: Plane, focus: float, reach: float) -> Light:
    """Return what `layered_defocus` says, of whole pictures in float64."""
    signed = (disparity.astype(np.float64) - focus) * reach
    centres = _centres(float(signed.min()), float(signed.max()))
    step = centres[1] - centres[0] if len(centres) > 1 else 1.0
    total = np.zeros((*disparity.shape, 4))
    for centre in centres:
        hat = np.maximum(1 - np.abs(signed - centre) / step, 0)[..., None]
        layer = opened(np.float32(np.concatenate([light * hat, hat], axis=2)), abs(centre), kernel)
        layer = layer.reshape(total.shape)
        total = total * (1 - layer[..., 3:]) + layer
    return total[..., :3] / np.maximum(total[..., 3:], 1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("focus", "reach"), [(0.05, 3.0), (0.95, 9.0), (0.5, 20.0), (0.95, 30.0)])
def test_layers_block_by_block_are_those_of_the_whole_picture(shape, focus, reach):
    light, disparity = light_of(shape), depth_of(shape)
    found = layered_defocus(light, disparity, focus=focus, reach=reach, kernel=kernel)
    np.testing.assert_allclose(found, at_once(light, disparity, focus, reach), atol=2e-5)


@pytest.mark.parametrize("rows", [8, 40, 300])
@pytest.mark.parametrize("backwards", [False, True])
def test_no_byte_of_a_defocused_picture_depends_on_strips(rows, backwards):
    light, disparity = light_of((300, 610)), depth_of((300, 610))
    work = layering(streamed(light), disparity, focus=0.5, reach=9.0, kernel=kernel)
    found, tops = np.empty_like(light), list(range(0, 300, rows))
    for top in reversed(tops) if backwards else tops:
        part = slice(top, min(top + rows, 300))
        work(np.empty(0, np.float32), part, found[part])
    whole = layered_defocus(light, disparity, focus=0.5, reach=9.0, kernel=kernel)
    np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("shape", [(300, 610), (61, 40), (1, 1)])
@pytest.mark.parametrize("highlights", [0.0, 4.0])
def test_defocus_from_codes_to_codes_is_that_of_their_light(shape, highlights):
    image = encode(light_of(shape))
    image[: shape[0] // 2] |= 0xF0
    cause = Defocus(radius=20.0, focus=0.95, reach=25.0, blades=7, rotation=0.2, ring=0.3)
    scene, params = Scene(key="", image=image, depth=depth_of(shape)), Blur(highlights=highlights, motion=cause)
    found = render_params(scene, [(load("blur"), params)]).degraded
    light, reach = brightened(image, highlights), pixels(25.0, shape)
    expected = layered_defocus(light, scene.depth, focus=0.95, reach=reach, kernel=kernel)
    np.testing.assert_array_equal(found, encode(expected))


def test_light_that_comes_in_strips_is_taken_once():
    light, disparity = light_of((61, 40)), depth_of((61, 40))
    strips = ((slice(top, top + 7), light[top : top + 7]) for top in range(0, 61, 7))
    work, found = (
        layering(Stream(light.shape, strips), disparity, focus=0.5, reach=9.0, kernel=kernel),
        np.empty_like(light),
    )
    work(np.empty(0, np.float32), slice(0, 61), found)
    np.testing.assert_array_equal(found, layered_defocus(light, disparity, focus=0.5, reach=9.0, kernel=kernel))
