"""Smooth random fields in scene coordinates: the same seed gives the same field at every resolution."""

import cv2
import numpy as np

from degradations.numerics.random import gaussian_field
from degradations.pairs.contract import Light

REDUCTION = 4  # fields are made at a quarter of the size and enlarged: their finest cell is wider than that


def fbm(shape: tuple[int, int], seed: int, *, cell: float, octaves: int = 5, gain: float = 0.5) -> Light:
    """Return fractional Brownian motion, float32 (H, W), mean about 0 and variance about 1.

    cell: width of the coarsest cell in pixels at min(H, W) = 1024; each octave halves it and weighs `gain` as much.
    """
    height, width = (max(1, -(-side // REDUCTION)) for side in shape)
    total = np.zeros((height, width), np.float32)
    weight, energy = 1.0, 0.0
    for octave in range(octaves):
        total += np.float32(weight) * lattice((height, width), seed, cell=cell / 2**octave, stream=octave)
        energy += weight * weight
        weight *= gain
    field = cv2.resize(total * np.float32(energy**-0.5), shape[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray(field, dtype=np.float32)


def lattice(shape: tuple[int, int], seed: int, *, cell: float, stream: int = 0, narrow: float = 1.0) -> Light:
    """Return smooth noise, float32 (H, W), mean 0 and variance about 1: Gaussian lattice points, cubic between.

    cell: distance of lattice points in pixels at min(H, W) = 1024. narrow: how much closer they are along
    a row. The lattice is 256 x 256 points and repeats.
    """
    points = gaussian_field((256, 256), seed, stream=stream)
    pitch = max(cell * min(shape) / 1024, 1e-3)
    rows = (np.arange(shape[0], dtype=np.float32) + 0.5) / np.float32(pitch)
    columns = (np.arange(shape[1], dtype=np.float32) + 0.5) / np.float32(pitch / narrow)
    map_columns = np.broadcast_to(columns[None, :] % 256, shape).astype(np.float32)
    map_rows = np.broadcast_to(rows[:, None] % 256, shape).astype(np.float32)
    field = cv2.remap(points, map_columns, map_rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP)
    return np.asarray(field * np.float32(1.173), dtype=np.float32)  # cubic weights keep 72.7 % of the variance
