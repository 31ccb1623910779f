"""Is it a photograph at all: drawings, charts and screens of text have few colours and, between them, hard edges.

In a photograph shading and noise make small steps nearly everywhere, whatever its palette: a night sky has few colours
but no hard edges, a facade hard edges but many colours.
"""

import cv2
import numpy as np

from storage.records import Image

_COMMONEST = 12
_SOFT = (2, 16)  # levels of a step that shading or noise makes
_HARD = 48  # of one that an edge makes
_GREY = 2.0  # mean difference of the channels


def palette(image: Image) -> float:
    """Return the share of pixels in one of the twelve commonest colours, of 32 shades a channel, 256 of grey."""
    grey = float(np.mean(cv2.absdiff(image[..., 0], image[..., 2]))) < _GREY
    if grey:
        codes = image[..., 1].astype(np.uint32)
    else:
        red, green, blue = np.moveaxis(image.astype(np.uint32) >> 3, -1, 0)
        codes = red << 10 | green << 5 | blue
    counts = np.bincount(codes.ravel())
    return float(np.sort(counts)[-_COMMONEST:].sum() / codes.size)


def softness(image: Image) -> float:
    """Return the share of soft steps among soft and hard ones; 0 where there are hardly any of either."""
    window = np.ones((3, 3), np.uint8)
    steps = cv2.subtract(cv2.dilate(image, window), cv2.erode(image, window)).max(-1)
    soft = np.mean((steps >= _SOFT[0]) & (steps <= _SOFT[1]))
    return float(soft / (soft + np.mean(steps > _HARD) + 1e-3))
