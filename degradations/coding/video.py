"""An intra frame of a video codec: its colours, its transforms, its dead zone, its loop filter; no bit stream.

After H.264 (ITU-T H.264) and H.265 (ITU-T H.265): BT.709 in limited range, 4:2:0, transforms of 4, 8 or 16 pixels
chosen per 16 x 16 block by rate and distortion, uniform quantiser with dead zone whose step doubles every 6 QP, and a
filter across block edges weaker than the step. Of the prediction from neighbours that are already decoded remains what
it keeps: a surface through the means of the blocks around, as their planar modes lay it, from which the rest is coded.
Without it pale colours, less than half a step from grey, go; codecs hardly lose them. The directions of other modes
change what the bits cost, hardly what is lost. All sums are of integers small enough to be exact in float32, so the
bytes are the same on every machine.
"""

import math
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from degradations.pairs.contract import Light
from storage.records import Image

SIZES = (4, 8, 16)
BLOCK = 16
_COSINES = (91, 90, 89, 87, 83, 80, 75, 70, 64, 57, 50, 43, 36, 25, 18, 9, 0)  # of k pi / 32, as H.265 rounds them
DEAD_ZONE = 1 / 3  # rounding offset of H.264's intra blocks: values below 2/3 of a step become 0
NEAREST = 1 / 2  # that of a block's mean: a codec's dead zone draws it to what it predicts, not to grey

_BINOMIAL = np.array([0.25, 0.5, 0.25], np.float32)

# BT.709 to limited-range Y'CbCr, in 8-bit codes.
_RGB_TO_YCC = (
    np.array([[46.559, 156.629, 15.812], [-25.664, -86.336, 112.0], [112.0, -101.730, -10.270]], np.float64) / 255
)
_OFFSET = np.array([16.0, 128.0, 128.0])


def video(image: Image, *, qp: int) -> Image:
    """Return `image`, uint8 (H, W, 3) sRGB, after an intra frame at quantisation parameter `qp`, 0 to 51."""
    luma, blue, red = _to_planes(image)
    planes = [_coded(luma, qp), *(_coded(plane, _chroma_qp(qp)) for plane in (blue, red))]
    return _from_planes(planes, image.shape[:2])


def _to_planes(image: Image) -> list[Light]:
    """Return luma and half-size chroma, whole codes in float32, padded to whole blocks (chroma: of half the size)."""
    height, width = image.shape[:2]
    padded = cv2.copyMakeBorder(image, 0, -height % (2 * BLOCK), 0, -width % (2 * BLOCK), cv2.BORDER_REPLICATE)
    matrix = np.c_[_RGB_TO_YCC, _OFFSET]
    luma, blue, red = cv2.split(cv2.transform(padded.astype(np.float32), matrix.astype(np.float32)))
    half = (luma.shape[1] // 2, luma.shape[0] // 2)
    chroma = (cv2.resize(plane, half, interpolation=cv2.INTER_AREA) for plane in (blue, red))
    return [np.rint(plane) for plane in (luma, *chroma)]


def _from_planes(planes: list[Light], shape: tuple[int, ...]) -> Image:
    size = planes[0].shape[::-1]
    blue, red = (cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR) for plane in planes[1:])
    inverse = np.linalg.inv(_RGB_TO_YCC)
    matrix = np.c_[inverse, -inverse @ _OFFSET].astype(np.float32)
    rgb = cv2.transform(cv2.merge([planes[0], blue, red]), matrix)[: shape[0], : shape[1]]
    return np.asarray(np.clip(np.rint(rgb), 0, 255), dtype=np.uint8)


def _chroma_qp(qp: int) -> int:
    """Return the chroma QP for the luma's, which rises slower from 30 on (H.264, table 8-15)."""
    table = (29, 30, 31, 32, 32, 33, 34, 34, 35, 35, 36, 36, 37, 37, 37, 38, 38, 38, 39, 39, 39, 39)
    return qp if qp < 30 else table[min(qp, 51) - 30]


def _coded(plane: Light, qp: int) -> Light:
    """Return `plane` quantised in the transform of each block that suits it best, and filtered across the edges."""
    step = 2 ** ((qp - 4) / 6)
    expected = _predicted(plane)
    rest = plane - expected
    tried = [_quantised(rest, size, step) for size in SIZES]
    costs = np.stack([_cost(rest, decoded, bits, step) for decoded, bits in tried])
    best = np.kron(np.argmin(costs, axis=0), np.ones((BLOCK, BLOCK), np.uint8)).astype(np.uint8)
    out = np.zeros_like(plane)
    for index, (decoded, _) in enumerate(tried):
        np.copyto(out, decoded, where=best == index)
    out += expected
    return np.asarray(np.clip(_deblocked(out, best, qp), 0, 255), dtype=np.float32)


