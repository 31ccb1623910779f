"""The network that finds marks: its arithmetic is torch's, and where a cell lies is told alike whole and in crops."""

import numpy as np
import pytest
from skimage import data

from filters._marks import BLOCKS, CELL, evidence, network, places, planes, weights

WIDTHS = (4, 6, 8, 10)


def random_weights(seed=0):
    rng = np.random.default_rng(seed)
    found, before = {}, 6
    for stage, (width, blocks) in enumerate(zip(WIDTHS, BLOCKS, strict=True)):
        shapes = {f"{stage}.down": (width, before, 3, 3), f"{stage}.down.bias": (width,)}
        for block in range(blocks):
            name = f"{stage}.{block}"
            shapes |= {f"{name}.spread": (width, 5, 5), f"{name}.mix": (width, width), f"{name}.mix.bias": (width,)}
        found |= {name: rng.normal(0, 0.3, shape) for name, shape in shapes.items()}
        before = width
    shapes = {"place": (before, before + 5), "place.bias": (before,), "answer": (before,), "answer.bias": ()}
    found |= {name: rng.normal(0, 0.3, shape) for name, shape in shapes.items()}
    return {name: np.asarray(value, np.float32) for name, value in found.items()}


def in_torch(seen, where, fitted):
    """The network as torch's own convolutions compute it."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    w = {name: torch.from_numpy(value) for name, value in fitted.items()}
    x = torch.from_numpy(seen)[None]

    def mixed(x, name):
        return functional.relu(functional.conv2d(x, w[name][..., None, None], w[f"{name}.bias"]))

    for stage, blocks in enumerate(BLOCKS):
        x = functional.relu(functional.conv2d(x, w[f"{stage}.down"], w[f"{stage}.down.bias"], stride=2, padding=1))
        if stage == len(BLOCKS) - 1:
            x = mixed(torch.cat([x, torch.from_numpy(where)[None]], 1), "place")
        for block in range(blocks):
            kernel = w[f"{stage}.{block}.spread"][:, None]
            spread = functional.conv2d(x, kernel, padding=2, groups=len(kernel))
            x = x + mixed(spread, f"{stage}.{block}.mix")
    return functional.conv2d(x, w["answer"][None, :, None, None], w["answer.bias"][None])[0, 0].numpy()


@pytest.mark.parametrize("shape", [(96, 128), (97, 113), (1, 1), (33, 16)])
def test_the_network_computes_what_torchs_convolutions_do(shape):
    seen = np.random.default_rng(1).normal(size=(6, *shape)).astype(np.float32)
    cells = tuple(-(-size // CELL) for size in shape)
    where = places(shape, (0, 0), cells)
    expected = in_torch(seen, where, random_weights())
    assert expected.shape == cells
    np.testing.assert_allclose(network(seen, where, random_weights()), expected, atol=1e-4, rtol=1e-4)


def test_places_of_a_crop_are_a_part_of_those_of_the_image():
    whole = places((512, 700), (0, 0), (32, 44))
    np.testing.assert_array_equal(places((512, 700), (64, 160), (12, 12)), whole[:, 4:16, 10:22])


def test_places_mirror_with_the_image():
    side, across, top, bottom, down = places((512, 640), (0, 0), (32, 40))
    for plane in (side, across, down):
        np.testing.assert_allclose(plane, plane[:, ::-1], atol=1e-6)
    np.testing.assert_allclose(top, bottom[::-1], atol=1e-6)
    np.testing.assert_allclose(down, down[::-1], atol=1e-6)


@pytest.mark.parametrize("value", [0, 90, 255])
def test_a_flat_image_shows_the_network_its_brightness_only(value):
    level, *others = planes(np.full((40, 50, 3), value, np.uint8))
    np.testing.assert_allclose(level, value / 128 - 1)
    assert not np.any(others)


def test_planes_mirror_with_the_image():
    image = data.coffee()
    np.testing.assert_allclose(planes(np.ascontiguousarray(image[:, ::-1])), planes(image)[:, :, ::-1], atol=1e-4)


def test_the_shipped_weights_are_few_and_finite():
    assert sum(value.size for value in weights().values()) < 100_000
    assert all(np.isfinite(value).all() for value in weights().values())


def test_evidence_has_one_answer_for_each_cell():
    assert evidence(data.coffee()).shape == (25, 38)
