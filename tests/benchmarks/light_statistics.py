"""How light falls off around the brightest spot of a picture: what flare looks like, whatever stands in the picture.

On rings from 0.03 to 0.6 short sides: the log of the median, and on three of them of the darkest twentieth (what a veil
lifts), of red over blue, and the spread along the ring (a star's rays against what the scene holds).
"""

from itertools import pairwise

import cv2
import numpy as np

from degradations.numerics.light import decode, luminance
from storage.records import Image

SIDE = 256
EDGES = np.geomspace(0.03, 0.6, 9)
LEAST = 0.003  # light that still counts, so that black has a logarithm


def around_light(picture: Image) -> dict[str, float]:
    """Return the statistics of `picture`, uint8 (H, W, 3) sRGB, by name."""
    scale = SIDE / min(picture.shape[:2])
    size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
    light = decode(np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8))
    luma = luminance(light)
    soft = cv2.GaussianBlur(luma, (0, 0), 4)
    row, column = np.unravel_index(int(soft.argmax()), soft.shape)
    rows, columns = np.mgrid[: luma.shape[0], : luma.shape[1]]
    away = np.hypot(rows - row, columns - column) / SIDE
    found = {"core": float(soft.max())}
    for index, (inner, outer) in enumerate(pairwise(EDGES)):
        ring = (away >= inner) & (away < outer)
        found |= _ring(index, luma[ring], light[ring])
    return found


def _ring(index: int, luma: np.ndarray, light: np.ndarray) -> dict[str, float]:
    found = {f"fall_{index}": float(np.log(np.median(luma) + LEAST))}
    if index % 2 == 0 or index > 5:
        return found
    red, _, blue = light.mean(axis=0) + LEAST
    return found | {
        f"floor_{index}": float(np.log(np.quantile(luma, 0.05) + LEAST)),
        f"red_{index}": float(np.log(red / blue)),
        f"spread_{index}": float(np.log(luma + LEAST).std()),
    }
