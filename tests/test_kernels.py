"""Kernels against NumPy: the same equations, slow and in float64."""

import cv2
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from degradations.kernels import air, codes, counter, grain, layers, moire, rain, sensor
from degradations.kernels._compiled import compiled
from degradations.kernels._exponential import decay
from degradations.kernels.strokes import strokes
from degradations.numerics import light as _light
from degradations.numerics.counter import GOLDEN, MULTIPLIERS, WORD, mix
from degradations.numerics.random import generator
from degradations.weather.atmosphere import SKY

H, W = 5, 37  # no multiple of any vector


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    """Return float32 in [0, 1)."""
    bits = generator(seed).bit_generator.random_raw(int(np.prod(shape))) >> 40
    return (bits * 2.0**-24).astype(np.float32).reshape(shape)


def lying(small: np.ndarray, top: int, rows: int, height: int) -> np.ndarray:
    """Return rows of `small` enlarged linearly to `height`."""
    at = np.clip((np.arange(top, top + rows) + 0.5) * len(small) / height - 0.5, 0, len(small) - 1)
    first = at.astype(int)
    second = np.minimum(first + 1, len(small) - 1)
    share = (at - first).reshape(-1, *[1] * (small.ndim - 1))
    return small[first] * (1 - share) + small[second] * share


@compiled("void(f4[::1], f4[::1])")
def decayed(x: np.ndarray, out: np.ndarray) -> None:
    """Write exp(-x)."""
    for place in range(x.size):
        out[place] = decay(x[place])


def test_decay_is_the_exponential_as_exactly_as_it_says():
    x = np.concatenate([np.linspace(0, 1, 100_001), np.linspace(0, 87, 100_001)]).astype(np.float32)
    found = np.empty_like(x)
    decayed(x, found)
    error = np.abs(found * np.exp(x.astype(np.float64)) - 1)
    assert found[0] == 1
    assert (error < 3e-7 + 8e-8 * x).all()
    far = np.array([87.5, 1e3, 1e30, np.inf], np.float32)
    left = np.empty_like(far)
    decayed(far, left)
    assert ((left >= 0) & (left < 2e-38)).all()


def test_distance_is_that_of_the_inverse_depth_and_far_in_the_sky():
    depth, found = numbers(H, W) ** 3, np.empty((H, W), np.float32)
    air.distances(depth, 0.1, 20.0, SKY, found)
    away = 1.1 / (depth.astype(np.float64) + 0.1)
    away += np.maximum(1 - depth / SKY, 0) * (20 - away)
    np.testing.assert_allclose(found, np.minimum(away, 20), rtol=1e-5)


def test_optical_depth_is_beta_times_path_times_the_density_that_it_sees():
    away, density = 1 + 20 * numbers(H, W), 0.5 + numbers(4, W, seed=1)
    rates = np.array([0, 0, 0.5, 0.2, 0.01, 0, 1e-3, 0], np.float32)
    found = np.empty((H, W), np.float32)
    air.optical_depths(away, density, rates, 2, 0.3, 4.0, found)
    rate = rates[2:7, None].astype(np.float64)
    path = np.where(rate > 0, -np.expm1(-away * rate) / np.where(rate > 0, rate, 1), away)
    seen = 1.5 * (path / 4) / (1 + (path / 4) ** 1.5)
    np.testing.assert_allclose(found, 0.3 * path * (1 + (lying(density, 2, H, 8) - 1) * seen), rtol=1e-4)


def test_light_goes_through_air_as_koschmieder_says():
    light, depths, found = numbers(H, W, 3), 4 * numbers(H, W, seed=1), np.empty((H, W, 3), np.float32)
    extinction, colour = np.array([0.8, 1, 1.2], np.float32), np.array([0.5, 0.6, 0.7], np.float32)
    air.through_air(light, depths, np.tile(extinction, W), np.tile(colour, W), found)
    t = np.exp(-depths[..., None].astype(np.float64) * extinction)
    np.testing.assert_allclose(found, light * t + colour * (1 - t), atol=1e-6)


def test_what_is_scattered_forward_arrives_soft():
    light, depths, soft = numbers(H, W, 3), 4 * numbers(H, W, seed=1), numbers(3, W, 3, seed=2)
    found = np.empty_like(light)
    air.scattered_forward(light, depths, soft, 0.4, 3, 9, found)
    share = 0.4 * (1 - np.exp(-depths[..., None].astype(np.float64)))
    np.testing.assert_allclose(found, light * (1 - share) + lying(soft, 3, H, 9) * share, atol=1e-6)


