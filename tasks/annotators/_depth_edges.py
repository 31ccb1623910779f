"""Sharpen the borders of a network's depth, which it leaves several pixels wide, and move them to those of the image.

Around every pixel the nearest and the farthest depth within reach are the two sides it may belong to, and the map says
how far it is between them. That share is steepened, so that a ramp becomes a step in its middle, and leans to the side
whose mean colour nearby is like the pixel's own; the idea is that of local colour models in matting (Wang and Cohen
2007, doi:10.1561/0600000019), in its simplest form. The guided filter that serves the depth prior does harm here: where
things have edges inside or backgrounds of their own colour it spreads what the network has right. On a scene with
measured disparity it makes the error at borders larger, this halves it (`EXPERIMENTS.md`).
"""

import cv2
import numpy as np

from storage.records import Image, Plane
from tasks.annotators.depth_prior import STEPS

REACH = 1 / 200  # of the shorter side: about two pixels of a network that sees 384
STEEPNESS = 4.0
LEANING = 0.25  # of the share, when the colour is wholly that of one side
NOISE = 0.002  # squared colour distance, in hundredths of CIELAB, that tells nothing


def align(depth: Plane, image: Image) -> Plane:
    """Return `depth`, float32 (H, W) in [0, 1], with sharp borders, in steps of 1/4095 like the prior's.

    image: uint8 (H, W, 3), what the depth is of. Flat parts and slow slopes stay as they are.
    """
    reach = max(1, round(min(depth.shape) * REACH))
    square = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    farthest, nearest = cv2.erode(depth, square), cv2.dilate(depth, square)
    span = nearest - farthest
    share = (depth - farthest) / np.maximum(span, np.float32(1e-6)) - np.float32(0.5)
    steep = share * np.float32(STEEPNESS) + np.float32(LEANING) * _likeness(share, image, 2 * reach)
    aligned = farthest + np.clip(steep + np.float32(0.5), 0, 1) * span
    steps = np.rint(np.clip(aligned, 0, 1) * np.float32(STEPS))
    return np.asarray(steps / np.float32(STEPS), dtype=np.float32)


def _likeness(share: Plane, image: Image, radius: int) -> Plane:
    """Return 1 where the colour is that of the near side nearby, -1 where it is that of the far side; at half size."""
    size = (max(1, share.shape[1] // 2), max(1, share.shape[0] // 2))
    half = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(half.astype(np.float32) * np.float32(1 / 255), cv2.COLOR_RGB2LAB) * np.float32(0.01)
    small = cv2.resize(share, size, interpolation=cv2.INTER_AREA)
    near, far = (np.clip(side, 0, None) * 2 for side in (small, -small))
    to_near, to_far = (_distance(lab, weight, max(1, radius // 2)) for weight in (near, far))
    likeness = (to_far - to_near) / (to_far + to_near + np.float32(NOISE))
    return np.asarray(cv2.resize(likeness, share.shape[::-1], interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def _distance(lab: Plane, weight: Plane, radius: int) -> Plane:
    """Return the squared distance of each colour from the weighted mean around it."""
    total = _box(weight, radius)[..., None] + np.float32(1e-4)
    mean = _box(lab * weight[..., None], radius) / total
    return np.asarray(np.square(lab - mean).sum(axis=2), dtype=np.float32)


def _box(planes: Plane, radius: int) -> Plane:
    side = 2 * radius + 1
    return np.asarray(cv2.blur(planes, (side, side), borderType=cv2.BORDER_REFLECT), dtype=np.float32)
