"""Batched blur and noise against the NumPy path: within one code for the same params, whatever the size."""

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from degradations import load
from degradations.batched import light
from degradations.batched.blur import Spread, enlarged, reduced, spread
from degradations.batched.noise import noisy
from degradations.batched.spreads import spread_of
from degradations.blur import Blur, Defocus, Linear, Rotation, Shake, Still, Web
from degradations.noise import Noise
from degradations.numerics import light as _light
from degradations.numerics.random import generator
from degradations.optics.psf import point_spread
from degradations.pairs.render import render_params
from storage.records import Image, Scene
from tests.scenes import photograph

SHAPES = [(3, 9), (7, 5), (61, 47), (132, 100)]


def pictures(shape: tuple[int, int], count: int) -> list[Image]:
    """Crops of a photograph, white noise, points on black and plain black in turn."""
    whole, found = photograph("astronaut", 240), []
    for index in range(count):
        rng = np.random.default_rng(index)
        row, column = rng.integers(0, 240 - shape[0]), rng.integers(0, 240 - shape[1])
        found.append(np.ascontiguousarray(whole[row : row + shape[0], column : column + shape[1]]))
        if index % 5 == 2:
            found[-1] = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        if index % 5 == 3:
            found[-1] = np.where(rng.random((*shape, 1)) < 0.01, 255, 0).astype(np.uint8).repeat(3, axis=2)
        if index % 5 == 4:
            found[-1] = np.zeros((*shape, 3), np.uint8)
    return found


def batch(images: list[Image]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).astype(np.float32) / 255)


def codes(tensor: torch.Tensor) -> np.ndarray:
    return np.rint(tensor.numpy() * 255).astype(np.int64).transpose(0, 2, 3, 1)


def by_numpy(name: str, images: list[Image], params: list[Any]) -> np.ndarray:
    pairs = [(Scene(key="s", image=image), [(load(name), each)]) for image, each in zip(images, params, strict=True)]
    return np.stack([render_params(*pair).degraded for pair in pairs]).astype(np.int64)


def spreads(params: list[Blur], shape: tuple[int, int]) -> list[Spread]:
    found = [(spread_of(each, shape), each.highlights) for each in params]
    return [Spread(kernels=kernels, halvings=count, highlights=gain) for (kernels, count), gain in found]


def drawn_noise(mode: str, count: int) -> list[Noise]:
    noise, target = load("noise"), Scene(key="s", image=photograph("astronaut", 120))
    options = noise.options(mode=mode, segment_aware=0)
    severities = (0, 0.05, 0.3, 0.6, 1.0)
    params = [noise.sample(generator(index), severities[index % 5], target, options) for index in range(count)]
    return [replace(each, clump=0, impulse=0.01 * (index % 3 == 1)) for index, each in enumerate(params)]


