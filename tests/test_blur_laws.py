"""Laws that every cause of blur keeps in linear light: energy, offsets, spectra, and nothing at no duration."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from degradations import load
from degradations.blur import spread
from degradations.numerics.light import decode, luminance
from degradations.optics.psf import aperture, bell, line, point_spread, trajectory
from degradations.pairs.contract import Frame, Light
from degradations.pairs.render import render_params
from storage.records import Scene
from tests.scenes import annotated, photograph, sampled, scene
from tests.test_degradations_geometry import REACH, SIDE, SPACING, chart, spread_light

CAUSES = ("shake", "linear", "object_motion", "rotation", "defocus", "web")


def drawn(cause: str, severity: float, target: Scene, seed: int) -> Any:
    return sampled("blur", severity, target, seed, **{name: float(name == cause) for name in CAUSES})


def blurred(light: Light, params: Any, target: Scene) -> Light:
    return np.asarray(spread(Frame(degraded=light, clean=light), params, target).degraded)


def slope(image: np.ndarray) -> float:
    """Return the slope of the radial power spectrum over octaves, of a windowed square."""
    plane = luminance(decode(image))[:256, :256]
    window = np.hanning(256)
    power = np.abs(np.fft.fft2((plane - plane.mean()) * np.outer(window, window))) ** 2
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    edges = np.geomspace(1 / 64, 1 / 2, 9)
    means = [power[(radius >= low) & (radius < high)].mean() for low, high in pairwise(edges)]
    return float(np.polyfit(np.log(edges[:-1]), np.log(means), 1)[0])


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("severity", [0.2, 0.6, 1.0])
def test_a_point_keeps_its_light(cause: str, severity: float) -> None:
    """A turned camera sees things larger or smaller by its perspective, each point as bright as before."""
    light, tolerance = decode(chart().image), 1e-2 if cause == "rotation" else 1e-3
    for seed in range(3):
        params = drawn(cause, severity, chart(), seed)
        gain = 1 + params.highlights  # of the white points
        found = spread_light(params)
        for row in range(SPACING // 2, SIDE, SPACING):
            for column in range(SPACING // 2, SIDE, SPACING):
                window = np.s_[row - REACH : row + REACH + 1, column - REACH : column + REACH + 1]
                assert found[window].sum() == pytest.approx(gain * light[window].sum(), rel=tolerance)


@pytest.mark.parametrize("cause", CAUSES)
def test_mean_light_of_a_photograph_stays(cause: str) -> None:
    """But for what the borders, which are mirrored, give twice or not at all."""
    target = annotated(np.pad(photograph("coffee", 256), ((64, 64), (64, 64), (0, 0)), constant_values=90))
    light = decode(target.image)
    for seed in range(4):
        found = blurred(light, drawn(cause, 0.6, target, seed), target)
        assert found.mean() == pytest.approx(light.mean(), rel=1e-3)


@pytest.mark.parametrize("cause", CAUSES)
def test_light_that_is_everywhere_is_only_added(cause: str) -> None:
    target = scene("astronaut", 192)
    light = decode(target.image)
    for seed in range(3):
        params = drawn(cause, 0.7, target, seed)
        more = blurred(light + np.float32(0.25), params, target)
        assert np.abs(more - 0.25 - blurred(light, params, target)).max() < 2e-5


@pytest.mark.parametrize("cause", [cause for cause in CAUSES if cause != "object_motion"])
def test_spectra_fall_the_steeper_the_severer_the_blur(cause: str) -> None:
    """Not that of a moving object, which is sharp all around it."""
    target = scene("coffee", 256)
    for seed in range(3):
        levels = [drawn(cause, level / 5, target, seed) for level in range(6)]
        found = [slope(render_params(target, [(load("blur"), params)]).degraded) for params in levels]
        assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("size", [1e-3, 1e-6])
def test_what_has_no_size_is_the_identity(size: float) -> None:
    path = trajectory(size, 3, centripetal=0.4, jerk=1.0, tremor=0.5)
    kernels = [
        point_spread(path),
        point_spread(line(size, 0.7)),
        aperture(size, blades=6, rotation=0.2, ring=0.5),
        bell(size, 2.0, 0.4, beta=0.7, plateau=False),
    ]
    for kernel in kernels:
        assert kernel[len(kernel) // 2, len(kernel) // 2] > 1 - 2 * size


@pytest.mark.parametrize("length", [0.3, 0.9, 2.0, 7.3])
@pytest.mark.parametrize("angle", [0.0, 0.7, 1.3])
def test_a_kernel_has_the_variance_of_its_points(length: float, angle: float) -> None:
    points = line(length, angle)
    kernel = point_spread(points)
    place = np.arange(len(kernel)) - len(kernel) // 2
    found = (kernel.sum(axis=1) + kernel.sum(axis=0)) @ place**2
    assert found == pytest.approx((points**2).sum(axis=1).mean(), rel=1e-5)
