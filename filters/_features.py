"""Is one image another view of the other: turned, scaled or in perspective, by matched corners.

ORB corners (Rublee et al., ICCV 2011) of locally whitened copies, matched both ways, and the homography that most of
them agree on. It sees what is too far away for the windows of `_registration.py` and `_flow.py`.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from filters._statistics import luma, whitened
from storage.records import Image

_LARGEST = 2**18  # pixels of the copies
_CORNERS = 500
_MATCHES = 30  # at least, before a homography is looked for
_AGREEING = 0.3  # of the matches
_TOLERANCE = 3.0  # pixels of the copies
_CONTRAST = 40.0  # levels of one unit of whitened contrast

Points = NDArray[np.float32]


def frame_shift(clean: Image, degraded: Image) -> float:
    """Return how far, in pixels on average over the frame, the best homography moves `clean` onto `degraded`.

    0 where corners do not agree on one: no evidence.
    """
    factor = max(1.0, float(np.sqrt(clean.shape[0] * clean.shape[1] / _LARGEST)))
    found, given = _matches(*(_copy(image, factor) for image in (clean, degraded)))
    if len(found) < _MATCHES:
        return 0.0
    homography, agrees = cv2.findHomography(found, given, cv2.RANSAC, _TOLERANCE)
    if homography is None or agrees.mean() < _AGREEING:
        return 0.0
    inside = found[agrees[:, 0] > 0]  # beyond these points a homography is a guess
    grid = np.stack(np.meshgrid(*np.linspace(inside.min(0), inside.max(0), 5).T), -1).reshape(-1, 1, 2)
    return factor * float(np.linalg.norm(cv2.perspectiveTransform(grid, homography) - grid, axis=-1).mean())


def _copy(image: Image, factor: float) -> Image:
    size = round(image.shape[1] / factor), round(image.shape[0] / factor)
    grey = whitened(cv2.resize(luma(image), size, interpolation=cv2.INTER_AREA))
    return np.asarray(np.clip(128 + _CONTRAST * grey, 0, 255), dtype=np.uint8)


def _matches(clean: Image, degraded: Image) -> tuple[Points, Points]:
    """Return the (column, row) of corners of both images that are each other's likeliest."""
    detector = cv2.ORB.create(nfeatures=_CORNERS, nlevels=4, scoreType=cv2.ORB_FAST_SCORE, fastThreshold=20)
    (corners, codes), (others, other_codes) = (detector.detectAndCompute(image, None) for image in (clean, degraded))
    if not corners or not others:
        return np.empty((0, 2), np.float32), np.empty((0, 2), np.float32)
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(codes, other_codes)
    return _places(corners, [match.queryIdx for match in matches]), _places(others, [m.trainIdx for m in matches])


def _places(corners: Sequence[cv2.KeyPoint], chosen: list[int]) -> Points:
    return np.array([corners[index].pt for index in chosen], np.float32).reshape(-1, 2)
