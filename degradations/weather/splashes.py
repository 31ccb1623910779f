"""Where rain strikes the ground: which part of the image faces up, and the crowns that drops throw there."""

import cv2
import numpy as np
from numpy.typing import NDArray

from degradations.numerics.random import gaussian_field, uniform_field
from degradations.pairs.contract import Light
from degradations.weather.atmosphere import SKY
from degradations.weather.strokes import count, draw, frames
from storage.records import Image, Plane

FLATTENING = 0.35  # of a crown's rim, seen from a standing person's height
JETS = 4
RIM = 8  # pieces of a crown's rim
OPACITY = 0.85  # of the brightest
REDUCTION = 4
PROXY = 96  # shorter side, in pixels, of the copy on which colours are compared
UNDERFOOT = 0.1  # of the height, at the bottom: what one stands on
ALIKE = 8.0  # distance in CIELAB within which a colour is that of the ground below; at twice that it is none of it
SHADED = 0.7  # weight of lightness in it: ground has lit and shaded parts


def struck(up: Light, image: Image) -> Light:
    """Return the part of `up`, the share by which each point of `image` faces up (`ground`), on which drops splash.

    By depth alone every wall is ground whose depth is as smooth as a guess; crowns on a tent are seen to be wrong, and
    none on a doormat are not. So ground also has the colour of what lies below it, at the bottom of the picture.
    """
    alike = cv2.resize(_underfoot(image), up.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(up * alike.reshape(up.shape), dtype=np.float32)


def _underfoot(image: Image) -> Light:
    """Return how like the colour of what lies below it at the bottom each point is, float32 (h, w) in [0, 1]."""
    step = max(1, min(image.shape[:2]) // PROXY)
    small = cv2.blur(np.ascontiguousarray(image[step // 2 :: step, step // 2 :: step]), (3, 3))
    size = small.shape[1::-1]
    small = small.reshape(*size[::-1], 3)
    lab = cv2.cvtColor(small.astype(np.float32) * np.float32(1 / 255), cv2.COLOR_RGB2LAB)
    lab[..., 0] *= SHADED
    below = lab[-max(1, round(UNDERFOOT * len(lab))) :].mean(axis=0, keepdims=True)
    below = cv2.blur(below, (2 * (size[0] // 8) + 1, 1), borderType=cv2.BORDER_REPLICATE).reshape(below.shape)
    apart = np.sqrt(np.square(lab - below).sum(axis=2))
    alike = np.clip(2 - apart / np.float32(ALIKE), 0, 1)
    return np.asarray(cv2.GaussianBlur(alike, (0, 0), 1), dtype=np.float32).reshape(apart.shape)


def ground(inverse_depth: Plane, horizon: float) -> Light:
    """Return how far each point faces up, float32 in [0, 1], at a quarter of the size.

    On a level plane inverse depth grows linearly from 0 at the horizon, so that its slope times the rows below the
    horizon is itself; a wall has no slope. The sky and all above the horizon is 0.
    """
    height, width = (max(1, -(-side // REDUCTION)) for side in inverse_depth.shape)
    small = cv2.GaussianBlur(cv2.resize(inverse_depth, (width, height), interpolation=cv2.INTER_AREA), (0, 0), 3)
    below = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / height - np.float32(horizon)
    down = cv2.Sobel(small, cv2.CV_32F, 0, 1, ksize=3, scale=height / 8)
    across = cv2.Sobel(small, cv2.CV_32F, 1, 0, ksize=3, scale=height / 8)
    likeness = down * below / np.maximum(small, SKY)
    faces_up = np.clip((likeness - 0.05) / 0.2, 0, 1) * np.clip((6 - likeness) / 3, 0, 1)
    upright = np.clip(2 - np.abs(across) / np.maximum(down, 1e-3), 0, 1)
    can_be = ((small > SKY) & (below > 0)).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(faces_up * upright * can_be, (0, 0), 2) * can_be, dtype=np.float32)


def crowns(
    inverse_depth: Plane, up: Light, *, density: float, radius: float, seed: int
) -> tuple[NDArray[np.uint8], float]:
    """Return splashes, uint8 (H, W), and the opacity that 255 stands for.

    density: drops that strike per square of the shorter side where all is near ground. radius: of a crown at the
    nearest point, in pixels of this image; it shrinks with inverse depth.
    """
    height, width = inverse_depth.shape
    num_drops = count(density * frames((height, width)), float(gaussian_field((1,), seed, stream=0)[0]))
    chances = uniform_field((num_drops, 4), seed, stream=1)
    rows = np.minimum((chances[:, 0] * height).astype(np.int64), height - 1)
    columns = np.minimum((chances[:, 1] * width).astype(np.int64), width - 1)
    near = inverse_depth[rows, columns]
    small = up[rows * up.shape[0] // height, columns * up.shape[1] // width]
    hit = chances[:, 2] < small * np.minimum(1, 2 * near)
    age = chances[hit, 3]
    sizes = radius * near[hit] * (0.35 + 0.65 * np.sqrt(age))
    centres = np.stack((rows[hit], columns[hit]), axis=1).astype(np.float32)
    visible = np.minimum(1, sizes)
    lines, levels = _crown(centres, sizes, age, uniform_field((len(sizes), 3 * JETS + RIM), seed, stream=2))
    plane = draw((height, width), lines, levels * np.tile(visible, JETS + RIM), np.ones(len(lines), np.float32))
    return cv2.GaussianBlur(plane, (3, 3), 0), OPACITY


def _crown(centres: Light, sizes: Light, age: Light, chances: Light) -> tuple[Light, Light]:
    """Return segments (N, 2, 2) and levels (N,): a broken rim, fainter behind, and spray."""
    segments, levels = [], []
    for k in range(RIM):
        a, b = 2 * np.pi * k / RIM, 2 * np.pi * (k + 1) / RIM
        ends = [np.array([FLATTENING * np.sin(angle), np.cos(angle)]) for angle in (a, b)]
        segments.append(np.stack([centres + sizes[:, None] * end for end in ends], axis=1))
        levels.append((1 - age) * (0.6 + 0.3 * np.sin((a + b) / 2)) * chances[:, 3 * JETS + k])
    for jet in range(JETS):
        lean, height, length = chances[:, 3 * jet : 3 * jet + 3].T
        side = (2 * lean - 1) * sizes
        rise = (0.2 + 1.1 * height * np.sqrt(age)) * sizes
        tip = centres + np.stack((-rise, 1.4 * side), axis=1)
        foot = tip + (0.15 + 0.5 * length * (1 - age))[:, None] * (centres + np.stack((0 * side, side), axis=1) - tip)
        segments.append(np.stack((foot, tip), axis=1))
        levels.append((1 - 0.6 * age) * (0.4 + 0.6 * length))
    return np.concatenate(segments).astype(np.float32), np.concatenate(levels).astype(np.float32)
