"""Laws of compression: what codecs promise, where their grid lies, and that nothing moves."""

import dataclasses
import io
import json
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from degradations import load
from degradations.coding import codecs
from degradations.coding import video as _video
from degradations.coding.video import video
from degradations.compression import PLATFORMS, Compression, CompressionOptions, Generation, sample
from degradations.numerics.random import generator
from degradations.pairs.recipes import draw, params_of
from degradations.pairs.render import render_params, replay
from storage.canonical import encode as canonical
from storage.records import Scene

COMPRESSION = load("compression")
LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
PLAIN = Generation(
    scale=1.0,
    interpolation="area",
    sharpen=0.0,
    codec="jpeg",
    quality=30,
    subsampling="4:2:0",
    tilt=0.0,
    table_seed=0,
    offset=(0, 0),
)


def photograph(height: int = 192, width: int = 256, seed: int = 0) -> np.ndarray:
    """Edges of all sizes and directions on soft shades, with a little grain."""
    rng = np.random.default_rng(seed)
    image = cv2.resize(
        rng.uniform(40, 210, (5, 6, 3)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
    )
    for _ in range(60):
        centre = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        axes = (int(rng.integers(3, 40)), int(rng.integers(2, 25)))
        cv2.ellipse(image, centre, axes, float(rng.uniform(0, 180)), 0, 360, rng.uniform(0, 255, 3).tolist(), -1)
    image = cv2.GaussianBlur(image, (0, 0), 0.8) + 2 * rng.standard_normal(image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def compressed(image: np.ndarray, *generations: Generation) -> np.ndarray:
    params = Compression(generations=generations, passes=(), enlargement="bicubic", codec_version="")
    return render_params(Scene(key="s", image=image), [(COMPRESSION, params)]).degraded


def with_(**changes: object) -> Generation:
    return dataclasses.replace(PLAIN, **changes)


def drawn(severity: float, image: np.ndarray, seed: int = 5, **options: object) -> Compression:
    params: Compression = sample(
        generator(seed), severity, Scene(key="s", image=image), CompressionOptions.model_validate(options)
    )
    return params


def rendered(params: Compression, image: np.ndarray) -> np.ndarray:
    return render_params(Scene(key="s", image=image), [(COMPRESSION, params)]).degraded


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((one.astype(float) - other) ** 2) / 255**2 + 1e-12))


def test_the_best_jpeg_is_within_two_codes_but_for_the_rounding_of_colours() -> None:
    image = photograph()
    grey = np.repeat(image[..., :1], 3, axis=2)
    best = with_(quality=100, subsampling="4:4:4")
    assert np.abs(compressed(grey, best).astype(int) - grey).max() <= 2
    error = np.abs(compressed(image, best).astype(int) - image)
    assert np.mean(error <= 2) > 0.99
    assert error.max() <= 4


@pytest.mark.parametrize("codec", ["jpeg", "webp", "avif"])
def test_harm_falls_with_quality(codec: str) -> None:
    image = photograph()
    harms = [psnr(image, compressed(image, with_(codec=codec, quality=quality))) for quality in (5, 20, 40, 65, 90)]
    assert all(poor < good for poor, good in pairwise(harms))


def levels_kept(coded: np.ndarray, quality: int) -> int:
    """Return how many coefficients of luma a JPEG of `quality` had to store: those that are not 0."""
    luma = cv2.cvtColor(coded, cv2.COLOR_RGB2YCrCb)[..., 0].astype(np.float32) - 128
    blocks = luma.reshape(24, 8, 32, 8).swapaxes(1, 2).reshape(-1, 8, 8)
    steps = codecs.tables(quality, tilt=0.0, table_seed=0)[0]
    return sum(int(np.count_nonzero(np.rint(cv2.dct(block) / steps))) for block in blocks)


