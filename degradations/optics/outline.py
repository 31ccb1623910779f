"""Which segments may move by themselves: whether one is a thing, or a part of something or a piece of ground.

A thing differs in colour from what is behind it nearly all along its outline, and is not ragged; a piece of pavement
goes on beyond its border somewhere, half a face joins the other half. Segments that know no objects (superpixels) are
mostly such pieces: of 298 in 53 photographs that had the size and place of things, 251 fail here (`EXPERIMENTS.md`).
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from storage.records import Image, Scene

AREA = (0.02, 0.35)  # share of the picture: people, vehicles, animals
BORDER = 0.1  # share of a side of the picture: what covers more of the upper one, or of two, is scenery
SIDE = 160  # pixels of the longer side of the copy that is looked at
REACH = 2  # pixels on either side of the outline whose colours are compared
APART = 16.0  # of CIELAB, a clear difference of surfaces
ALONG = 0.85  # share of the outline that must differ so much
COMPACT = 0.65  # of the area of its convex hull; a person walking has about this


def movers(scene: Scene) -> tuple[list[int], bool]:
    """Return the segments that may move by themselves, of them only things if there are any, and whether there are.

    They are of the size of what moves, near, and not the frame of the scene.
    """
    if scene.segments is None:
        return [], False
    areas = np.bincount(scene.segments.ravel(), minlength=256) / scene.segments.size
    low, high = AREA
    sized = [label for label, area in enumerate(areas) if low <= area <= high]
    candidates = [label for label in sized if _stands_out(scene.segments == label, scene.depth)]
    found = things(scene.image, scene.segments, candidates) if candidates else []
    return found or candidates, bool(found)


def _stands_out(inside: NDArray[np.bool_], depth: NDArray[np.float32] | None) -> bool:
    """Return whether a segment leaves most of the border free and, where depth is known, is no farther than most."""
    touched = sum(float(edge.mean()) > BORDER for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))
    near = depth is None or float(depth[inside].mean()) >= float(np.median(depth))
    return near and touched <= 1 and not inside[0].mean() > BORDER


def things(image: Image, segments: Image, labels: list[int]) -> list[int]:
    """Return those of `labels` whose segments, uint8 (H, W), are things in `image`, uint8 (H, W, 3) sRGB."""
    scale = min(1.0, SIDE / max(segments.shape))
    size = (max(1, round(segments.shape[1] * scale)), max(1, round(segments.shape[0] * scale)))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    colours = np.asarray(cv2.cvtColor(small.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2LAB))
    coarse = cv2.resize(segments, size, interpolation=cv2.INTER_NEAREST)
    return [label for label in labels if is_compact(coarse == label) and is_apart(colours, coarse == label)]


def is_compact(inside: NDArray[np.bool_]) -> bool:
    """Return whether a segment (H, W) fills most of its convex hull."""
    rows, columns = np.nonzero(inside)
    if rows.size < 9:
        return False
    corners = [np.stack((columns + x, rows + y), axis=1) for x in (0, 1) for y in (0, 1)]
    points = np.concatenate(corners).astype(np.int32)
    return rows.size >= COMPACT * cv2.contourArea(cv2.convexHull(points))


def is_apart(colours: NDArray[np.float32], inside: NDArray[np.bool_]) -> bool:
    """Return whether the mean colours (H, W, 3) within and without differ along the outline, but for the border."""
    square = np.ones((3, 3), np.uint8)
    mask = inside.astype(np.uint8)
    within, without = cv2.erode(mask, square), 1 - cv2.dilate(mask, square)
    outline = (within == 0) & (without == 0)
    outline[[0, -1]] = outline[:, [0, -1]] = False
    apart = np.linalg.norm(_around(colours, within) - _around(colours, without), axis=2)[outline]
    return apart.size > 0 and float((apart > APART).mean()) >= ALONG


def _around(colours: NDArray[np.float32], weight: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the mean colour, around each pixel, of those that have `weight`; black where there are none."""
    box, share = (2 * REACH + 1, 2 * REACH + 1), weight.astype(np.float32)
    total = cv2.blur(colours * share[..., None], box, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(total / np.maximum(cv2.blur(share, box, borderType=cv2.BORDER_CONSTANT), 1e-3)[..., None])
