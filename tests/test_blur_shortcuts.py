"""Short ways of blur against the long ones: copies of a line laid side by side, disks on a picture of half the size."""

import numpy as np
import pytest

from degradations._convolve import _fourier, convolve, doublings, motion
from degradations._defocus import WIDE, opened
from degradations._light import brightened, encode
from degradations._psf import aperture, line, splat, stroke
from degradations.kernels.motion import double
from tests.scenes import photograph, psnr


def moved(light: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return `light` moved by `shift` rows and columns, between pixels linearly, its mirror image going on beyond."""
    pad = int(np.abs(shift).max()) + 2
    wide = np.pad(light.astype(np.float64), ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    rows, columns = (np.arange(side) + pad - by for side, by in zip(light.shape[:2], shift, strict=True))
    for axis, places in enumerate((rows, columns)):
        first = np.floor(places).astype(int)
        share = (places - first).reshape(-1, 1, 1) if axis == 0 else (places - first).reshape(1, -1, 1)
        wide = wide.take(first, axis=axis) * (1 - share) + wide.take(first + 1, axis=axis) * share
    return wide


@pytest.mark.parametrize("shape", [(40, 50, 3), (9, 70, 1), (33, 12, 4)])
@pytest.mark.parametrize(("whole", "end"), [((-3, 2), (2.25, -1.5)), ((0, -5), (0.0, 4.75)), ((4, 0), (-3.5, 0.25))])
@pytest.mark.parametrize("rows", [7, 64])
def test_a_doubling_is_the_mean_of_two_moved_copies(shape, whole, end, rows):
    light, found = np.random.default_rng(0).random(shape, dtype=np.float32), np.empty(shape, np.float32)
    near, corner = np.array(whole), np.floor(end).astype(np.int64)
    part = (np.array(end) - corner).astype(np.float32)
    flat = light.reshape(len(light), -1)
    for top in range(0, len(light), rows):
        out = found[top : top + rows]
        double(flat, shape[2], near, corner, part, top, out.reshape(len(out), -1))
    expected = (moved(light, near) + moved(light, np.array(end))) / 2
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(("length", "angle"), [(15.0, 0.0), (22.0, 2.46), (58.0, 1.1)])
def test_a_long_motion_is_the_short_line_laid_side_by_side(length, angle):
    light = np.random.default_rng(0).random((60, 80, 3), dtype=np.float32)
    first, moves = doublings(length, angle)
    expected = convolve(light, first)
    for start, step in moves:
        expected = (moved(expected, start) + moved(expected, start + step)) / 2
    np.testing.assert_allclose(motion(light, length, angle), expected, atol=1e-5)


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
    centre = np.array([0.2, -0.4])
    thin, thick = stroke(length, angle, centre), splat(line(length, angle), centre=centre)
    places = np.indices(thin.shape) - len(thin) // 2
    assert np.count_nonzero(thin) <= np.count_nonzero(thick)
    assert thin.sum() == pytest.approx(1, abs=1e-6)
    assert np.abs((thin * places).sum(axis=(1, 2)) - centre).max() < 1 / 4 / length
    spread = (thin * (places - centre[:, None, None]) ** 2).sum()
    assert spread == pytest.approx(length**2 / 12, abs=0.4)