def test_what_a_jpeg_would_store_grows_with_quality() -> None:
    """It is computed and never written, so what is not 0 is counted."""
    image, qualities = photograph(), (5, 20, 40, 65, 90)
    stored = [levels_kept(compressed(image, with_(quality=quality)), quality) for quality in qualities]
    assert all(poor < good for poor, good in pairwise(stored))


def test_harm_of_video_grows_with_its_quantiser() -> None:
    image = photograph()
    harms = [psnr(image, video(image, qp=qp)) for qp in (4, 16, 24, 32, 40, 48)]
    assert all(good > poor + 0.5 for good, poor in pairwise(harms))
    assert harms[0] > 32  # halved chroma at the edges of saturated colours


@pytest.mark.parametrize("offset", [(0, 0), (3, 5), (7, 1), (4, 4)])
def test_blocks_begin_at_the_recorded_offset(offset: tuple[int, int]) -> None:
    image = photograph()
    coded = compressed(image, with_(quality=10, offset=offset)).astype(np.int64)
    for axis, place in enumerate(offset):
        steps = np.abs(np.diff(coded, axis=axis)).sum(axis=(1 - axis, 2))
        energy = [steps[phase::8].mean() for phase in range(8)]
        assert int(np.argmax(energy)) == (place - 1) % 8


@pytest.mark.parametrize("tilt", [0.0, 0.3])
def test_coefficients_are_multiples_of_the_recorded_steps(tilt: float) -> None:
    grey = cv2.cvtColor(photograph(), cv2.COLOR_RGB2GRAY)
    coded = compressed(np.dstack([grey] * 3), with_(quality=40, tilt=tilt, offset=(2, 3), subsampling="4:4:4"))
    luma = coded[2:186, 3:251, 0].astype(np.float32) - 128
    blocks = luma.reshape(23, 8, 31, 8).swapaxes(1, 2).reshape(-1, 8, 8)
    steps = codecs.tables(40, tilt=tilt, table_seed=0)[0]
    for row, column in ((0, 1), (1, 0), (1, 1), (2, 0), (0, 3)):
        levels = np.array([cv2.dct(block)[row, column] for block in blocks]) / steps[row, column]
        assert np.mean(np.abs(levels - np.rint(levels)) < 0.2) > 0.9


@pytest.mark.parametrize("quality", [5, 30, 50, 75, 92, 100])
def test_our_tables_are_those_of_the_library(quality: int) -> None:
    stream = io.BytesIO()
    Pillow.fromarray(photograph(16, 16)).save(stream, "JPEG", quality=quality)
    theirs = Pillow.open(stream).quantization
    for index, table in enumerate(codecs.tables(quality, tilt=0.0, table_seed=0)):
        assert theirs[index] == table.ravel().tolist()


def test_random_tables_differ_by_seed_and_stay_near_the_standard() -> None:
    standard, one, two = (codecs.tables(30, tilt=0.0, table_seed=seed)[0] for seed in (0, 1, 2))
    assert not np.array_equal(one, two)
    assert np.abs(np.log(one / standard)).max() < 1


@pytest.mark.parametrize("codec", ["jpeg", "webp", "avif", "video"])
@pytest.mark.parametrize("code", [0, 90, 128, 255])
def test_an_even_picture_stays_within_one_code(codec: str, code: int) -> None:
    image = np.full((67, 90, 3), code, np.uint8)
    quality = 26 if codec == "video" else 80
    coded = compressed(image, with_(codec=codec, quality=quality, offset=(3, 6)))
    assert np.abs(coded.astype(int) - code).max() <= (1 if codec != "video" else 2)


def test_halved_chroma_harms_colour_and_spares_luma() -> None:
    image = photograph()
    full, half = (compressed(image, with_(quality=100, subsampling=form)) for form in ("4:4:4", "4:2:0"))
    luma, blue, red = np.moveaxis(
        np.abs(
            cv2.cvtColor(half, cv2.COLOR_RGB2YCrCb).astype(int) - cv2.cvtColor(full, cv2.COLOR_RGB2YCrCb).astype(int)
        ),
        2,
        0,
    )
    assert min(blue.mean(), red.mean()) > 3 * luma.mean()


