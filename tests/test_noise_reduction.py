"""What a camera makes of its noise: coarser chroma than luma, and shadows that its tone curve keeps quiet."""

from typing import NamedTuple

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from degradations.camera.sensor import Sensor, development, expose
from degradations.noise import DEGRADATION, NoiseOptions, sample
from degradations.numerics.light import LUMA
from degradations.numerics.random import generator
from degradations.pairs.render import render_params
from storage.records import Scene

Plane = NDArray[np.float64]

SIDE = 512
SEEDS = range(70, 78)


class Seen(NamedTuple):
    """Luma noise and what differs from it, in codes, float64 (SIDE, SIDE) and (SIDE, SIDE, 3)."""

    luma: Plane
    chroma: Plane


def seen_at(code: int, seed: int, severity: float = 0.1) -> Seen:
    scene = Scene(key="a", image=np.full((SIDE, SIDE, 3), code, np.uint8))
    params = sample(generator(seed), severity, scene, NoiseOptions(mode="sensor", segment_aware=0))
    image = render_params(scene, [(DEGRADATION, params)]).degraded.astype(np.float64)
    image -= image.mean(axis=(0, 1))
    luma = image @ np.asarray(LUMA, np.float64)
    return Seen(luma, image - luma[..., None])


def alike(field: Plane, pixels: int) -> float:
    """Return how much neighbours `pixels` columns apart agree: the correlation."""
    return float((field[:, pixels:] * field[:, :-pixels]).mean() / (field * field).mean())


def test_chroma_noise_is_coarser_than_luma_noise() -> None:
    seen = [seen_at(64, seed) for seed in SEEDS]
    luma, chroma = (np.median([alike(field, 2) for field in fields]) for fields in zip(*seen, strict=True))
    assert 0.05 < luma < 0.4  # seven real cameras: -0.06 to 0.46
    assert 0.4 < chroma < 0.7  # 0.37 to 0.68; white noise through a mosaic: 0.2


def test_chroma_noise_is_weaker_than_luma_noise() -> None:
    shares = [np.sqrt((seen.chroma**2).mean()) / seen.luma.std() for seen in (seen_at(64, seed) for seed in SEEDS)]
    assert 0.2 < np.median(shares) < 0.75


def test_the_tone_curve_keeps_shadows_as_quiet_as_midtones() -> None:
    ratios = [seen_at(25, seed).luma.std() / seen_at(95, seed).luma.std() for seed in SEEDS]
    assert np.median(ratios) < 1.3  # without it 1.5


def test_noise_in_shadows_is_hardly_skewed() -> None:
    skews = [(luma**3).mean() / luma.std() ** 3 for luma, _ in (seen_at(52, seed) for seed in SEEDS)]
    assert np.median(skews) > -0.35  # without the tone curve -0.5: dark specks


def test_noise_reduction_does_not_bring_out_the_rows() -> None:
    fields = [seen_at(128, seed, 0.9).luma for seed in range(70, 94)]
    assert 0.08 < np.median([field.mean(axis=1).std() / field.std() for field in fields]) < 0.14


@pytest.mark.parametrize("toe", [0.0, 0.03, 0.3])
def test_light_without_noise_passes_the_camera_unchanged(toe: float) -> None:
    light = np.linspace(0, 1, 3 * 64 * 64, dtype=np.float32).reshape(64, 64, 3)
    out = np.empty_like(light)
    development(np.zeros((64, 64), np.float32), Sensor(shot=1, read=1, luma=0.3, chroma=0.1, blotch=0.6, toe=toe))(
        light, slice(0, 64), out
    )
    np.testing.assert_allclose(out, light, atol=1e-6)


def test_noise_reduction_leaves_what_is_coarse() -> None:
    light = np.full((SIDE, SIDE, 3), 0.3, np.float32)
    luma = [
        (expose(light, Sensor(shot=1e-3, read=1e-5, luma=left, seed=3)) - light) @ np.asarray(LUMA, np.float32)
        for left in (1.0, 0.2)
    ]
    fine = [field - cv2.blur(field, (16, 16)) for field in luma]
    coarse = [cv2.resize(field, (16, 16), interpolation=cv2.INTER_AREA) for field in luma]  # blocks of 32 x 32
    assert fine[1].std() < 0.5 * fine[0].std()
    assert float(np.corrcoef(coarse[0].ravel(), coarse[1].ravel())[0, 1]) > 0.98
    assert coarse[1].std() == pytest.approx(coarse[0].std(), rel=0.05)