def test_shot_noise_grows_with_the_root_of_light_and_repeats_its_tile():
    light, tile, found = numbers(H, W, 3) - np.float32(0.1), numbers(16, 16, 3, seed=1), np.empty((H, W, 3), np.float32)
    grain.shot_noise(light, tile, 14, found)
    wide = np.tile(tile, (3, 3, 1))[14 : 14 + H, :W]
    np.testing.assert_allclose(found, light + np.sqrt(np.maximum(light, 0)) * wide, atol=1e-6)


@pytest.mark.parametrize("size", [1, 4095, 4096, 10_000])
def test_codes_and_light_are_looked_up_value_by_value(size):
    image = (numbers(size) * 256).astype(np.uint8)
    light = _light.decode(image)
    np.testing.assert_allclose(light, _light.srgb_to_linear(image / 255), atol=1e-7)
    assert np.array_equal(_light.encode(light), image)


def test_light_beyond_black_and_white_is_clipped():
    light = np.array([-1e9, -0.1, 0, 1, 1.1, 1e9, np.inf, -np.inf, np.nan], np.float32)
    assert _light.encode(light).tolist() == [0, 0, 0, 255, 255, 255, 255, 0, 0]
    found = np.empty_like(light)
    codes.curve(light, numbers(1, 4096), found)
    assert found.tolist() == numbers(4096)[[0, 0, 0, -1, -1, -1, -1, 0, 0]].tolist()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_curve_takes_every_channel_through_its_own_table(channels):
    light, tables, found = 1.2 * numbers(3 * 2000) - 0.1, numbers(channels, 4096, seed=1), np.empty(6000, np.float32)
    codes.curve(light, tables, found)
    places = np.rint(np.sqrt(np.clip(light, 0, 1)) * np.float32(4095)).astype(int)
    assert np.array_equal(found, tables[np.arange(6000) % channels, places])


def test_a_toe_crushes_what_lies_below_it():
    light, found = 1.4 * numbers(H * W) - 0.2, np.empty(H * W, np.float32)
    codes.crush(light, 0.1, found)
    x = np.clip(light, 0, 1).astype(np.float64)
    np.testing.assert_allclose(found, x * x * 1.1 / (x + 0.1), atol=1e-6)


@pytest.mark.parametrize("levels", [0, 1023])
def test_raw_noise_is_what_the_converter_reads_less_the_signal(levels):
    signal, field, rows = numbers(H, W) - np.float32(0.1), 6 * numbers(H, W, seed=1) - 3, 0.01 * numbers(H)
    found = np.empty_like(signal)
    sensor.raw_noise(signal, field, rows, 0.01, 1e-4, levels, found)
    raw = signal + np.sqrt(0.01 * np.maximum(signal, 0) + 1e-4) * field + rows[:, None]
    raw = np.rint(raw * levels) / levels if levels else raw
    off = np.abs(found - (np.minimum(raw, 1) - signal))
    assert np.sort(off.ravel())[-3] < 1e-6  # two values at a tie may be read as the next level


def test_noise_is_the_sum_of_fine_and_coarse():
    light, fine, coarse, found = numbers(H, W, 3), numbers(H, W, 3, seed=1), numbers(2, W, 3), np.empty((H, W, 3), "f4")
    sensor.add_noise(light, fine, coarse, 0, 3, 9, found)
    np.testing.assert_allclose(found, light + fine + lying(coarse, 3, H, 9), atol=1e-6)


def test_noise_is_added_before_the_tone_curve():
    toe, light, fine, found = 0.08, numbers(H, W, 3), numbers(H, W, 3, seed=1) - 0.5, np.empty((H, W, 3), "f4")
    raised = np.empty(light.size, "f4")
    sensor.raise_toe(light.reshape(-1), toe, raised)
    np.testing.assert_allclose(raised**2 * (1 + toe) / (raised + toe), light.reshape(-1), atol=1e-6)
    sensor.add_noise(light, fine, np.zeros((1, W, 3), "f4"), toe, 0, H, found)
    seen = np.maximum(raised.reshape(light.shape) + fine, 0)
    np.testing.assert_allclose(found, seen**2 * (1 + toe) / (seen + toe), atol=1e-6)


def test_a_field_counts_as_its_definition_says():
    start, found = WORD - 3, np.empty(9, np.uint64)  # the counter passes 2^64
    counter.fill(start, GOLDEN, *MULTIPLIERS, found)
    assert found.tolist() == [mix((start + n * GOLDEN) & WORD) for n in range(1, 10)]