@pytest.mark.parametrize("codec", ["jpeg", "webp", "avif", "video"])
@pytest.mark.parametrize("scale", [1.0, 0.73, 0.4])
def test_content_stays_in_place(codec: str, scale: float) -> None:
    image = photograph(200, 231)
    quality = 28 if codec == "video" else 70
    step = with_(codec=codec, quality=quality, scale=scale, offset=(5, 2))
    grey = [
        cv2.GaussianBlur(cv2.cvtColor(side, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 2)
        for side in (image, compressed(image, step, with_(codec=codec, quality=quality, offset=(1, 7))))
    ]
    shift, _ = cv2.phaseCorrelate(*grey, cv2.createHanningWindow((231, 200), cv2.CV_32F))
    assert np.hypot(*shift) < 0.1


@pytest.mark.parametrize("codec", ["jpeg", "webp", "avif", "video"])
def test_harm_grows_with_severity_whatever_the_codec(codec: str) -> None:
    image = photograph(160, 200)
    weights = {name: float(name == codec) for name in ("jpeg", "webp", "avif", "video")}
    for seed in range(4):
        harms = [psnr(image, rendered(drawn(severity, image, seed, **weights), image)) for severity in LEVELS]
        assert all(mild > strong for mild, strong in pairwise(harms))


@pytest.mark.parametrize("preset", ["web", *PLATFORMS])
def test_presets_harm_more_with_severity_and_nothing_at_0(preset: str) -> None:
    image = photograph()
    for seed in range(4):
        harms = [psnr(image, rendered(drawn(severity, image, seed, preset=preset), image)) for severity in LEVELS]
        assert all(mild > strong - 0.1 for mild, strong in pairwise(harms))
        assert harms[0] > harms[-1] + 0.5
    assert np.array_equal(rendered(drawn(0.0, image, preset=preset), image), image)


def test_severity_changes_nothing_but_strength_and_the_number_of_saves() -> None:
    image = photograph()
    for seed in range(8):
        weak, strong = drawn(0.3, image, seed), drawn(0.95, image, seed)
        assert len(weak.generations) <= len(strong.generations)
        for one, other in zip(weak.generations, strong.generations, strict=False):
            assert (one.codec, one.subsampling, one.offset) == (other.codec, other.subsampling, other.offset)
            assert (one.tilt, one.table_seed, one.interpolation) == (other.tilt, other.table_seed, other.interpolation)
            assert one.scale >= other.scale


def test_severity_0_changes_no_byte() -> None:
    image = photograph()
    for seed in range(10):
        assert np.array_equal(rendered(drawn(0.0, image, seed), image), image)


def test_a_platform_caps_the_width() -> None:
    wide = photograph(60, 1440)
    step = drawn(0.3, wide, preset="story").generations[0]
    assert step.scale == pytest.approx(0.5)
    assert drawn(0.3, photograph(), preset="story").generations[0].scale == 1.0


def test_params_survive_json_and_give_the_same_bytes() -> None:
    image = photograph(101, 93)
    before = image.copy()
    for name in ("default", "web", "feed"):
        options = {"compression": CompressionOptions(preset=name)}
        recipe = draw("compression", 0.8, Scene(key="s", image=image), seed=3, options=options)
        step = dataclasses.replace(recipe.steps[0], params=json.loads(canonical(recipe.steps[0].params)))
        params = params_of(COMPRESSION, step)
        assert params == params_of(COMPRESSION, recipe.steps[0])
        assert np.array_equal(rendered(params, image), replay(image, recipe, {}).degraded)
    assert np.array_equal(image, before)


def test_the_recipe_names_the_libraries_it_was_drawn_with() -> None:
    image = photograph(40, 40)
    assert drawn(0.5, image, jpeg=1, webp=0, avif=0, video=0).codec_version == codecs.version("jpeg")
    assert codecs.version("webp") in drawn(0.5, image, jpeg=0, webp=1, avif=0, video=0).codec_version
    assert drawn(0.0, image).codec_version == ""


def test_a_codec_that_is_not_there_is_an_error_when_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs.features, "version_module", lambda name: None)
    with pytest.raises(ValueError, match="no avif"):
        drawn(0.5, photograph(32, 32), jpeg=0, webp=0, avif=1, video=0)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.sampled_from([(1, 1), (1, 9), (2, 3), (17, 1031), (16, 16), (33, 65)]),
    fill=st.sampled_from(["black", "white", "noise"]),
    severity=st.floats(0, 1),
    preset=st.sampled_from(["default", "web", "messenger"]),
    seed=st.integers(0, 2**31),
)
def test_any_picture_of_any_size_is_compressed(
    shape: tuple[int, int], fill: str, severity: float, preset: str, seed: int
) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (*shape, 3)).astype(np.uint8)
    image = noise if fill == "noise" else np.full_like(noise, 255 * (fill == "white"))
    coded = rendered(drawn(severity, image, seed, preset=preset), image)
    assert coded.shape == image.shape
    assert coded.dtype == np.uint8


