"""Segments without weights: a graph cut into regions on a small copy, borders moved to the edges at full size.

Felzenszwalb and Huttenlocher's graph-based segmentation (IJCV 2004, doi:10.1023/B:VISI.0000022288.19776.77) on a copy
of short side 144, regions below 1/254 of the area merged into their neighbours, so that at most 254 are left. From
there to the full size in steps of two: at each, pixels on a border choose among the labels around them the one that is
near in colour and has most neighbours (iterated conditional modes, Besag 1986).
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from skimage.segmentation import felzenszwalb

from storage.records import Image
from tasks.annotators import Annotator

BACKEND = "superpixels-1"
SHORT_SIDE = 144
MAX_SEGMENTS = 254
SCALE = 120.0  # of the graph cut: larger joins more
SIGMA = 0.6  # less makes contour lines of skies, because codes are whole numbers
NEIGHBOUR = 400.0  # what one neighbour of the same label is worth, in squared codes: a colour distance of 20
RIM = 0.1  # a segment with fewer inner pixels, relatively, is a rim

Labels = NDArray[np.uint8]


def load(device: str, weights: str) -> Annotator:
    """Return the annotator; it runs on the CPU wherever `device` is and needs no `weights`."""
    del device, weights
    return Annotator(kind="segments", backend=BACKEND, prepare=segments)


def segments(image: Image) -> Labels:
    """Return uint8 (H, W) labels of `image`, uint8 (H, W, 3): 0, 1, ... by falling area, at most 254 of them."""
    small = shrink(image, SHORT_SIDE)
    labels = cut(small)
    means = _mean_colours(labels, small)
    while labels.shape != image.shape[:2]:
        step = shrink(image, 2 * min(labels.shape))
        labels = _settled(_enlarged(labels, step), step, means)
    return by_area(labels)


def shrink(image: Image, short_side: int) -> Image:
    """Return `image` reduced by area to the short side, or itself when it is that small already."""
    height, width = image.shape[:2]
    ratio = short_side / min(height, width)
    if ratio >= 1:
        return image
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def cut(small: Image) -> Labels:
    """Return the graph-based regions of a small image, uint8 (h, w), each at least 1/254 of the area."""
    smallest = -(-small.shape[0] * small.shape[1] // MAX_SEGMENTS)
    labels = felzenszwalb(small, scale=SCALE, sigma=SIGMA, min_size=smallest).astype(np.uint8)
    return by_area(_without_rims(labels))


def _without_rims(labels: Labels) -> Labels:
    """Give segments that are all border, the mixed colours around things, to the nearest other segments."""
    square = np.ones((3, 3), np.uint8)
    inner = cv2.erode(labels, square) == cv2.dilate(labels, square)
    cores = np.bincount(labels[inner], minlength=256)
    is_rim = (cores < RIM * np.bincount(labels.ravel(), minlength=256))[labels]
    if is_rim.all():
        return labels
    rows, columns = distance_transform_edt(is_rim, return_distances=False, return_indices=True)
    return np.asarray(labels[rows, columns])


def by_area(labels: Labels) -> Labels:
    """Return `labels` renumbered 0, 1, ... by falling area; equal areas keep their order."""
    areas = np.bincount(labels.ravel(), minlength=256)
    ranks = np.empty(256, np.uint8)
    ranks[np.argsort(-areas, kind="stable")] = np.arange(256)
    return np.asarray(cv2.LUT(labels, ranks))


def _enlarged(labels: Labels, image: Image) -> Labels:
    return np.asarray(cv2.resize(labels, image.shape[1::-1], interpolation=cv2.INTER_NEAREST), dtype=np.uint8)


def _settled(labels: Labels, image: Image, means: NDArray[np.float32]) -> Labels:
    padded = np.pad(labels, 1, mode="edge")
    around = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    on_border = np.flatnonzero(np.logical_or.reduce([side != labels for side in around]))
    own, sides = labels.ravel()[on_border], [side.ravel()[on_border] for side in around]
    colours = image.reshape(-1, 3)[on_border].astype(np.float32)
    best, least = own, np.full(own.size, np.inf, np.float32)
    for label in (own, *sides):
        agreeing = np.add.reduce([side == label for side in sides], dtype=np.float32)
        cost = np.square(colours - means[label]).sum(axis=1) - np.float32(NEIGHBOUR) * agreeing
        best, least = np.where(cost < least, label, best), np.minimum(cost, least)
    settled = labels.ravel().copy()
    settled[on_border] = best
    return settled.reshape(labels.shape)


def _mean_colours(labels: Labels, image: Image) -> NDArray[np.float32]:
    flat = labels.ravel()
    areas = np.maximum(np.bincount(flat, minlength=256), 1)
    sums = [np.bincount(flat, weights=image[..., channel].ravel(), minlength=256) for channel in range(3)]
    return np.stack([total / areas for total in sums], axis=1).astype(np.float32)