def test_light_and_codes_are_those_of_numpy() -> None:
    image = pictures((40, 50), 3)[2]
    image[:5] = 255
    tensor = torch.from_numpy(image.transpose(2, 0, 1)[None].copy())
    np.testing.assert_array_equal(light.decode(tensor)[0].permute(1, 2, 0).numpy(), _light.decode(image))
    bright = light.brightened(tensor, [4.0])[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(bright, _light.brightened(image, 4.0), rtol=1e-5, atol=1e-6)
    levels = np.random.default_rng(0).uniform(-0.2, 1.2, (64, 64, 3)).astype(np.float32)
    np.testing.assert_array_equal(light.encode(torch.from_numpy(levels)).numpy(), _light.encode(levels))


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (7, 5), (16, 17)])
def test_halving_and_doubling_are_those_of_opencv(shape: tuple[int, int]) -> None:
    field = np.random.default_rng(0).random((*shape, 3)).astype(np.float32)
    small = cv2.pyrDown(field).reshape((shape[0] + 1) // 2, (shape[1] + 1) // 2, 3)
    large = cv2.pyrUp(small, dstsize=shape[::-1]).reshape(*shape, 3)
    as_tensor = [torch.from_numpy(each.transpose(2, 0, 1)[None].copy()) for each in (field, small)]
    np.testing.assert_allclose(reduced(as_tensor[0])[0].permute(1, 2, 0).numpy(), small, atol=1e-6)
    np.testing.assert_allclose(enlarged(as_tensor[1], shape)[0].permute(1, 2, 0).numpy(), large, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_drawn_blurs_of_a_batch_are_within_a_code_of_numpy(shape: tuple[int, int]) -> None:
    blur, images = load("blur"), pictures(shape, 15)
    options, target = blur.options(rotation=0, object_motion=0, clip=0), Scene(key="s", image=images[0])
    severities = (0, 0.05, 0.4, 0.7, 1.0)
    params = [blur.sample(generator(index), severities[index % 5], target, options) for index in range(15)]
    blurred = codes(spread(batch(images), spreads(params, shape)))
    assert np.abs(blurred - by_numpy("blur", images, params)).max() <= 1


def test_wide_blurs_are_halved_as_numpy_does() -> None:
    round_ = {"aspect": 1.0, "angle": 0.0, "beta": 1.0}
    opening = {"focus": None, "reach": 0.0, "blades": 6, "rotation": 0.3, "ring": 0.4}
    causes = [
        Web(kernel="gaussian", sigma=30.0, **round_),
        Web(kernel="plateau", sigma=40.0, **{**round_, "aspect": 1.5}),
        Defocus(radius=90.0, **opening),
        Linear(length=300.0, angle=0.7),
        Shake(length=200.0, seed=3, centripetal=0.2, jerk=1.0, tremor=0.5),
        Still(),
    ]
    params = [Blur(highlights=6.0, motion=cause) for cause in causes]
    images = pictures((140, 201), 6)
    made = spreads(params, (140, 201))
    assert [each.halvings > 0 for each in made] == [True, True, True, False, False, False]
    assert np.abs(codes(spread(batch(images), made)) - by_numpy("blur", images, params)).max() <= 1


def test_what_kernels_cannot_say_is_refused() -> None:
    with pytest.raises(ValueError, match="rotation cannot be said by kernels"):
        spread_of(Blur(highlights=0.0, motion=Rotation(turns=((0.0, 0.0, 0.0, 0.0),))), (64, 64))


def test_a_bright_point_keeps_its_light() -> None:
    image = np.zeros((65, 65, 3), np.uint8)
    image[32, 32] = 150
    kernel = point_spread(np.array([[0.0, -2.0], [0.0, 2.0]]))
    out = codes(spread(batch([image]), [Spread(kernels=(kernel,))]))[0].astype(np.uint8)
    assert float(_light.decode(out).sum()) == pytest.approx(float(_light.decode(image).sum()), rel=0.02)
    assert np.array_equal(np.flatnonzero(out[32, :, 0]), [30, 34])


@pytest.mark.parametrize("mode", ["sensor", "granular", "web"])
@pytest.mark.parametrize("shape", SHAPES)
def test_noise_of_a_batch_is_within_a_code_of_numpy(mode: str, shape: tuple[int, int]) -> None:
    images, params = pictures(shape, 10), drawn_noise(mode, 10)
    assert np.abs(codes(noisy(batch(images), params)) - by_numpy("noise", images, params)).max() <= 1


def test_noise_of_mixed_kinds_stays_with_its_sample() -> None:
    images = pictures((40, 44), 6)
    params = [drawn_noise(mode, 5)[index] for mode in ("web", "sensor", "granular") for index in (0, 3)]
    together = codes(noisy(batch(images), params))
    alone = [codes(noisy(batch([image]), [each]))[0] for image, each in zip(images, params, strict=True)]
    np.testing.assert_array_equal(together, np.stack(alone))
    np.testing.assert_array_equal(together[0], images[0])


@pytest.mark.parametrize("given", [{"segment_gains": (1.0, 2.0)}, {"clump": 3, "grain": 0.1}, {"tail_quality": 50}])
def test_noise_without_a_batched_form_is_refused(given: dict[str, Any]) -> None:
    params = replace(drawn_noise("sensor", 1)[0], **given)
    with pytest.raises(ValueError, match="no batched form"):
        noisy(batch(pictures((8, 8), 1)), [params])
