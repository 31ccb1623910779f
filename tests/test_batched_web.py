"""The batched web wear and its pieces against NumPy, OpenCV and libjpeg: equal, or within one code where it is said."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from degradations import names
from degradations.batched import canvas, fields
from degradations.batched.jpeg import jpeg, standard_steps
from degradations.batched.web import wear
from degradations.coding.codecs import tables
from degradations.coding.passes import Pass
from degradations.coding.web import draw_enlargement, draw_passes
from degradations.coding.web import wear as wear_by_numpy
from degradations.numerics.random import bits, gaussian_field, generator
from degradations.numerics.resample import blurred as blurred_by_opencv
from degradations.numerics.resample import resampled as resampled_by_scipy
from degradations.numerics.taps import gaussian_taps, mirrored, resampling_taps
from degradations.optics.psf import ringing
from storage.records import Image
from tests.libjpeg import of_opencv, of_pillow
from tests.scenes import photograph

CPU = torch.device("cpu")
SHAPES = [(1, 1), (7, 5), (33, 47), (131, 97)]


def crop(height: int, width: int, index: int) -> Image:
    """A part of a photograph; every third is white noise, the hardest there is."""
    rng = np.random.default_rng(index)
    if index % 3 == 2:
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    whole = photograph("astronaut", 240)
    row, column = rng.integers(0, whole.shape[0] - height), rng.integers(0, whole.shape[1] - width)
    return np.ascontiguousarray(whole[row : row + height, column : column + width])


def batch(images: list[Image]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).astype(np.float32) / 255)


def codes(tensor: torch.Tensor) -> np.ndarray:
    return np.rint(tensor.numpy() * 255).astype(np.int64).transpose(0, 2, 3, 1)


def a_pass(**given: object) -> Pass:
    nothing = {"sigma": 0.0, "cutoff": 0.0, "scale": 1.0, "interpolation": "area", "noise": 0.0, "photons": 0.0}
    return Pass(**{**nothing, "grey": False, "quality": 0, "seed": 1, **given})


def drawn(form: str, shape: tuple[int, int]) -> tuple[list[tuple[Pass, ...]], list[str]]:
    """Six samples from no wear at all to the hardest."""
    passes, enlargements = [], []
    for index, severity in enumerate((0, 0.1, 0.4, 0.7, 0.9, 1.0)):
        rng = generator(index + shape[0])
        passes.append(draw_passes(rng, severity, form, shape))
        enlargements.append(draw_enlargement(rng))
    return passes, enlargements


@pytest.mark.parametrize("count", [1, 2, 7, 100_003])
def test_fields_hold_the_same_numbers_on_a_device_as_in_numpy(count: int) -> None:
    seeds = (0, 5, 2**32 - 1)
    made = fields.bits(count, seeds, stream=3, device=CPU).numpy()
    np.testing.assert_array_equal(made, np.stack([bits((count,), seed, stream=3) for seed in seeds]))
    gaussian = fields.gaussian_fields(count, seeds, stream=0, device=CPU).numpy()
    np.testing.assert_array_equal(gaussian, np.stack([gaussian_field((count,), seed) for seed in seeds]))


def test_jpeg_is_that_of_libjpeg_at_every_size_and_quality() -> None:
    sizes = [(1, 1), (2, 3), (5, 4), (16, 5), (33, 6), (17, 31), (64, 48), (3, 60)]
    images = [crop(*size, index) for index, size in enumerate(sizes)]
    plane = np.zeros((len(sizes), 3, 64, 60), np.int32)
    for index, (image, (height, width)) in enumerate(zip(images, sizes, strict=True)):
        plane[index, :, :height, :width] = image.transpose(2, 0, 1)
    for turn, subsampling in enumerate(("4:4:4", "4:2:2", "4:2:0")):
        qualities = [(1, 7, 25, 49, 50, 75, 93, 100)[(index + turn) % 8] for index in range(8)]
        made = jpeg(torch.from_numpy(plane), sizes, standard_steps(qualities, CPU), subsampling).numpy()
        for index, (height, width) in enumerate(sizes):
            expected = of_opencv(images[index], quality=qualities[index], subsampling=subsampling)
            np.testing.assert_array_equal(made[index, :, :height, :width].transpose(1, 2, 0), expected)


def test_jpeg_takes_makers_tables() -> None:
    image = crop(40, 56, 0)
    steps = tables(40, tilt=-0.3, table_seed=9)[None]
    plane = torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.int32))
    made = jpeg(plane, [(40, 56)], torch.from_numpy(steps), "4:2:0").numpy()[0, :, :40, :56].transpose(1, 2, 0)
    expected = of_pillow(image, quality=40, subsampling="4:2:0", tilt=-0.3, table_seed=9)
    np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.2, 3.0, 6.0])
def test_blur_taps_add_up_to_one_and_have_the_variance_asked_for(sigma: float) -> None:
    taps = gaussian_taps(sigma).astype(np.float64)
    places = np.arange(len(taps)) - len(taps) // 2
    assert taps.sum() == 1
    assert np.array_equal(taps * 256, np.rint(taps * 256))
    assert float(taps @ places**2) == pytest.approx(sigma**2, abs=0.01 + 0.1 * sigma**2)


@pytest.mark.parametrize("interpolation", ["area", "bilinear", "bicubic"])
@pytest.mark.parametrize(("old", "new"), [(64, 64), (64, 37), (101, 20), (9, 1), (1, 1)])
def test_resampling_keeps_constants_and_the_centre(old: int, new: int, interpolation: str) -> None:
    indices, weights = resampling_taps(old, new, interpolation)
    assert (weights.sum(axis=1) == 1).all()
    assert np.array_equal(weights * 2048, np.rint(weights * 2048))
    places = (weights * (indices + 0.5)).sum(axis=1) * new / old
    inner = slice(2, -2) if new > 8 else slice(None)
    error = places[inner] - np.arange(new)[inner] - 0.5
    assert np.abs(error).max() <= 0.15
    assert abs(error.mean()) <= 0.002


def test_mirrored_borders_are_those_of_opencv() -> None:
    assert mirrored(4, 6).tolist() == [0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2, 3][: 4 + 12]
    assert mirrored(1, 2).tolist() == [0] * 5


@pytest.mark.parametrize("shape", SHAPES)
def test_blur_and_resize_are_exact(shape: tuple[int, int]) -> None:
    image = crop(*shape, 2)
    target = (max(1, shape[0] * 5 // 8), max(1, shape[1] * 3 // 7))
    light = torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32))
    soft = canvas.blurred(light, [shape], [gaussian_taps(1.1)])
    np.testing.assert_array_equal(soft[0].numpy().transpose(1, 2, 0), blurred_by_opencv(image, 1.1))
    for interpolation in ("area", "bilinear", "bicubic"):
        small = canvas.resampled(soft, [shape], [target], [interpolation])[0, :, : target[0], : target[1]]
        expected = resampled_by_scipy(blurred_by_opencv(image, 1.1), target, interpolation)
        np.testing.assert_array_equal(small.numpy().transpose(1, 2, 0), expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("form", ["sr", "tail"])
def test_a_batch_of_differing_passes_is_within_a_code_of_numpy(form: str, shape: tuple[int, int]) -> None:
    passes, enlargements = drawn(form, shape)
    images = [crop(*shape, index) for index in range(6)]
    worn = codes(wear(batch(images), passes, enlargements))
    expected = np.stack([wear_by_numpy(*sample) for sample in zip(images, passes, enlargements, strict=True)])
    assert np.abs(worn - expected).max() <= 1
    np.testing.assert_array_equal(worn[0], images[0])


@pytest.mark.parametrize("given", [{"photons": 300.0}, {"noise": 12.0, "grey": True}, {"photons": 90.0, "grey": True}])
@pytest.mark.parametrize("quality", [0, 30])
def test_codes_are_equal_where_nothing_is_enlarged(given: dict[str, object], quality: int) -> None:
    images = [crop(45, 61, index) for index in range(3)]
    passes = [(a_pass(**given, sigma=sigma, quality=quality, seed=7),) * 2 for sigma in (0.0, 0.8, 5.0)]
    expected = np.stack([wear_by_numpy(image, turns, "bicubic") for image, turns in zip(images, passes, strict=True)])
    np.testing.assert_array_equal(codes(wear(batch(images), passes, ["bicubic"] * 3)), expected)


def test_ringing_is_within_a_code_before_the_codec_and_nearly_everywhere_after_it() -> None:
    images = [crop(96, 120, index) for index in range(3)]
    before = [(a_pass(cutoff=cutoff, scale=0.6),) for cutoff in (0.8, 2.0, 4.0)]
    after = [(a_pass(cutoff=cutoff, scale=0.6, quality=60),) for cutoff in (0.8, 2.0, 4.0)]
    for passes, share in ((before, 1.0), (after, 0.99)):
        worn = codes(wear(batch(images), passes, ["bilinear"] * 3, ringing=ringing))
        expected = [wear_by_numpy(image, turns, "bilinear") for image, turns in zip(images, passes, strict=True)]
        assert (np.abs(worn - np.stack(expected)) <= 1).mean() >= share


def test_a_cutoff_without_its_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="give ringing"):
        wear(batch([crop(8, 8, 0)]), [(a_pass(cutoff=2.0),)], ["bilinear"])


def test_a_sample_does_not_depend_on_its_batch() -> None:
    passes, enlargements = drawn("sr", (60, 44))
    images = [crop(60, 44, index) for index in range(6)]
    together = wear(batch(images), passes, enlargements)
    alone = [
        wear(batch([image]), [turns], [last]) for image, turns, last in zip(images, passes, enlargements, strict=True)
    ]
    assert torch.equal(together, torch.cat(alone))


def test_no_degradation_imports_torch() -> None:
    modules = ", ".join(f"degradations.{name}" for name in names())
    program = f"import sys, {modules}, tasks.augment; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
