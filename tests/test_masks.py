"""Masks: what tiles saw of one thing becomes one mask again, and overlapping masks become one map of labels."""

from itertools import pairwise

import numpy as np
import pytest

from tasks.annotators._masks import MAX_SEGMENTS, Box, Mask, _sampled, merge, pack, tiles


def disks(shape, seed=0, count=12):
    """Return bits of round things that do not touch, some of them larger than a tile."""
    rng, rows, columns = np.random.default_rng(seed), *np.mgrid[: shape[0], : shape[1]]
    found, taken = [], np.zeros(shape, bool)
    while len(found) < count:
        centre, radius = rng.uniform((0, 0), shape), rng.uniform(8, 0.3 * min(shape))
        distance = np.hypot(rows - centre[0], columns - centre[1])
        if (taken & (distance < radius + 4)).any():
            continue
        taken |= distance < radius
        found.append(distance < radius)
    return found


def mask(bits, stability=1.0, row=0, column=0):
    rows, columns = np.flatnonzero(bits.any(axis=1)), np.flatnonzero(bits.any(axis=0))
    box = Box(row=int(rows[0]), column=int(columns[0]), height=int(np.ptp(rows)) + 1, width=int(np.ptp(columns)) + 1)
    whole = Box(row=0, column=0, height=bits.shape[0], width=bits.shape[1])
    placed = Box(row=row + box.row, column=column + box.column, height=box.height, width=box.width)
    return Mask(box=placed, bits=bits[box.within(whole)], stability=stability)


def seen_in_tiles(things, shape, side, overlap=0.25):
    whole = Box(row=0, column=0, height=shape[0], width=shape[1])
    found = []
    for tile in tiles(shape, side, overlap):
        parts = [bits[tile.within(whole)] for bits in things]
        found.append((tile, [mask(part, row=tile.row, column=tile.column) for part in parts if part.any()]))
    return found


def drawn(item, shape):
    bits = np.zeros(shape, bool)
    bits[item.box.row : item.box.row + item.box.height, item.box.column : item.box.column + item.box.width] = item.bits
    return bits


@pytest.mark.parametrize(
    ("shape", "side"), [((100, 100), 128), ((300, 100), 128), ((257, 511), 128), ((129, 129), 128)]
)
def test_tiles_cover_the_image_and_share_what_is_asked(shape, side):
    covered = np.zeros(shape, int)
    for box in tiles(shape, side, 0.25):
        assert 0 <= box.row <= box.row + box.height <= shape[0]
        assert box.height == min(side, shape[0])
        covered[box.row : box.row + box.height, box.column : box.column + box.width] += 1
    assert covered.min() == 1
    for axis, length in enumerate(shape):
        starts = sorted({(box.row, box.column)[axis] for box in tiles(shape, side, 0.25)})
        assert all(later - earlier <= 0.75 * side + 1 for earlier, later in pairwise(starts)), length


@pytest.mark.parametrize("seed", range(4))
def test_things_cut_by_tiles_are_whole_again(seed):
    shape = (300, 400)
    things = disks(shape, seed)
    merged = merge(seen_in_tiles(things, shape, 128))
    assert len(merged) == len(things)
    found = {drawn(item, shape).tobytes() for item in merged}
    assert found == {bits.tobytes() for bits in things}


@pytest.mark.parametrize("seed", range(3))
def test_what_tiles_share_is_sampled_as_it_is(seed):
    rng = np.random.default_rng(seed)
    shared = Box(row=300, column=200, height=700, width=530)  # large enough for a stride
    masks = []
    for _ in range(20):
        row, column, height, width = (int(rng.integers(*limits)) for limits in ((0, 990), (0, 720), (1, 500), (1, 500)))
        box = Box(row=row, column=column, height=height, width=width)
        masks.append(Mask(box=box, bits=rng.random((height, width)) > 0.5, stability=1.0))
    canvas = Box(row=0, column=0, height=1500, width=1300)
    for mask, found in zip(masks, _sampled(masks, shared), strict=True):
        whole = np.zeros((canvas.height, canvas.width), np.float32)
        whole[mask.box.within(canvas)] = mask.bits
        assert np.array_equal(found, whole[shared.within(canvas)][::4, ::4].ravel())


def test_neighbours_that_only_touch_the_same_border_stay_apart():
    shape, upper = (64, 200), np.zeros((64, 200), bool)
    upper[:30, 20:180] = True
    lower = np.zeros_like(upper)
    lower[34:, 20:180] = True
    merged = merge(seen_in_tiles([upper, lower], shape, 128))
    assert sorted(drawn(item, shape).sum() for item in merged) == sorted([upper.sum(), lower.sum()])


def test_a_part_is_not_joined_with_the_whole_of_the_next_tile():
    shape, whole = (64, 200), np.zeros((64, 200), bool)
    whole[8:56, 8:192] = True
    part = np.zeros_like(whole)
    part[20:40, 8:90] = True  # ends in the part that both tiles see
    found = {drawn(item, shape).tobytes() for item in merge(seen_in_tiles([whole, part], shape, 128))}
    assert found == {whole.tobytes(), part.tobytes()}


def test_the_image_of_one_tile_is_left_alone():
    things = [mask(bits) for bits in disks((90, 90), count=4)]
    assert merge([(Box(row=0, column=0, height=90, width=90), things)]) == things


def test_labels_are_the_masks_and_the_rest_by_falling_area():
    shape = (60, 80)
    things = disks(shape, count=5)
    labels = pack([mask(bits) for bits in things], shape)
    areas = np.bincount(labels.ravel())
    assert len(areas) == 6
    assert np.all(np.diff(areas) <= 0)
    for bits in [*things, ~np.logical_or.reduce(things)]:
        [label] = np.unique(labels[bits])
        assert areas[label] == bits.sum()


def test_a_part_lies_upon_the_whole_whatever_the_order():
    whole, part = np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    whole[5:35, 5:35], part[10:15, 10:15] = True, True
    first, second = (pack([mask(bits) for bits in order], (40, 40)) for order in ((whole, part), (part, whole)))
    assert np.array_equal(first, second)
    assert len(np.unique(first[part])) == 1
    assert first[part][0] not in first[whole & ~part]


def test_of_too_many_masks_the_large_and_stable_ones_stay():
    shape = (40, 400)
    cells = [(row, column) for row in range(0, 40, 4) for column in range(0, 400, 4)][:600]
    masks = []
    for index, (row, column) in enumerate(cells):
        bits = np.zeros(shape, bool)
        bits[row : row + 3, column : column + 3] = True
        masks.append(mask(bits, stability=0.9 if index % 2 else 0.5))
    labels = pack(masks, shape)
    assert labels.max() == MAX_SEGMENTS - 1
    kept = [index for index, (row, column) in enumerate(cells) if labels[row, column] != 0]
    assert len(kept) == MAX_SEGMENTS - 1
    assert all(index % 2 for index in kept)


def test_an_image_without_masks_is_one_segment():
    assert pack([], (7, 9)).tolist() == np.zeros((7, 9)).tolist()