@pytest.mark.parametrize("size", _video.SIZES)
def test_video_transforms_are_exact_in_integers_and_invert(size: int) -> None:
    rng = np.random.default_rng(size)
    plane = rng.integers(-128, 128, (64, 64)).astype(np.float32)
    transform = _video._transform(size)
    rows = _video._along_rows(plane, transform).astype(np.int64)
    slow = np.einsum("rbx,fx->rbf", plane.astype(np.int64).reshape(64, -1, size), transform.astype(np.int64))
    assert np.array_equal(rows, slow.reshape(64, 64))
    assert np.abs(transform @ transform.T / (4096 * size) - np.eye(size)).max() < 0.005
    decoded, _ = _video._quantised(plane, size, 0.05)
    assert np.abs(decoded - plane).max() <= 2


def test_video_smooths_its_block_edges() -> None:
    plane = np.where(np.arange(64) % 16 < 8, 0, 6).astype(np.float32)[None].repeat(64, axis=0)
    smooth = _video._deblocked(plane, np.ones((64, 64), np.uint8), 36)
    assert np.abs(np.diff(smooth, axis=1)).max() < np.abs(np.diff(plane, axis=1)).max()
    assert np.array_equal(_video._deblocked(plane * 10, np.ones((64, 64), np.uint8), 36), plane * 10)


def test_video_takes_small_transforms_where_there_is_detail_and_large_ones_where_there_is_none() -> None:
    plane = np.zeros((32, 32), np.float32)
    plane[:16, :16] = 60.0 * (np.random.default_rng(0).random((16, 16)) > 0.9)
    plane[16:, 16:] = np.linspace(-40, 40, 16)
    tried = [_video._quantised(plane, size, 20.0) for size in _video.SIZES]
    costs = np.stack([_video._cost(plane, decoded, bits, 20.0) for decoded, bits in tried])
    assert _video.SIZES[int(np.argmin(costs[:, 0, 0]))] == 4
    assert _video.SIZES[int(np.argmin(costs[:, 1, 1]))] == 16


def test_video_draws_no_block_to_grey() -> None:
    """The mean of flat blocks is rounded to the nearest step, so on the whole colours stay as strong as they are."""
    step, size = 45.0, 16
    means = np.linspace(0, 12, 512).astype(np.float32)
    plane = np.kron(means[None], np.ones((size, size), np.float32))
    decoded, _ = _video._quantised(plane, size, step)
    found = decoded[size // 2, size // 2 :: size]
    assert np.abs(found - means).max() <= step / size / 2 + 1
    assert abs(float(np.mean(found - means))) < 0.1
