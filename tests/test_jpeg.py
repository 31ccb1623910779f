"""JPEG without its bytes: equal to libjpeg-turbo in every code, and made of transforms and colours that are known."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dct

from degradations.coding.codecs import HALVING, Subsampling, jpeg, tables
from degradations.coding.jpeg import coded
from degradations.kernels._compiled import compiled
from degradations.kernels._cosines import forward, inverse
from degradations.kernels._ycc import to_rgb, to_ycc
from degradations.kernels.blocks import quantised
from storage.records import Image
from tests.libjpeg import of_opencv, of_pillow
from tests.scenes import photograph

ALL: tuple[Subsampling, ...] = ("4:4:4", "4:2:2", "4:2:0")
KINDS = ("photograph", "noise", "black", "points", "stripes")


def picture(kind: str, height: int, width: int, seed: int = 0) -> Image:
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if kind == "photograph":
        whole = photograph("astronaut", 240)
        top, left = rng.integers(0, 240 - height), rng.integers(0, 240 - width)
        return np.ascontiguousarray(whole[top : top + height, left : left + width])
    if kind == "stripes":  # the hardest edges there are, at every place of a block
        return np.asarray(255 * (noise[:1] > 127).astype(np.uint8).repeat(height, axis=0))
    return {"noise": noise, "black": np.zeros_like(noise), "points": np.where(noise > 252, noise, 0).astype(np.uint8)}[
        kind
    ]


@pytest.mark.parametrize("subsampling", ALL)
@pytest.mark.parametrize("kind", ["photograph", "noise"])
def test_every_quality_is_that_of_opencv(subsampling: Subsampling, kind: str) -> None:
    for quality in range(1, 101):
        image = picture(kind, 35, 51, quality)
        expected = of_opencv(image, quality=quality, subsampling=subsampling)
        np.testing.assert_array_equal(jpeg(image, quality=quality, subsampling=subsampling), expected)


@settings(max_examples=300, deadline=None)
@given(
    height=st.integers(1, 67),
    width=st.integers(1, 67),
    kind=st.sampled_from(KINDS),
    quality=st.integers(1, 100),
    subsampling=st.sampled_from(ALL),
    seed=st.integers(0, 2**31),
)
def test_every_size_and_picture_is_that_of_both_libraries(
    height: int, width: int, kind: str, quality: int, subsampling: Subsampling, seed: int
) -> None:
    image = picture(kind, height, width, seed)
    mine = jpeg(image, quality=quality, subsampling=subsampling)
    np.testing.assert_array_equal(mine, of_opencv(image, quality=quality, subsampling=subsampling))
    np.testing.assert_array_equal(mine, of_pillow(image, quality=quality, subsampling=subsampling))


@pytest.mark.parametrize("subsampling", ALL)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3), (3, 600), (16, 16), (17, 531), (530, 19)])
def test_thin_wide_and_whole_blocks_are_those_of_opencv(subsampling: Subsampling, shape: tuple[int, int]) -> None:
    image = picture("noise", *shape)
    expected = of_opencv(image, quality=61, subsampling=subsampling)
    np.testing.assert_array_equal(jpeg(image, quality=61, subsampling=subsampling), expected)


@pytest.mark.parametrize("subsampling", ALL)
@pytest.mark.parametrize("made", [{"tilt": -0.4}, {"tilt": 0.4}, {"table_seed": 7}, {"table_seed": 8, "tilt": 0.2}])
@pytest.mark.parametrize("quality", [1, 30, 92])
def test_makers_tables_are_those_of_pillow(subsampling: Subsampling, made: dict[str, Any], quality: int) -> None:
    image = picture("photograph", 77, 83, quality)
    mine = jpeg(image, quality=quality, subsampling=subsampling, **made)
    np.testing.assert_array_equal(mine, of_pillow(image, quality=quality, subsampling=subsampling, **made))


@pytest.mark.parametrize("subsampling", ALL)
@pytest.mark.parametrize("before", [(0, 5), (3, 0), (7, 7), (2, 1)])
def test_what_lies_before_the_picture_repeats_its_border_and_is_cut_off(
    subsampling: Subsampling, before: tuple[int, int]
) -> None:
    image = picture("photograph", 46, 35)
    padded = np.pad(image, ((before[0], 0), (before[1], 0), (0, 0)), mode="edge")
    expected = of_opencv(padded, quality=20, subsampling=subsampling)[before[0] :, before[1] :]
    np.testing.assert_array_equal(jpeg(image, quality=20, subsampling=subsampling, before=before), expected)


@pytest.mark.parametrize("turn", [False, True])
def test_a_picture_may_be_longer_than_a_jpeg(turn: bool) -> None:
    long = picture("noise", 9, 65_536 + 24)
    image = np.ascontiguousarray(long.transpose(1, 0, 2)) if turn else long
    start = image[:64] if turn else image[:, :64]
    whole = jpeg(image, quality=50, subsampling="4:2:0")
    ends = whole[:40] if turn else whole[:, :40]
    expected = of_opencv(np.ascontiguousarray(start), quality=50, subsampling="4:2:0")
    np.testing.assert_array_equal(ends, expected[:40] if turn else expected[:, :40])
    assert whole.shape == image.shape


def test_a_read_only_view_is_coded_and_left_as_it_is() -> None:
    whole = picture("photograph", 80, 90)
    before, view = whole.copy(), whole[5:-7:2, 3:-2]
    view.flags.writeable = False
    expected = jpeg(np.ascontiguousarray(view), quality=40, subsampling="4:2:2")
    np.testing.assert_array_equal(jpeg(view, quality=40, subsampling="4:2:2"), expected)
    np.testing.assert_array_equal(whole, before)


def test_blocks_do_not_depend_on_each_other_but_for_chroma_between_them() -> None:
    image = picture("photograph", 64, 64)
    steps = tables(30, tilt=0.0, table_seed=0).reshape(2, 64)
    whole = coded(image, steps, halving=HALVING["4:4:4"], before=(0, 0))
    for top, left in ((0, 0), (8, 40), (56, 16)):
        block = np.ascontiguousarray(image[top : top + 8, left : left + 8])
        alone = coded(block, steps, halving=HALVING["4:4:4"], before=(0, 0))
        np.testing.assert_array_equal(whole[top : top + 8, left : left + 8], alone)


@compiled("void(i4[:, ::1], i8, i8, i4[:, ::1])")
def both_ways(values: np.ndarray, bits: int, back: int, out: np.ndarray) -> None:
    """Write the coefficients of rows of eight to `out`, or, if `back`, the rows of coefficients."""
    for row in range(len(values)):
        v = values[row]
        eight = (v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7])
        c0, c1, c2, c3, c4, c5, c6, c7 = inverse(eight, bits) if back else forward(eight, bits)
        o = out[row]
        o[0], o[1], o[2], o[3], o[4], o[5], o[6], o[7] = c0, c1, c2, c3, c4, c5, c6, c7


@pytest.mark.parametrize("bits", [11, 15])
def test_the_transform_is_the_cosine_transform_to_half_a_step_and_its_constants(bits: int) -> None:
    values = np.random.default_rng(0).integers(-128, 128, (20_000, 8)).astype(np.int32) << (bits == 15)
    found = np.empty_like(values)
    both_ways(values, bits, 0, found)
    exact = dct(values.astype(np.float64), norm="ortho") * np.sqrt(8) * 2.0 ** (13 - bits)
    assert np.abs(found - exact).max() < 0.5 + 0.12 * 2.0 ** (13 - bits)


def test_the_inverse_takes_the_transform_back() -> None:
    values = np.random.default_rng(1).integers(-128, 128, (20_000, 8)).astype(np.int32)
    coefficients, found = np.empty_like(values), np.empty_like(values)
    both_ways(values, 11, 0, coefficients)
    both_ways(coefficients, 18, 1, found)  # 2^(13 - 11), and 8 of the two transforms: 2^5 over 2^13
    assert np.abs(found - values).max() <= 1


@compiled("void(i4[::1], i4, i4, i4[::1])")
def all_quantised(values: np.ndarray, step: int, reciprocal: int, out: np.ndarray) -> None:
    """Write `values` quantised to `out`."""
    for place in range(values.size):
        out[place] = quantised(values[place], step, reciprocal)


def test_division_by_reciprocals_is_exact_for_every_coefficient_and_step() -> None:
    values = np.arange(-(2**13) - 64, 2**13 + 65, dtype=np.int32)
    found = np.empty_like(values)
    for step in range(1, 256):
        all_quantised(values, step, -(-(2**19) // step), found)
        expected = np.sign(values) * ((np.abs(values) + 4 * step) // (8 * step)) * step
        np.testing.assert_array_equal(found, expected)


@compiled("void(u1[::1], u1[:, ::1], u1[::1])")
def there_and_back(rgb: np.ndarray, out_planes: np.ndarray, out: np.ndarray) -> None:
    """Write the luma and chroma of `rgb` to `out_planes`, and what these are in RGB to `out`."""
    to_ycc(rgb, out_planes[0], out_planes[1], out_planes[2])
    to_rgb(out_planes[0], out_planes[1], out_planes[2], out)


def test_colours_are_those_of_jfif_to_the_nearest_code() -> None:
    axis = np.arange(0, 256, 5, dtype=np.uint8)
    rgb = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    planes, back = np.empty((3, len(rgb)), np.uint8), np.empty(rgb.size, np.uint8)
    there_and_back(rgb.ravel(), planes, back)
    matrix = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    exact = matrix @ rgb.T.astype(np.float64) + np.array([[0], [128], [128]])
    assert np.abs(planes - exact).max() <= 0.501
    inverse_matrix = np.array([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]])
    shown = np.clip(inverse_matrix @ (planes - np.array([[0.0], [128], [128]])), 0, 255)
    assert np.abs(back.reshape(-1, 3).T - shown).max() <= 0.501