def _predicted(plane: Light) -> Light:
    """Return what the surroundings of each block let expect, whole codes: a smooth surface through the blocks' means.

    It is nowhere more than 128 codes off, as an encoder takes the mode that fits; beyond, sums would not be exact.
    """
    small = (plane.shape[1] // BLOCK, plane.shape[0] // BLOCK)
    means = np.rint(cv2.resize(plane, small, interpolation=cv2.INTER_AREA))
    around = np.rint(cv2.sepFilter2D(means, -1, _BINOMIAL, _BINOMIAL, borderType=cv2.BORDER_REPLICATE))
    surface = np.rint(cv2.resize(around, plane.shape[::-1], interpolation=cv2.INTER_LINEAR))
    return np.asarray(np.clip(surface, plane - 128, plane + 128), dtype=np.float32)


def _quantised(plane: Light, size: int, step: float) -> tuple[Light, Light]:
    """Return `plane` after transform, quantiser and inverse, and the bits (roughly) that each block costs."""
    transform = _transform(size)
    stage = int(math.log2(size)) - 1
    height, width = plane.shape
    rows = _shifted(_along_rows(plane, transform), stage)
    coefficients = _shifted(_along_columns(rows, transform), stage + 7)
    unit = np.float32(step * 128 / size)  # the transforms have a gain of 128 / size
    rounding = np.full_like(plane, DEAD_ZONE)
    rounding[::size, ::size] = NEAREST
    sizes = np.floor(np.abs(coefficients) / unit + rounding)
    bits = 2 * np.log2(1 + sizes) + (sizes > 0)  # about what an exponential-Golomb code spends
    back = _shifted(_along_columns(np.rint(np.copysign(sizes, coefficients) * unit), transform.T), 7)
    decoded = _shifted(_along_rows(back, transform.T), 12)
    blocks = bits.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK).sum(axis=(1, 3))
    return decoded, blocks


@cache
def _transform(size: int) -> Light:
    """Return the integer cosine transform of `size` points of H.265 (section 8.6.4.2), rows of norm 64 sqrt(size)."""
    frequency, place = np.mgrid[:size, :size]
    turn = (2 * place + 1) * frequency * (BLOCK // size) % 64  # in units of pi / 32
    folded = np.where(turn > 32, 64 - turn, turn)
    sign = np.where(folded > 16, -1, 1)
    cosine = sign * np.array(_COSINES)[np.where(folded > 16, 32 - folded, folded)]
    return np.where(frequency == 0, 64, cosine).astype(np.float32)


def _along_rows(plane: Light, transform: Light) -> Light:
    size = len(transform)
    return np.asarray((plane.reshape(-1, size) @ transform.T).reshape(plane.shape))


def _along_columns(plane: Light, transform: Light) -> Light:
    size = len(transform)
    return np.asarray((transform @ plane.reshape(-1, size, plane.shape[1])).reshape(plane.shape))


def _shifted(values: Light, bits: int) -> Light:
    """Return whole `values` divided by 2^bits, rounded half up."""
    return np.asarray(np.floor(values * np.float32(2.0**-bits) + np.float32(0.5)))


def _cost(plane: Light, decoded: Light, bits: Light, step: float) -> Light:
    """Return distortion plus rate of each block, weighed as encoders do (lambda = 0.85 * 2^((QP - 12) / 3))."""
    error = (plane - decoded) ** 2
    height, width = plane.shape
    distortion = error.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK).sum(axis=(1, 3))
    return np.asarray(distortion + np.float32(0.134 * step * step) * bits)


def _deblocked(plane: Light, choice: NDArray[np.uint8], qp: int) -> Light:
    """Return `plane` filtered across the edges of its transforms, upright edges first.

    choice: index into SIZES, per pixel.
    """
    upright = _filtered(plane, choice, qp)
    return np.ascontiguousarray(_filtered(upright.T, choice.T, qp).T)


def _filtered(plane: Light, choice: NDArray[np.uint8], qp: int) -> Light:
    """Return `plane` with the two pixels on either side of each upright edge drawn together (H.264, 8.7.2)."""
    edge, inner = 0.8 * (2 ** (qp / 6) - 1), 0.5 * qp - 7
    most = np.float32(1 + 0.11 * 2 ** ((qp - 4) / 6))
    at = np.arange(4, plane.shape[1], 4)
    before, left, right, after = (plane[:, at + shift] for shift in (-2, -1, 0, 1))
    lies_on = at % np.asarray(SIZES)[choice[:, at]] == 0
    smooth = (np.abs(before - left) < inner) & (np.abs(after - right) < inner)
    change = np.clip(np.rint((4 * (right - left) + (before - after)) / 8), -most, most)
    change = np.where(lies_on & smooth & (np.abs(right - left) < edge), change, 0).astype(np.float32)
    out = plane.copy()
    out[:, at - 1] += change
    out[:, at] -= change
    return out
