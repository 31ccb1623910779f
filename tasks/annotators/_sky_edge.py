"""Move the border of a sky, known in whole segments, to where the colours change.

A segment of the small copy ends pixels away from a gable, and in between haze would leave a rim of clear blue. Near the
border every pixel joins the side whose mean colour around it is like its own (local colour models as in matting, Wang
and Cohen 2007, doi:10.1561/0600000019), a few steps in turn. To become sky takes more likeness than to remain it, since
a white shirt before a white wall is nobody's sky.
"""

import cv2
import numpy as np

from storage.records import Image, Plane

REACH = 3  # pixels to each side, of a copy with a short side of about 288
STEPS = 6  # so that a border moves by 18 pixels at most
LIKE = 10.0  # distance in CIELAB within which a pixel can be sky
SAME = 4.0  # within which what is sky stays sky whatever is beside it
MORE = 0.4  # of the squared distance to the other side, at most, to become sky
KNOWN = 0.3  # of a patch that has to be sky before


def moved(sky: Plane, image: Image) -> Plane:
    """Return `sky`, float32 (h, w) of 0 and 1, at the size of `image`, uint8 (H, W, 3) and small, its border moved."""
    size = image.shape[1::-1]
    before = cv2.resize(sky, size, interpolation=cv2.INTER_LINEAR).reshape(image.shape[:2]) > 0.5
    if before.all() or not before.any():
        return np.asarray(before, dtype=np.float32)
    lab = cv2.cvtColor(image.astype(np.float32) * np.float32(1 / 255), cv2.COLOR_RGB2LAB)
    around, is_sky = _box(lab), before
    for _ in range(STEPS):
        is_sky = _step(is_sky, lab, around)
    _, labels = cv2.connectedComponents(cv2.medianBlur(is_sky.astype(np.uint8), 3))
    known = np.bincount(labels.ravel(), weights=before.ravel()) / np.bincount(labels.ravel())
    known[0] = 0
    return np.asarray((known > KNOWN)[labels], dtype=np.float32)


def _step(is_sky: Plane, lab: Plane, around: Plane) -> Plane:
    """Return `is_sky`, bool (h, w), after every pixel near its border has chosen a side; around: mean of `lab`."""
    mask = is_sky.astype(np.float32)
    share = _box(mask)
    inside = _box(lab * mask[..., None])
    near = np.nonzero((share > 0.02) & (share < 0.98))
    part, own, mean = share[near][:, None], lab[near], inside[near]
    to_sky = np.square(own - mean / part).sum(axis=1)
    to_other = np.square(own - (around[near] - mean) / (1 - part)).sum(axis=1)
    was = is_sky[near]
    like = (to_sky < np.where(was, np.float32(1), np.float32(MORE)) * to_other) & (to_sky < LIKE**2)
    chosen = is_sky.copy()
    chosen[near] = like | (was & (to_sky < SAME**2))
    return chosen


def _box(planes: Plane) -> Plane:
    side = 2 * REACH + 1
    return np.asarray(cv2.blur(planes, (side, side), borderType=cv2.BORDER_REFLECT), dtype=np.float32)
