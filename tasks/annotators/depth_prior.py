"""Inverse depth without weights: what a photograph's layout says about near and far.

Cues, on a copy of short side 144: lower is nearer; the subject, which stands out from what the left, right and top
borders hold, is nearer (geodesic distance over segments, Wei et al. 2012, doi:10.1007/978-3-642-33712-3_3); what is in
focus is nearer; haze lightens the dark channel of what is far (He et al. 2009, doi:10.1109/CVPR.2009.5206515); smooth
bright or blue segments joined to the top edge are sky, infinitely far, up to where the colours change (`_sky_edge`). A
fast guided filter (He and Sun 2015, arXiv:1505.00996) moves borders to the edges at full size.

It is a prior: right on average, wrong on many a photograph, and made for degradations that need a plausible depth, not
a true one. The weights are ours; `EXPERIMENTS.md` has the rank correlation with measured disparity.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components, dijkstra

from storage.records import Image, Plane
from tasks.annotators import Annotator
from tasks.annotators._sky_edge import moved
from tasks.annotators.superpixels import Labels, cut, shrink

BACKEND = "depth_prior-4"
SHORT_SIDE = 144
SUBJECT, FOCUS, HAZE = 0.5, 0.2, 0.15  # weights beside the position's 1
CONTRAST = 40.0  # colour distance, in CIELAB, that makes a subject
STEPS = 4095  # of depth: finer ones hold nothing but grain and make the stored map half as large again
DIMMER = 26.0  # of CIELAB's 100: what is darker by more below a sky is no part of it
CALM = 0.012  # detail that most of a sky keeps within
STEEPNESS = 3.0  # of the sky's border after the filter
GUIDE_SIDE, GUIDE_RADIUS, GUIDE_EPS = 288, 3, 2e-3

Colours = NDArray[np.float64]


def load(device: str, weights: str) -> Annotator:
    """Return the annotator; it runs on the CPU wherever `device` is and needs no `weights`."""
    del device, weights
    return Annotator(kind="depth", backend=BACKEND, prepare=inverse_depth)


def inverse_depth(image: Image) -> Plane:
    """Return inverse depth of `image`, uint8 (H, W, 3): float32 (H, W) in [0, 1], 1 nearest, 0 infinitely far."""
    small = shrink(image, SHORT_SIDE)
    labels = cut(small)
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    colours = _means(labels, lab)
    near = _position(small) + SUBJECT * _subject(labels, colours)
    detail = _detail(image, small)
    near = near + FOCUS * _ranks(cv2.GaussianBlur(detail, (0, 0), 5)) - HAZE * _dark_channel(small)
    low, high = np.quantile(near, (0.01, 0.99))
    depth = 0.03 + 0.97 * np.clip((near - low) / max(high - low, 1e-6), 0, 1)
    sky = moved(_sky(labels, colours, detail), shrink(image, GUIDE_SIDE))
    return _edge_aligned(depth.astype(np.float32), sky, image)


def _position(small: Image) -> Plane:
    rows = (np.arange(small.shape[0], dtype=np.float32) + 0.5) / small.shape[0]
    return np.broadcast_to(rows[:, None], small.shape[:2])


def _subject(labels: Labels, colours: Colours) -> Plane:
    borders = np.unique(np.concatenate([labels[0], labels[:, 0], labels[:, -1]]))
    pairs = _neighbours(labels)
    steps = np.maximum(np.linalg.norm(colours[pairs[:, 0]] - colours[pairs[:, 1]], axis=1) - 5, 1e-3)
    graph = csr_matrix((steps, (pairs[:, 0], pairs[:, 1])), (len(colours), len(colours)))
    distance = dijkstra(graph, directed=False, indices=borders, min_only=True)
    salience = (1 - np.exp(-distance / CONTRAST)).astype(np.float32)[labels]
    return np.asarray(cv2.GaussianBlur(salience, (0, 0), SHORT_SIDE / 36), dtype=np.float32)


def _neighbours(labels: Labels) -> NDArray[np.int64]:
    across = np.stack([labels[:, 1:].ravel(), labels[:, :-1].ravel()], axis=1)
    down = np.stack([labels[1:].ravel(), labels[:-1].ravel()], axis=1)
    pairs = np.sort(np.concatenate([across, down]), axis=1).astype(np.int64)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    codes = np.unique(pairs[:, 0] * 256 + pairs[:, 1])
    return np.stack(np.divmod(codes, 256), axis=1)


def _detail(image: Image, small: Image) -> Plane:
    luma = cv2.cvtColor(shrink(image, 4 * SHORT_SIDE), cv2.COLOR_RGB2GRAY)
    curvature = np.abs(cv2.Laplacian(luma, cv2.CV_32F)) * np.float32(1 / 255)
    return np.asarray(cv2.resize(curvature, small.shape[1::-1], interpolation=cv2.INTER_AREA), dtype=np.float32)


def _dark_channel(small: Image) -> Plane:
    darkest = cv2.erode(small.min(axis=2), np.ones((9, 9), np.uint8))
    return np.asarray(cv2.GaussianBlur(darkest, (0, 0), 4), dtype=np.float32) / np.float32(255)


def _sky(labels: Labels, colours: Colours, detail: Plane) -> Plane:
    top_share = np.bincount(labels[0], minlength=len(colours)) / labels.shape[1]
    centre = _means(labels, np.broadcast_to(np.linspace(0, 1, labels.shape[0])[:, None, None], (*labels.shape, 1)))[
        :, 0
    ]
    lightness, blueness = colours[:, 0], -colours[:, 2]
    mean, most = _means(labels, detail[..., None])[:, 0], _quantiles(labels, detail, 0.35)
    smooth = (mean < 0.03) | ((mean < 0.12) & (most < CALM))  # between houses edges lie all around it
    may_be = (centre < 0.55) & smooth & ((lightness > 75) | ((lightness > 30) & (blueness > 8)))
    pairs = _neighbours(labels)
    alike = np.abs(lightness[pairs[:, 0]] - lightness[pairs[:, 1]]) < DIMMER
    pairs = pairs[may_be[pairs].all(axis=1) & alike]  # a sky goes on between houses, but into no blue mountain
    graph = csr_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (len(colours), len(colours)))
    patch = connected_components(graph, directed=False)[1]
    is_sky = may_be & np.isin(patch, patch[may_be & (top_share > 0.05)])
    return np.asarray(is_sky.astype(np.float32)[labels])


def _means(labels: Labels, planes: NDArray[np.floating]) -> Colours:
    flat, count = labels.ravel(), int(labels.max()) + 1
    areas = np.maximum(np.bincount(flat, minlength=count), 1)
    sums = [np.bincount(flat, weights=planes[..., index].ravel(), minlength=count) for index in range(planes.shape[2])]
    return np.stack([total / areas for total in sums], axis=1)


def _quantiles(labels: Labels, plane: Plane, share: float) -> NDArray[np.float64]:
    """Return the quantile `share` of `plane` in each segment."""
    return np.array([np.quantile(plane[labels == label], share) for label in range(int(labels.max()) + 1)])


def _ranks(plane: Plane) -> Plane:
    order = np.argsort(plane, axis=None, kind="stable")
    ranks = np.empty(plane.size, np.float32)
    ranks[order] = np.linspace(0, 1, plane.size, dtype=np.float32)
    return ranks.reshape(plane.shape)


def _edge_aligned(depth: Plane, sky: Plane, image: Image) -> Plane:
    """Return `depth`, 0 in the `sky` of the guide's size, at full size with its borders at the edges of `image`.

    Depth and sky are filtered apart, and the sky made steep again: what is nearly sky is no haze's nearest point.
    """
    full = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    guide = shrink(full, GUIDE_SIDE).astype(np.float32) * np.float32(1 / 255)
    aligned = _guided(cv2.resize(depth, guide.shape[::-1], interpolation=cv2.INTER_LINEAR), guide, full)
    if sky.any():
        ground = (np.float32(0.5) - _guided(sky, guide, full)) * np.float32(STEEPNESS) + np.float32(0.5)
        aligned *= np.clip(ground, 0, 1)
    steps = np.rint(np.clip(aligned, 0, 1) * np.float32(STEPS))
    return np.asarray(steps / np.float32(STEPS), dtype=np.float32)  # divided, so that the nearest is 1 and no more


def _guided(plane: Plane, guide: Plane, full: Image) -> Plane:
    """Return `plane`, of the shape of `guide`, at the size of `full`, of which `guide` is a small copy."""
    plane = np.asarray(plane, dtype=np.float32).reshape(guide.shape)
    mean_guide, mean_plane = _box(guide), _box(plane)
    slope = (_box(guide * plane) - mean_guide * mean_plane) / (_box(guide * guide) - mean_guide**2 + GUIDE_EPS)
    offset = mean_plane - slope * mean_guide
    size = full.shape[::-1]
    aligned = cv2.resize(_box(slope) * np.float32(1 / 255), size) * full + cv2.resize(_box(offset), size)
    return np.asarray(aligned, dtype=np.float32)


def _box(plane: Plane) -> Plane:
    side = 2 * GUIDE_RADIUS + 1
    return np.asarray(cv2.blur(plane, (side, side), borderType=cv2.BORDER_REFLECT), dtype=np.float32)
