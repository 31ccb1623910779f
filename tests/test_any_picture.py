"""Every degradation, in every mode, makes a picture of a photograph of any size and content."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from degradations import load
from degradations.pairs.coupled import COUPLED
from degradations.pairs.recipes import draw
from degradations.pairs.render import render, render_params
from storage.records import Image, Scene
from tests.scenes import annotated, bare, fitted, frozen, sampled, scene
from tests.variants import ALL, VARIANTS, walk

KINDS = ("black", "white", "grey", "noise", "coloured")


def picture(kind: str, shape: tuple[int, int]) -> Image:
    if kind == "noise":
        return np.random.Generator(np.random.SFC64(1)).integers(0, 256, (*shape, 3), np.uint8)
    values = {"black": (0, 0, 0), "white": (255, 255, 255), "grey": (127, 127, 127), "coloured": (250, 3, 128)}
    return np.full((*shape, 3), values[kind], np.uint8)


# Every mode that options choose; `shake` stands in where a scene has nothing that moves.
CAUSES = ("shake", "linear", "object_motion", "rotation", "defocus", "web", "clip")
CODECS = ("jpeg", "webp", "avif", "video")
MODES: list[tuple[str, dict[str, Any]]] = [
    *VARIANTS,
    *(("blur", {**dict.fromkeys(CAUSES, 0), "shake": 1e-6, cause: 1}) for cause in CAUSES),
    *(("compression", {**dict.fromkeys(CODECS, 0), codec: 1}) for codec in CODECS),
    *(("compression", {"preset": platform}) for platform in ("feed", "microblog", "story")),
    *(("flare", {"pattern_share": share}) for share in (0, 1)),
    *(("haze", {"kind": kind}) for kind in ("fog", "haze", "dust", "smog")),
    *(("moire", {"pattern_share": 1, "jpeg": share}) for share in (0, 1)),
    *(("noise", {"mode": mode, "segment_aware": 1}) for mode in ("sensor", "granular", "web")),
    *(("reflection", {"weight": weight}) for weight in ("window", "fbm", "segments")),
]
ALL_MODES = pytest.mark.parametrize(
    ("name", "options"), MODES, ids=[str(number) + name for number, (name, _) in enumerate(MODES)]
)


def assert_any_picture_passes(name: str, target: Scene, severity: float, seed: int, **options: Any) -> None:
    params = sampled(name, severity, target, seed, **options)
    for _, frame in walk(target, params, name):
        assert np.isfinite(frame.degraded).all()
    image = render_params(target, [(load(name), params)]).degraded
    assert image.shape == target.image.shape
    assert image.dtype == np.uint8


SHAPES = st.tuples(st.integers(1, 70), st.integers(1, 70))


@ALL_MODES
@settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@example(shape=(1, 1), kind="noise", severity=1.0, seed=0, clip=True)
@example(shape=(1, 1), kind="white", severity=0.6, seed=1, clip=False)
@example(shape=(17, 1031), kind="noise", severity=1.0, seed=2, clip=False)
@example(shape=(1031, 17), kind="grey", severity=0.4, seed=3, clip=False)
@example(shape=(1, 64), kind="black", severity=1.0, seed=4, clip=False)
@example(shape=(2, 3), kind="coloured", severity=0.8, seed=5, clip=True)
@example(shape=(1, 1), kind="black", severity=2e-67, seed=2, clip=False)  # a kernel of no width at all
@given(
    shape=SHAPES,
    kind=st.sampled_from(KINDS),
    severity=st.sampled_from([0.003, 0.2, 0.6, 1.0]),
    seed=st.integers(0, 2**31),
    clip=st.booleans(),
)
def test_any_size_and_content_gives_a_picture(
    name: str, options: dict[str, Any], shape: tuple[int, int], kind: str, severity: float, seed: int, clip: bool
) -> None:
    full = annotated(picture(kind, shape), frames=clip)
    assert_any_picture_passes(name, full if seed % 2 else bare(full, load(name)), severity, seed, **options)


@pytest.mark.slow
@ALL_MODES
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    shape=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    kind=st.sampled_from(KINDS),
    severity=st.floats(0, 1),
    seed=st.integers(0, 2**31),
    clip=st.booleans(),
)
def test_any_size_and_content_gives_a_picture_in_many_examples(
    name: str, options: dict[str, Any], shape: tuple[int, int], kind: str, severity: float, seed: int, clip: bool
) -> None:
    full = annotated(picture(kind, shape), frames=clip)
    assert_any_picture_passes(name, full if seed % 2 else bare(full, load(name)), severity, seed, **options)


@ALL
@pytest.mark.parametrize("depth", [0.0, 1.0])
def test_a_flat_depth_gives_a_picture(name: str, depth: float) -> None:
    full = scene(short=48)
    flat = replace(full, depth=frozen(np.full(full.image.shape[:2], depth, np.float32)))
    for seed in range(4):
        assert_any_picture_passes(name, flat, 1.0, seed)


@ALL_MODES
def test_a_strip_of_8k_gives_a_picture(name: str, options: dict[str, Any]) -> None:
    strip = annotated(np.tile(scene("coffee", 24).image, (1, 240, 1))[:, :8192])
    assert_any_picture_passes(name, strip, 0.9, 1, **options)


@pytest.mark.parametrize("name", list(COUPLED))
@pytest.mark.parametrize("shape", [(1, 1), (17, 1031), (24, 8192)])
def test_a_combination_makes_a_picture_of_any_size(name: str, shape: tuple[int, int]) -> None:
    for kind in ("black", "noise"):
        target = annotated(picture(kind, shape))
        assert render(target, draw(name, 1.0, target, seed=2)).degraded.shape == target.image.shape


@pytest.mark.slow
@ALL
@pytest.mark.parametrize("severity", [0.2, 1.0])
def test_a_panorama_of_8k_gives_a_picture(name: str, severity: float) -> None:
    panorama = np.tile(fitted(np.asarray(scene("coffee", 1080).image), 1080), (1, 6, 1))[:, :8192]
    for seed in range(2):
        assert_any_picture_passes(name, annotated(panorama), severity, seed)
