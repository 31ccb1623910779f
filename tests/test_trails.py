"""Trails on a pane: above the largest drops, swept of smaller ones, with beads in them."""

import numpy as np

from degradations.weather.trails import LENGTH, RUNNERS, SWEPT, with_trails


def pane(num_drops: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    source = np.random.default_rng(seed)
    radii = np.sort(source.uniform(1, 12, num_drops)).astype(np.float32)
    centres = source.uniform(0, 1000, (num_drops, 2)).astype(np.float32)
    return centres, radii, np.ones((num_drops, 4), np.float32)


def test_a_pane_with_few_drops_has_no_trails() -> None:
    few = pane(int(0.4 / RUNNERS))
    for before, after in zip(few, with_trails(*few, seed=1), strict=True):
        np.testing.assert_array_equal(before, after)


def test_small_drops_come_first_and_every_drop_is_finite() -> None:
    centres, radii, shapes = with_trails(*pane(400), seed=1)
    assert (np.diff(radii) >= 0).all()
    assert len(centres) == len(radii) == len(shapes)
    assert np.isfinite(centres).all()
    assert radii.min() > 0


def test_beads_lie_above_the_largest_drops_within_their_width_and_are_smaller() -> None:
    before, after = pane(400), with_trails(*pane(400), seed=1)
    is_bead = (after[2] == 0).all(axis=1)
    beads, sizes = after[0][is_bead], after[1][is_bead]
    heads, head_sizes = before[0][-8:], before[1][-8:]
    up = heads[None, :, 0] - beads[:, None, 0]
    aside = np.abs(heads[None, :, 1] - beads[:, None, 1])
    near = (up >= 0) & (up <= LENGTH[1] * head_sizes) & (aside < 1.5 * head_sizes)
    assert near.any(axis=1).all()
    assert (sizes < 0.4 * head_sizes.max()).all()


def test_a_trail_is_swept_just_above_its_drop() -> None:
    centres, radii, shapes = pane(4000)
    runners = centres[-5:].copy()
    after, _, marks = with_trails(centres, radii, shapes, seed=3)
    drops = after[(marks == 1).all(axis=1)]
    for (row, column), size in zip(runners, radii[-5:], strict=True):
        above = (drops[:, 0] < row - 1) & (drops[:, 0] > row - 0.5 * size)
        small = ~(drops[:, None] == centres[-14:]).all(axis=2).any(axis=1)
        assert not (above & small & (np.abs(drops[:, 1] - column) < 0.3 * SWEPT * size)).any()
