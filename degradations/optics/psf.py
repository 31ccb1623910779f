"""Point spread functions: what one point of the scene becomes on the sensor.

Every kernel is built from points in continuous coordinates (a trajectory, an aperture) whose weights are shared among
the four nearest pixels. So its sum is 1, its centroid exactly 0, it changes smoothly with its size and tends to the
identity as the size tends to 0, at every resolution. Kernels are odd squares of float32; lengths are in pixels.
"""

import cmath
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ive, j1

from degradations.numerics.random import gaussian_field, uniform_field
from degradations.pairs.contract import Light

Points = NDArray[np.float64]  # (N, 2) of (row, column)
Weights = NDArray[np.float64]  # (N,), any sum

STEPS = 400  # of a trajectory; 2000 in the paper look the same
_OPEN = 4.5  # radians per pixel: a little more than the corner of all frequencies, pi sqrt(2)


def splat(points: Points, weights: Weights | None = None) -> Light:
    """Return the kernel of weighted `points`, moved so that their centroid is 0."""
    weights = np.ones(len(points)) if weights is None else weights
    weights = weights / weights.sum()
    points = points - weights @ points
    radius = max(0, math.ceil(np.abs(points).max() - 1e-9))
    side = 2 * radius + 3
    corner = np.floor(points)
    part = points - corner
    flat = ((corner + radius + 1) @ (side, 1)).astype(np.int64)
    kernel = np.zeros(side * side)
    for offset, share in (
        (0, (1 - part[:, 0]) * (1 - part[:, 1])),
        (1, (1 - part[:, 0]) * part[:, 1]),
        (side, part[:, 0] * (1 - part[:, 1])),
        (side + 1, part[:, 0] * part[:, 1]),
    ):
        kernel += np.bincount(flat + offset, share * weights, side * side)
    return trim(kernel.reshape(side, side))


def point_spread(points: Points, weights: Weights | None = None) -> Light:
    """Return the kernel of weighted `points`, drawn together so that its variance is theirs.

    Sharing a point among pixels adds a variance f (1 - f) per axis, up to 1/4, which would count where the points lie
    less than a few pixels apart: on small pictures and at low severity.
    """
    weights = np.ones(len(points)) if weights is None else weights
    weights = weights / weights.sum()
    places = np.ascontiguousarray((points - weights @ points).T)
    wanted, scale = float((places * places).sum(axis=0) @ weights), 1.0
    for _ in range(8):  # Newton's method
        part = places * scale
        part -= np.floor(part)
        excess = (scale * scale - 1) * wanted + float((part - part * part).sum(axis=0) @ weights)
        if abs(excess) < 1e-6 * wanted:
            break
        slope = 2 * scale * wanted + float((places - 2 * part * places).sum(axis=0) @ weights)
        scale = max(scale / 4, scale - excess / slope) if slope > 0 else 0.9 * scale
    return splat(places.T * scale, weights)


def trim(kernel: NDArray[Any]) -> Light:
    """Return `kernel` without its empty border, odd and square, summing to 1."""
    centre = len(kernel) // 2
    rows, columns = np.nonzero(np.abs(kernel) > 1e-9)
    reach = int(max(np.abs(rows - centre).max(), np.abs(columns - centre).max()))
    kernel = kernel[centre - reach : centre + reach + 1, centre - reach : centre + reach + 1]
    return np.asarray(kernel / kernel.sum(), dtype=np.float32)


def line(length: float, angle: float) -> Points:
    """Return the points, (STEPS, 2), of a straight, even motion; angle: radians from the row axis to the columns."""
    time = (np.arange(STEPS) + 0.5) / STEPS - 0.5
    return np.stack([time * length * math.cos(angle), time * length * math.sin(angle)], axis=1)


def stroke(length: float, angle: float) -> Light:
    """Return the kernel of the `line` in so few taps that it costs least.

    Of the rows or the columns, whichever are crossed more, each takes as much as lies in it, at the place of its
    middle: two taps.
    """
    direction = np.array([math.cos(angle), math.sin(angle)])
    along = int(np.argmax(np.abs(direction)))
    half = length * abs(direction[along]) / 2
    place = np.arange(-math.ceil(half), math.ceil(half) + 1)
    first, last = np.maximum(place - 0.5, -half), np.minimum(place + 0.5, half)
    inside, points = last > first, np.empty((len(place), 2))
    points[:, along] = place
    points[:, 1 - along] = (first + last) / 2 * direction[1 - along] / direction[along]
    return splat(points[inside], (last - first)[inside])


