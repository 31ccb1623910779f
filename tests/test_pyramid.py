"""Half the size and back: OpenCV's pyramid, strip by strip, and blur between the two."""

import cv2
import numpy as np
import pytest

from degradations.kernels import codes, pyramid
from degradations.numerics.light import _gains, brightened, decode, encode
from degradations.numerics.strips import Stream, streamed, whole
from degradations.optics.convolve import gaussian, growing, halved, ready, softening
from degradations.optics.psf import gaussian_taps
from degradations.pairs.contract import Light

SHAPES = [(64, 80, 3), (65, 81, 3), (33, 16), (17, 31, 4), (40, 7, 1), (9, 1031, 3), (2, 3, 3)]


def noise(shape: tuple[int, ...]) -> Light:
    return np.random.default_rng(len(shape)).random(shape, dtype=np.float32)


def by(rows: int, light: Light) -> Stream:
    """Return `light` in strips of so many rows."""
    starts = range(0, len(light), rows)
    return Stream(light.shape, ((slice(top, top + rows), light[top : top + rows]) for top in starts))


def correlated(light: Light, taps: Light) -> Light:
    """Return `light` correlated along both axes with odd `taps` in float64, mirrored at the border."""
    wide, reach = light.astype(np.float64), len(taps) // 2
    for axis in (0, 1):
        padding = [(reach, reach) if at == axis else (0, 0) for at in range(light.ndim)]
        padded, length = np.pad(wide, padding, mode="reflect"), light.shape[axis]
        wide = sum(tap * padded.take(range(at, at + length), axis=axis) for at, tap in enumerate(taps.astype(float)))
    return wide


@pytest.mark.parametrize("shape", SHAPES)
def test_every_other_pixel_of_a_binomial_blur_is_the_half(shape):
    light = noise(shape)
    blurred = correlated(light, np.array([1, 4, 6, 4, 1], np.float32) / 16)
    np.testing.assert_allclose(halved(streamed(light)), blurred[::2, ::2], atol=1e-6)


@pytest.mark.parametrize("rows", [1, 2, 3, 8, 100])
def test_no_byte_of_the_half_depends_on_strips(rows):
    light = noise((41, 30, 3))
    np.testing.assert_array_equal(halved(by(rows, light)), halved(streamed(light)))


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if min(shape[:2]) > 8])
@pytest.mark.parametrize("rows", [5, 8, 200])
def test_growing_by_strips_is_that_of_opencv(shape, rows):
    small = halved(streamed(noise(shape)))
    work, found = growing(ready(small), small.shape), np.empty(shape, np.float32)
    for top in range(0, shape[0], rows):
        part = slice(top, min(top + rows, shape[0]))
        work(np.empty(0, np.float32), part, found[part])
    np.testing.assert_allclose(found, cv2.pyrUp(small, dstsize=(shape[1], shape[0])).reshape(shape), atol=1e-6)


@pytest.mark.parametrize("shape", [*SHAPES, (1, 1, 3), (1, 40, 3)])
@pytest.mark.parametrize("sigma", [0.4, 1.3, 1.7])
def test_light_is_softened_by_the_taps_along_both_axes(shape, sigma):
    light, taps, found = noise(shape), gaussian_taps(sigma), np.empty(shape, np.float32)
    half = np.zeros(8, np.float32)
    half[: len(taps) // 2 + 1] = taps[len(taps) // 2 :]
    flat, channels = light.reshape(len(light), -1), shape[2] if len(shape) > 2 else 1
    for top in range(0, len(light), 8):
        pyramid.soften(flat, len(flat), channels, half, top, found[top : top + 8].reshape(-1, flat.shape[1]))
    np.testing.assert_allclose(found, correlated(light, taps), atol=1e-6)


@pytest.mark.parametrize(
    "shape", [(41, 30, 3), (40, 1031, 3), (17, 259, 3), (2, 1, 3), (1, 2, 3), (1, 1, 3), (3, 3, 3)]
)
@pytest.mark.parametrize("over", [0.0, 3.0])
def test_the_half_of_codes_is_that_of_their_light(shape, over):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    image[:, : shape[1] // 3] = np.random.default_rng(1).integers(250, 256, image[:, : shape[1] // 3].shape)
    stream = Stream(shape, iter(()), codes=image, gains=_gains(over))
    np.testing.assert_array_equal(halved(stream), halved(streamed(brightened(image, over))))


@pytest.mark.parametrize("shape", [(64, 80, 3), (65, 1031, 3), (41, 30, 3), (9, 9, 3), (2, 3, 3), (2, 1, 3), (1, 1, 3)])
@pytest.mark.parametrize("rows", [5, 8, 200])
def test_growing_into_codes_is_growing_and_encoding(shape, rows):
    small = 1.4 * noise(((shape[0] + 1) // 2, (shape[1] + 1) // 2, 3)) - np.float32(0.2)
    work, codes, light = growing(ready(small), small.shape), np.empty(shape, np.uint8), np.empty(shape, "f4")
    for top in range(0, shape[0], rows):
        part = slice(top, min(top + rows, shape[0]))
        work.end(part, codes[part])
        work(np.empty(0, np.float32), part, light[part])
    np.testing.assert_array_equal(codes, encode(light))


@pytest.mark.parametrize("shape", [(16, 17, 3), (41, 30, 3), (203, 64, 3), (204, 65, 3)])
@pytest.mark.parametrize("rows", [8, 24])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_gaussian_of_codes_is_that_of_their_light(shape, rows, backwards):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    work, found = softening(Stream(shape, iter(()), codes=image, gains=_gains(2.0)), 3.0), np.empty(shape, "f4")
    tops = list(range(0, shape[0], rows))
    for top in reversed(tops) if backwards else tops:
        part = slice(top, min(top + rows, shape[0]))
        work(np.empty(0, np.float32), part, found[part])
    np.testing.assert_array_equal(found, gaussian(brightened(image, 2.0), 3.0))


def test_decoding_to_bright_light_is_decoding_and_brightening():
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    image[10:20, 10:30] = np.random.default_rng(1).integers(250, 256, (10, 20, 3))
    gains, both = np.linspace(0, 3, 256, dtype=np.float32) ** 2, np.empty(image.size, np.float32)
    codes.brighten(decode(image).reshape(-1), image.reshape(-1), gains, both)
    found = np.empty(image.size, np.float32)
    codes.decode_bright(image.reshape(-1), decode(np.arange(256, dtype=np.uint8)), gains, found)
    np.testing.assert_array_equal(found, both)
    assert brightened(image, 2.0).max() > 2


def test_a_stream_gives_all_of_its_light():
    light = noise((41, 30, 3))
    np.testing.assert_array_equal(by(7, light).light(), light)
    np.testing.assert_array_equal(whole(ready(light), light), light)
