"""Trails of the drops that ran down a pane: the largest took what was on their way along and left beads behind.

A drop runs once it weighs more than the glass holds, so of all drops the largest have run; it sweeps up the smaller
ones over its own width, and the film that it leaves breaks into beads (Rayleigh and Plateau), smaller farther up.
"""

import numpy as np

from degradations.numerics.random import uniform_field
from degradations.pairs.contract import Light

RUNNERS = 0.02  # share of the drops that have run
MOST_RUNNERS = 14
LENGTH = (5.0, 26.0)  # of a trail, in radii of its drop
BEADS = 14  # in a trail
SWEPT = 0.75  # radii to both sides


def with_trails(centres: Light, radii: Light, shapes: Light, *, seed: int) -> tuple[Light, Light, Light]:
    """Return drops with trails above the largest: centres (N, 2), radii (N,) and shapes (N, 4), small drops first.

    The drops come with the smallest first, in pixels; shapes are kept as they are, beads are round.
    """
    num_runners = min(MOST_RUNNERS, int(RUNNERS * len(radii) + 0.5))
    if num_runners == 0:
        return centres, radii, shapes
    chances = uniform_field((num_runners, 3 + 3 * BEADS), seed, stream=4)
    heads, sizes = centres[-num_runners:], radii[-num_runners:]
    lengths = (LENGTH[0] + (LENGTH[1] - LENGTH[0]) * chances[:, 0]) * sizes
    kept = np.ones(len(radii), bool)
    kept[:-num_runners] = ~_swept(centres[:-num_runners], heads, sizes, lengths, chances[:, 1:3])
    beads, bead_radii = _beads(heads, sizes, lengths, chances)
    centres, radii = np.concatenate([centres[kept], beads]), np.concatenate([radii[kept], bead_radii])
    shapes = np.concatenate([shapes[kept], np.zeros((len(beads), 4), np.float32)])
    order = np.argsort(radii, kind="stable")
    return centres[order], radii[order], shapes[order]


def _path(up: Light, sizes: Light, bends: Light) -> Light:
    """Return how far aside of its end a trail is, `up` pixels above: it wavers by less than the drop's width."""
    turns = up / (sizes * (6 + 8 * bends[:, :1])) + bends[:, 1:]
    start = np.sin(2 * np.pi * bends[:, 1:])
    return np.asarray(0.6 * sizes * (np.sin(2 * np.pi * turns) - start), dtype=np.float32)


def _swept(centres: Light, heads: Light, sizes: Light, lengths: Light, bends: Light) -> np.ndarray:
    """Return which of the drops lay on the way of one that ran: bool (N,)."""
    up = heads[:, :1] - centres[None, :, 0]
    aside = centres[None, :, 1] - heads[:, 1:] - _path(up, sizes[:, None], bends)
    return np.asarray(((up > 0) & (up < lengths[:, None]) & (np.abs(aside) < SWEPT * sizes[:, None])).any(axis=0))


def _beads(heads: Light, sizes: Light, lengths: Light, chances: Light) -> tuple[Light, Light]:
    along, aside, size = chances[:, 3:].reshape(len(heads), 3, BEADS).transpose(1, 0, 2)
    share = (np.arange(BEADS, dtype=np.float32) + along) / np.float32(BEADS)
    up = share * lengths[:, None]
    columns = heads[:, 1:] + _path(up, sizes[:, None], chances[:, 1:3])
    columns = columns + np.float32(0.25) * (aside - np.float32(0.5)) * sizes[:, None]
    radii = sizes[:, None] * (0.12 + 0.2 * size) * (1 - 0.5 * share)
    centres = np.stack((heads[:, :1] - up, columns), axis=-1).reshape(-1, 2)
    return centres.astype(np.float32), radii.ravel().astype(np.float32)
