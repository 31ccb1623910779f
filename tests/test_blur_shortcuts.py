"""Short ways of blur against the long ones: copies of a line side by side, disks on a picture of half the size."""

import math

import numpy as np
import pytest
from scipy.signal import convolve2d

from degradations import load
from degradations.blur import Blur, Linear
from degradations.numerics.light import brightened, encode
from degradations.optics.convolve import _fourier
from degradations.optics.defocus import WIDE, opened
from degradations.optics.psf import aperture, line, splat, stroke
from degradations.optics.straight import motion, strokes
from degradations.pairs.render import render_params
from degradations.pairs.severity import pixels
from storage.records import Scene
from tests.scenes import photograph, psnr


@pytest.mark.parametrize(
    "shape", [(60, 80, 3), (300, 210, 3), (301, 140, 1), (250, 170), (9, 70, 4), (33, 5, 3), (1, 1, 3)]
)
@pytest.mark.parametrize(("length", "angle"), [(6.0, 0.3), (15.0, 0.0), (22.0, 2.46), (34.0, 1.6), (58.0, 1.1)])
def test_a_straight_motion_row_by_row_is_its_kernels_in_turn(shape, length, angle):
    light = np.random.default_rng(0).random(shape, dtype=np.float32)
    expected = light.astype(np.float64)
    for kernel in strokes(length, angle):
        reach = len(kernel) // 2
        wide = np.pad(expected, [(reach, reach)] * 2 + [(0, 0)] * (len(shape) - 2), mode="reflect")
        height, width = shape[:2]
        taps = zip(*np.nonzero(kernel), strict=True)
        expected = sum(kernel[i, j] * wide[i : i + height, j : j + width] for i, j in taps)
    np.testing.assert_allclose(motion(light, length, angle), expected, atol=2e-6)


@pytest.mark.parametrize("shape", [(300, 210, 3), (9, 70, 3), (33, 5, 3), (1, 1, 3)])
@pytest.mark.parametrize(("length", "angle", "highlights"), [(6.0, 0.3, 0.0), (22.0, 2.46, 4.0), (58.0, 1.1, 1.0)])
def test_a_straight_motion_from_codes_to_codes_is_that_of_their_light(shape, length, angle, highlights):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    image[: shape[0] // 2] |= 0xF8
    params = Blur(highlights=highlights, motion=Linear(length=length, angle=angle))
    found = render_params(Scene(key="", image=image), [(load("blur"), params)]).degraded
    light = brightened(image, highlights)
    np.testing.assert_array_equal(found, encode(motion(light, pixels(length, shape), angle)))


@pytest.mark.parametrize("length", [13.0, 22.0, 36.0, 47.0, 60.0, 80.0])
@pytest.mark.parametrize("angle", [0.0, 0.4, 0.785, 1.2, 2.5])
def test_the_kernels_of_a_straight_motion_are_together_the_line(length, angle):
    together = np.ones((1, 1))
    for kernel in strokes(length, angle):
        np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-7)
        together = convolve2d(together, kernel)
    along = np.array([math.cos(angle), math.sin(angle)])
    places = np.indices(together.shape) - len(together) // 2
    distance = np.tensordot(along, places, 1), np.tensordot(along[::-1] * (-1, 1), places, 1)
    assert (together * distance[0] ** 2).sum() == pytest.approx(length**2 / 12, abs=0.5)
    assert (together * distance[1] ** 2).sum() < 0.6


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "rocket"])
@pytest.mark.parametrize(("radius", "blades"), [(WIDE, 0), (WIDE, 6), (5.0, 9)])
def test_a_disk_on_half_the_size_looks_like_itself(name, radius, blades):
    """The sharpest of these, three pixels made one, sets the limit: photographs of the usual size reach 47 dB."""
    light = brightened(photograph(name, 400), 1.0)
    kernel = aperture(radius, blades=blades, rotation=0.3, ring=0.2)
    short = opened(light, radius, lambda each: aperture(each, blades=blades, rotation=0.3, ring=0.2))
    assert psnr(encode(short), encode(_fourier(light, kernel))) > 41


@pytest.mark.parametrize("length", [5.3, 8.0, 11.7])
@pytest.mark.parametrize("angle", [0.0, 0.4, 0.785, 1.2, 2.5])
def test_a_stroke_is_a_line_in_fewer_taps(length, angle):
    thin, thick = stroke(length, angle), splat(line(length, angle))
    places = np.indices(thin.shape) - len(thin) // 2
    assert np.count_nonzero(thin) <= np.count_nonzero(thick)
    assert thin.sum() == pytest.approx(1, abs=1e-6)
    assert np.abs((thin * places).sum(axis=(1, 2))).max() < 1e-6
    assert (thin * places**2).sum() == pytest.approx(length**2 / 12, abs=0.4)
