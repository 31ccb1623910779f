"""Between a picture and the planes that a JPEG codes, row by row: luma, and chroma of full or half the size."""

import numpy as np
from numpy.typing import NDArray

from degradations.kernels._chroma import between_rows, doubled, halved, repeated
from degradations.kernels._compiled import compiled, inlined
from degradations.kernels._ycc import to_rgb, to_ycc

Codes = NDArray[np.uint8]
Pair = tuple[int, int]


@inlined
def widen(codes: Codes, left: int, right: int) -> None:
    """Repeat the first and the last of `codes` from `left` to `right` on either side of them."""
    for column in range(left):
        codes[column] = codes[left]
    for column in range(right, codes.size):
        codes[column] = codes[right - 1]


@inlined
def lengthen(plane: Codes, bottom: int) -> None:
    """Repeat the last of the rows of `plane` up to `bottom` below it."""
    for row in range(bottom, len(plane)):
        for column in range(plane.shape[1]):
            plane[row, column] = plane[bottom - 1, column]


@compiled("void(u1[:, :, ::1], UniTuple(i8, 2), UniTuple(i8, 2), u1[:, ::1], u1[:, :, ::1])")
def split(image: Codes, halving: Pair, before: Pair, out_luma: Codes, out_chroma: Codes) -> None:
    """Write the planes of `image` (H, W, 3), which repeat its border on all sides, to `out_luma` and `out_chroma`.

    halving: of chroma by rows and by columns, 1 or 2: (1, 1), (1, 2) or (2, 2). before: rows above and columns to the
    left of the picture, 0 to 7. out_luma, out_chroma: whole blocks, (2, h, w) times `halving` and (2, h, w).
    """
    down, across = halving
    top, left = before
    bottom, right = top + image.shape[0], left + image.shape[1]
    full, rounding = np.empty((2, 2, out_luma.shape[1]), np.uint8), np.empty(out_chroma.shape[2], np.uint16)
    for column in range(rounding.size):
        rounding[column] = 2 if column % 2 else down - 1
    for row in range(bottom):
        turn = row % down
        luma, blue, red = out_luma[row], full[turn, 0], full[turn, 1]
        if across == 1:
            blue, red = out_chroma[0, row], out_chroma[1, row]
        to_ycc(image[max(row - top, 0)].reshape(-1), luma[left:right], blue[left:right], red[left:right])
        widen(luma, left, right)
        widen(blue, left, right)
        widen(red, left, right)
        if across == 2 and (turn == down - 1 or row == bottom - 1):
            halved(full[0, 0], blue, rounding, out_chroma[0, row // down])
            halved(full[0, 1], red, rounding, out_chroma[1, row // down])
    lengthen(out_luma, bottom)
    lengthen(out_chroma[0], -(-bottom // down))
    lengthen(out_chroma[1], -(-bottom // down))


@compiled("void(u1[:, ::1], u1[:, :, ::1], UniTuple(i8, 2), UniTuple(i8, 2), u1[:, :, ::1])")
def join(luma: Codes, chroma: Codes, halving: Pair, before: Pair, out: Codes) -> None:
    """Write the picture of `luma` and `chroma`, as `split` made them, to `out` (H, W, 3)."""
    down, across = halving
    top, left = before
    bottom, right = top + out.shape[0], left + out.shape[1]
    height, width = -(-bottom // down), -(-right // across)  # of chroma, without what repeats its border
    full, sums = np.empty((2, luma.shape[1]), np.uint8), np.empty(width + 2, np.uint16)
    even, odd = (8, 7) if down == 2 else (4, 8)
    for row in range(top, bottom):
        near = row // down
        far = near if down == 1 else min(max(near + 2 * (row % 2) - 1, 0), height - 1)
        blue, red = full[0], full[1]
        if across == 1:
            blue, red = chroma[0, row], chroma[1, row]
        else:
            for index in range(2):
                between_rows(chroma[index, near], chroma[index, far], sums)
                if width > 2:
                    doubled(sums, even, odd, full[index])
                else:
                    repeated(chroma[index, near], full[index])
        to_rgb(luma[row, left:right], blue[left:right], red[left:right], out[row - top].reshape(-1))