def test_beats_are_tiles_looked_up_along_their_phases_where_the_mask_is():
    tiles = numbers(2, 3, 8, 8)
    grids = np.array([(4.1, 0.3, 4, 1e-4, 2e-4, 1e-5, 1.5, 2.5), (3.9, -0.2, 4, -1e-4, 0, 0, 7.5, 0.5)], np.float32)
    rows, columns, mask = np.arange(-10, 10, 4), np.arange(-74, 74, 4), numbers(H, W, seed=1)
    mask[:, :6] = mask[1, -9:] = mask[3] = 0
    found, sums = np.empty((4, H, W), np.float32), np.zeros((4, 4, W), np.float32)
    padded = np.pad(tiles, ((0, 0), (0, 0), (0, 2), (0, 2)), mode="wrap")
    moire.beats(padded, grids, rows.astype(np.float32), columns.astype(np.float32), mask, found, sums)
    expected = np.ones((4, H, W))
    expected[:3] = 0
    x, y = rows[:, None].astype(float), columns[None, :].astype(float)
    for (along, across, straight, tilt_x, tilt_y, bulge, start_x, start_y), tile in zip(grids, tiles, strict=True):
        lens = (1 + bulge * (x**2 + y**2)) / (1 + tilt_x * x + tilt_y * y)
        u = (along * x - across * y) * lens - straight * x + start_x
        v = (across * x + along * y) * lens - straight * y + start_y
        expected[:3] += [map_coordinates(plane, (u, v), order=1, mode="grid-wrap") for plane in tile]
    inside = mask > 0
    np.testing.assert_allclose(found[:, inside], expected[:, inside], atol=1e-4)
    assert not found[:3, 3].any()
    products = np.einsum("hw,ahw,bhw->abw", mask, expected, expected)
    np.testing.assert_allclose(sums, np.triu(np.ones((4, 4)))[..., None] * products, atol=1e-3)


def test_a_screen_shows_the_pattern_and_dims_where_it_does():
    total, mask, matrix = numbers(4, H, W) - 0.5, numbers(H, W, seed=1), 8 * numbers(3, 4, seed=2) - 4
    total[3] = 1
    shown, gain = np.empty((2, 3, H, W), np.float32)
    moire.coloured(total, mask, matrix, shown)
    expected = np.maximum(np.einsum("ab,bhw->ahw", matrix, total, dtype=float) * mask, -0.95)
    np.testing.assert_allclose(shown, expected, atol=1e-5)
    bands, down, across, white = 1 + numbers(H), 0.1 * numbers(H, seed=4), 0.1 * numbers(W), 0.5 + numbers(3)
    moire.screen(shown, mask, bands, down, across, white, 0.02, gain)
    shade = (1 - down[:, None] - across) * bands[:, None]
    screen = (expected + mask) * shade * white[:, None, None] - mask + 1
    np.testing.assert_allclose(gain, screen * 0.98, atol=1e-5)
    light, sent = numbers(H, W, 3), np.empty((H, W, 3), np.float32)
    moire.emit(light, numbers(4, W, 3, seed=1), 0.02, 2, 8, sent)
    np.testing.assert_allclose(sent, light * lying(numbers(4, W, 3, seed=1), 2, H, 8) + 0.02, atol=1e-6)


def test_streaks_hide_only_what_is_farther_and_veil_all():
    depth, away = numbers(H, W), 1 + 9 * numbers(H, W, seed=1)
    planes, limits = (200 * numbers(3, 9, W, seed=2)).astype(np.uint8), np.array([0.9, 0.5, 0.2], np.float32)
    found = np.empty((H, W), np.float32)
    rain.passing(away, depth, planes, limits, 0.8, 0.1, 3, found)
    streaks = np.minimum((planes[:, 3 : 3 + H] * (depth < limits[:, None, None])).sum(axis=0), 255)
    np.testing.assert_allclose(found, np.exp(-0.1 * away.astype(float)) * (1 - streaks / 255 * 0.8), atol=1e-6)


def test_a_wet_scene_is_seen_through_what_passes_and_lit_by_its_surroundings():
    light, clear, found = numbers(H, W, 3), numbers(H, W, seed=1), np.empty((H, W, 3), np.float32)
    crowns, dry, around = (255 * numbers(9, W)).astype(np.uint8), numbers(3, W, seed=2), numbers(2, W, 3, seed=3)
    rain.wet(light, clear, crowns, 0.85, dry, around, 3, 9, found)
    passed = (clear * (1 - crowns[3 : 3 + H] / 255 * 0.85))[..., None]
    expected = light * passed * lying(dry, 3, H, 9)[..., None] + lying(around, 3, H, 9) * (1 - passed)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_stroke_covers_what_lies_within_its_rim_and_the_brightest_stays():
    lines = np.array([[[4, 5], [20, 9]], [[10, -8], [10, 50]], [[12, 30], [12, 30]], [[-9, 20], [40, 21]]], np.float32)
    levels, breadths = np.array([200, 90, 255, 120], np.float32), np.array([1.33, 4.9, 7, 2], np.float32)
    rows, columns = np.mgrid[:24, :40].astype(float)
    expected = np.zeros((24, 40))
    for ((row, column), end), level, breadth in zip(lines.astype(float), levels, breadths, strict=True):
        way = end - (row, column)
        along = ((rows - row) * way[0] + (columns - column) * way[1]) / max(way @ way, 1e-12)
        near = np.clip(along, 0, 1)
        distance = np.hypot(rows - row - near * way[0], columns - column - near * way[1])
        expected = np.maximum(expected, np.clip(breadth / 2 + 0.5 - distance, 0, 1) * level)
    found = np.zeros((24, 40), np.uint8)
    strokes(lines, levels, breadths, 0.0, 2.0**15, found)
    assert np.abs(found - expected).max() < 0.51