def trajectory(length: float, seed: int, *, centripetal: float, jerk: float, tremor: float) -> Points:
    """Return the points of a camera shaken by hand during one exposure.

    Boracchi and Foi, "Modeling the performance of image restoration from motion blur" (IEEE TIP 21(8), 2012): a point
    is pulled to the centre by `centripetal`, pushed by Gaussian `tremor`, thrown about with probability `jerk` per
    exposure, and keeps its speed. Ours: the path is scaled so that its RMS radius is that of a line of `length`, so
    that curled and straight paths of one severity blur alike.
    """
    tremors = 0.1 * tremor * gaussian_field((STEPS, 2), seed, stream=1).astype(np.float64)
    throws = uniform_field((STEPS, 2), seed, stream=2).astype(np.float64)
    position, path = 0j, np.empty(STEPS, np.complex128)
    velocity = complex(*gaussian_field((2,), seed, stream=3))
    velocity /= abs(velocity) or 1.0
    steps = zip((tremors @ (1, 1j)).tolist(), *throws.T.tolist(), strict=True)
    for step, (push, chance, turn) in enumerate(steps):
        change = push - centripetal * position * (2.0 / STEPS)
        if chance < jerk / STEPS:
            change += 2 * velocity * cmath.exp(1j * (math.pi + (turn - 0.5)))
        velocity += change
        velocity /= abs(velocity) or 1.0
        position += velocity * (2.0 / STEPS)
        path[step] = position
    path -= path.mean()
    scale = length / math.sqrt(12) / max(1e-9, float(np.sqrt(np.mean(np.abs(path) ** 2))))
    return np.stack([path.real, path.imag], axis=1) * scale


def aperture(radius: float, *, blades: int, rotation: float, ring: float) -> Light:
    """Return the kernel of a defocused point: the image of the lens's opening, area pi radius^2.

    blades: 0 for a round opening, else the corners of a regular polygon of the same area. rotation: radians. ring: how
    much brighter the rim is than the centre, as spherical aberration makes it.
    """
    count = int(np.clip(radius * 8, 24, 96))
    axis = (np.arange(count) + 0.5) / count * 2 - 1
    rows, columns = (grid.ravel() for grid in np.meshgrid(axis, axis, indexing="ij"))
    distance = np.hypot(rows, columns)
    rim = np.full_like(distance, 1.0)
    if blades:
        sector = 2 * math.pi / blades
        direction = (np.arctan2(rows, columns) + rotation) % sector - sector / 2
        area = 0.5 * blades * math.sin(sector)  # of the polygon whose corners lie on the unit circle
        rim = math.cos(sector / 2) / np.cos(direction) * math.sqrt(math.pi / area)
        reach = math.sqrt(math.pi / area)
        return _opening(rows * reach, columns * reach, distance * reach, rim, radius, ring)
    return _opening(rows, columns, distance, rim, radius, ring)


def _opening(rows: Any, columns: Any, distance: Any, rim: Any, radius: float, ring: float) -> Light:
    inside = distance <= rim
    weights = 1 + ring * (distance[inside] / rim[inside]) ** 4
    return point_spread(np.stack([rows[inside], columns[inside]], axis=1) * radius, weights)


def gaussian_taps(sigma: float) -> Light:
    """Return the discrete Gaussian (Lindeberg 1990), float32 (2 r + 1,): its variance is exactly sigma^2."""
    radius = math.ceil(3.5 * sigma + 0.5)
    taps = ive(np.arange(-radius, radius + 1), sigma * sigma)
    return np.asarray(taps / taps.sum(), dtype=np.float32)


def bell(sigma: float, aspect: float, angle: float, *, beta: float, plateau: bool) -> Light:
    """Return a generalised Gaussian exp(-q^beta / 2), or a plateau 1 / (1 + q^beta).

    q: squared distance in units of the axes. sigma: geometric mean of the RMS widths along the axes, whose ratio is
    `aspect`; angle: of the long one, radians. The kernels of Wang et al., Real-ESRGAN (arXiv 2107.10833, section 3.1);
    beta 1 without plateau is the Gaussian.
    """
    axis = (np.arange(81) + 0.5) / 81 * 8 - 4
    along, across = (grid.ravel() for grid in np.meshgrid(axis, axis, indexing="ij"))
    power = (along**2 + across**2) ** beta
    weights = 1 / (1 + power) if plateau else np.exp(-0.5 * power)
    weights[along**2 + across**2 > 16] = 0
    scale = sigma / math.sqrt(float(weights @ along**2) / float(weights.sum()))
    along, across = along * (scale * aspect**0.5), across * (scale * aspect**-0.5)
    rows = along * math.cos(angle) - across * math.sin(angle)
    columns = along * math.sin(angle) + across * math.cos(angle)
    return point_spread(np.stack([rows, columns], axis=1), weights)


def ringing(cutoff: float) -> Light:
    """Return the circular low-pass of `cutoff` in radians per pixel, faded out after its third ring.

    Beyond pi, where it takes only what is diagonal and fine, it fades to the identity, which it is from 4.5 on.
    """
    part = min(1.0, (_OPEN - cutoff) / (_OPEN - math.pi))
    if part <= 0:
        return np.ones((1, 1), np.float32)
    cutoff = min(cutoff, math.pi)
    reach = 10.2 / cutoff + 1
    radius = math.ceil(reach)
    rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    distance = np.maximum(np.hypot(rows, columns), 1e-9)
    kernel = j1(cutoff * distance) / distance
    kernel[radius, radius] = cutoff / 2
    kernel *= np.clip(reach - distance, 0, 1)  # a sharp end would make the harm jump with the radius
    kernel *= part / kernel.sum()
    kernel[radius, radius] += 1 - part
    return trim(kernel)