def test_highlights_gain_what_the_least_of_a_pixel_is_worth():
    image, gains = np.full((300, 3), 100, np.uint8), np.zeros(256, np.float32)
    image[[7, 250]], image[8], gains[250:] = (255, 252, 254), (255, 255, 100), np.arange(6) + 1
    light, found = numbers(900), np.empty(900, np.float32)
    codes.brighten(light, image.reshape(-1), gains, found)
    gained = (found - light).reshape(300, 3)
    np.testing.assert_allclose(gained[[7, 250]], 3, rtol=1e-6)
    assert not np.delete(gained, [7, 250], axis=0).any()


def test_a_layer_is_cut_from_its_box_and_laid_over_what_is_behind():
    plane, disparity, hat = numbers(9, W), numbers(9, W, seed=1), np.empty((6, 20), np.float32)
    layers.silhouette(disparity, 4.0, 2.5, -2, 7, hat)
    rows, part = [2, 1, 0, 1, 2, 3], np.empty_like(hat)  # mirrored at the border
    expected = np.maximum(1 - np.abs(disparity[rows, 7:27].astype(float) * 4 - 2.5), 0)
    np.testing.assert_allclose(hat, expected, atol=1e-6)
    layers.cut(plane, hat, -2, 7, part)
    np.testing.assert_allclose(part, plane[rows, 7:27] * expected, atol=1e-6)
    below = numbers(9, W, seed=2)
    found, box = below.copy(), np.s_[3:7, 7:27]
    layers.lay_over(part, hat, 1, 3, 7, found)
    np.testing.assert_allclose(found[box], below[box] * (1 - hat[1:5]) + part[1:5], atol=1e-6)
    found[box] = below[box]
    assert np.array_equal(found, below)


@pytest.mark.parametrize("width", [38, 37])
def test_a_layer_of_half_the_size_is_enlarged_and_laid_over_what_is_behind(width):
    small, below = numbers(4, 6, 19), numbers(4, 9, 60, seed=1)
    found = below.copy()
    layers.lay_grown_over(small, width, 3, 5, 2, 11, found)
    grown = np.stack([cv2.pyrUp(plane, dstsize=(width, 12))[3:8] for plane in small])
    box = np.s_[:, 2:7, 11 : 11 + width]
    np.testing.assert_allclose(found[box], below[box] * (1 - grown[3]) + grown, atol=1e-6)
    found[box] = below[box]
    assert np.array_equal(found, below)


def test_layers_share_their_light_by_their_silhouettes():
    total, codes_of, found = numbers(4, 9, W), np.arange(65536).astype(np.uint8), np.empty((5, 3 * W), np.float32)
    layers.join(total, 3, found)
    shared = np.moveaxis(total[:3] / np.maximum(total[3], np.float32(1e-6)), 0, 2)[3:8]
    np.testing.assert_allclose(found, shared.reshape(5, -1), rtol=1e-6)
    written, expected = np.empty((2, 5, 3 * W), np.uint8)
    layers.join_codes(total, 3, codes_of, written)
    codes.encode(found.reshape(-1), codes_of, expected.reshape(-1))
    assert np.array_equal(written, expected)


def test_planes_of_codes_hold_their_bright_light():
    image = (256 * numbers(H, 3 * W)).astype(np.uint8)
    image[:2, 30:60] |= 0xFC
    gains, table = np.maximum(np.arange(256, dtype=np.float32) - 250, 0), numbers(256)
    found, expected = np.empty((3, H, W), np.float32), np.empty((H, 3 * W), np.float32)
    layers.planes(image, table, gains, found)
    codes.decode_bright(image.reshape(-1), table, gains, expected.reshape(-1))
    assert np.array_equal(np.moveaxis(found, 0, 2).reshape(H, -1), expected)


def test_what_lies_between_two_layers_has_its_extent():
    disparity = numbers(9, W)
    found = np.tile(np.array([W, -1], np.int64), (3, 7, 1))
    layers.extents(disparity, 6.0, -0.5, 4, found)
    between = np.floor(disparity * 6 + 0.5)
    for row in range(3):
        for index in range(7):
            columns = np.nonzero(between[4 * row : 4 * row + 4] == index)[1]
            assert found[row, index].tolist() == ([columns.min(), columns.max()] if columns.size else [W, -1])
