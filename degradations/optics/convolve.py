"""Fast convolution of light by point spread functions.

Small kernels go to OpenCV's direct filter, which costs by the number of taps that are not zero; larger sparse ones (a
camera's path) are cut into tiles small enough for it; dense ones are multiplied in the Fourier domain. Wide Gaussians
are made on a reduced copy. The picture continues as its mirror image beyond the border.
"""

import math

import cv2
import numpy as np

from degradations.numerics.light import DECODE, ENCODE
from degradations.numerics.strips import IntoCodes, Stream, Work, streamed, unread, whole
from degradations.optics.psf import gaussian_taps
from degradations.pairs.contract import Light
from storage.records import Image

MIRROR = cv2.BORDER_REFLECT_101
DIRECT = 129  # taps, zero or not, up to which OpenCV's filter goes the direct way
WIDTHS = (8, 11, 16, 21, 32)  # of the tiles of so many that a kernel may be cut into
SPARSE = 350  # taps up to which tiles beat the Fourier transform (measured at 1024 x 1024)

Tile = tuple[int, int, Light]  # (row, column) of the first tap, seen from the pixel, and the taps


def convolve(light: Light, kernel: Light) -> Light:
    """Return `light`, float32 (H, W) or (H, W, C), convolved with an odd square `kernel`."""
    top, left, taps = _tight(kernel[::-1, ::-1])
    if kernel.size == 1:
        return np.asarray(light * taps[0, 0])
    if taps.size <= DIRECT:
        return np.asarray(cv2.filter2D(light, -1, taps, anchor=(-left, -top), borderType=MIRROR)).reshape(light.shape)
    return whole(convolving(light, kernel), light)


def gaussian(light: Light, sigma: float) -> Light:
    """Return `light`, (H, W) or (H, W, C), blurred by a Gaussian of `sigma` pixels."""
    return whole(softening(streamed(light), sigma), light)


def ready(light: Light) -> Work:
    """Return the work that writes the rows of `light`, in which all has been done already."""
    return lambda _, rows, out: np.copyto(out, light[rows])


def convolving(light: Light, kernel: Light) -> Work:
    """Return the work that writes the rows of `light` convolved with an odd square `kernel`."""
    if kernel.size == 1:
        return ready(light * np.float32(kernel[0, 0]))
    turned = np.ascontiguousarray(kernel[::-1, ::-1])
    tile = _tight(turned)
    if tile[2].size <= DIRECT:
        return _gathering(light, [tile], len(kernel) // 2)
    if np.count_nonzero(turned) < SPARSE:
        return _tiling(light, turned)
    return ready(_fourier(light, kernel))


def softening(stream: Stream, sigma: float) -> Work:
    """Return the work that writes the rows of the light of `stream` blurred by a Gaussian of `sigma` pixels.

    Reducing by [1 4 6 4 1] / 16 and enlarging by it add a variance of 1 each (in pixels of the finer level) and keep
    centroids and variances exact at every phase, as the taps are a cubic B-spline; the rest is blurred in between.
    """
    if sigma * sigma < 3:
        return _near(stream.light(), gaussian_taps(sigma))
    if min(stream.shape[:2]) < 16:
        taps = gaussian_taps(sigma)
        return ready(cv2.sepFilter2D(stream.light(), -1, taps, taps, borderType=MIRROR).reshape(stream.shape))
    rest = math.sqrt((sigma * sigma - 2) / 4)
    if stream.codes is not None and rest * rest < 3:
        return growing(_sliding(stream.codes, stream.gains, gaussian_taps(rest)), _half(stream.shape))
    small = halved(stream)
    return growing(softening(streamed(small), rest), small.shape)


def _near(light: Light, taps: Light) -> Work:
    """Return the work that writes the rows of `light` blurred both ways by up to 15 symmetric `taps`."""
    from degradations.kernels.pyramid import soften

    (flat, channels), half = _flat(light), _from_middle(taps)
    return lambda _, rows, out: soften(flat, len(flat), channels, half, rows.start, _flat(out)[0])


def _from_middle(taps: Light) -> Light:
    """Return up to 15 symmetric `taps` from the middle one on, float32 (8,)."""
    half = np.zeros(8, np.float32)
    half[: len(taps) // 2 + 1] = taps[len(taps) // 2 :]
    return half


def _sliding(codes: Image, gains: Light, taps: Light) -> Work:
    """Return the work that writes the rows of the light of `codes` (see `Stream`) at half the size, blurred by `taps`.

    It holds only the rows that it blurs, so that they stay in the cache: each strip goes on from where the last one
    ended. A strip that asks for rows which are gone, or for more than are held, begins anew.
    """
    from degradations.kernels.pyramid import reduce_codes, soften

    (height, *_), (small, width, _) = codes.shape, _half(codes.shape)
    flat, half, lines = codes.reshape(height, -1), _from_middle(taps), np.empty((5, 3 * width), np.float32)
    held, reached = np.empty((0, 3 * width), np.float32), 0  # rows of `codes` that are in `held`

    def slide(_: Light, rows: slice, out: Light) -> None:
        nonlocal held, reached
        reach = len(half) - 1
        room = min(small, len(out) + 2 * reach)
        if room > len(held) or rows.start - reach < reached // 2 - len(held):
            held, reached = np.empty((max(room, len(held)), 3 * width), np.float32), 0
        below = rows.stop + reach
        last = height if below >= small else 2 * below + 1  # a small row takes the two below its own
        if last > reached:
            reduce_codes(flat, DECODE, gains, reached, last, lines, held)
            reached = last
        soften(held, small, 3, half, rows.start, _flat(out)[0])

    return slide


def _half(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return `shape`, (H, W) or (H, W, C), of a picture at half the size, rounded up."""
    return (shape[0] + 1) // 2, (shape[1] + 1) // 2, *shape[2:]


def halved(stream: Stream) -> Light:
    """Return the light of `stream`, (H, W) or (H, W, C), at half the size, rounded up, as `cv2.pyrDown` makes it."""
    from degradations.kernels.pyramid import reduce, reduce_codes

    height, small = stream.shape[0], np.empty(_half(stream.shape), np.float32)
    out, count = _flat(small)
    lines = np.empty((5, out.shape[1]), np.float32)
    if stream.codes is not None:
        reduce_codes(stream.codes.reshape(height, -1), DECODE, stream.gains, 0, height, lines, out)
        return small
    for rows, light in stream.strips:
        reduce(_flat(light)[0], count, rows.start, height, lines, out)
    return small


def growing(work: Work, small: tuple[int, ...]) -> IntoCodes:
    """Return the work that writes at twice the size, or a pixel less, what `work` does at `small`, as `cv2.pyrUp`."""
    from degradations.kernels.pyramid import enlarge, enlarge_codes

    nothing = unread(small)

    def part(rows: slice) -> tuple[Light, int]:
        """Return what is enlarged to `rows`, and in which of its rows, enlarged, these begin."""
        first, last = max(0, rows.start // 2 - 1), min(small[0], (rows.stop + 1) // 2 + 1)
        light = np.empty((last - first, *small[1:]), np.float32)
        work(nothing, slice(first, last), light)
        return light, rows.start - 2 * first

    def grow(_: Light, rows: slice, out: Light) -> None:
        light, top = part(rows)
        flat, channels = _flat(light)
        enlarge(flat, channels, top, _flat(out)[0])

    def end(rows: slice, out: Image) -> None:
        light, top = part(rows)
        enlarge_codes(_flat(light)[0], top, ENCODE, out.reshape(len(out), -1))

    return IntoCodes(grow, end)


def _flat(light: Light) -> tuple[Light, int]:
    """Return `light`, (H, W) or (H, W, C), as rows of values, (H, W C), and C."""
    return light.reshape(len(light), -1), light.shape[2] if light.ndim > 2 else 1


def _tight(kernel: Light) -> Tile:
    """Return the part of `kernel` that holds its centre and all taps that are not 0."""
    centre = len(kernel) // 2
    rows, columns = (np.append(lines, centre) for lines in np.nonzero(kernel))
    top, left = int(rows.min()), int(columns.min())
    part = kernel[top : rows.max() + 1, left : columns.max() + 1]
    return top - centre, left - centre, np.ascontiguousarray(part)


def _tiling(light: Light, kernel: Light) -> Work:
    return _gathering(light, _tiles(kernel), len(kernel) // 2)


def _gathering(light: Light, tiles: list[Tile], reach: int) -> Work:
    """Return the work that writes the sum of `light` correlated with each tile."""

    def gather(_: Light, rows: slice, out: Light) -> None:
        height, width = out.shape[:2]
        window = _window(light, rows.start, height, reach)
        for index, (row, column, part) in enumerate(tiles):
            above, left = row + reach, column + reach
            view = window[above : above + height + len(part) - 1, left : left + width + part.shape[1] - 1]
            total = cv2.filter2D(view, -1, part, anchor=(0, 0), borderType=MIRROR)[:height, :width].reshape(out.shape)
            if index:
                cv2.add(out, total, dst=out)
            else:
                out[...] = total

    return gather


def _window(light: Light, top: int, rows: int, reach: int) -> Light:
    """Return `rows` rows of `light` from `top` on and `reach` more pixels on every side, mirrored at the border."""
    first, last = top - reach, top + rows + reach
    if min(len(light), last) - max(0, first) <= reach:  # too few rows to mirror: a small picture
        return np.asarray(cv2.copyMakeBorder(light, reach, reach, reach, reach, MIRROR)[top : last + reach])
    inside = light[max(0, first) : last]
    below = max(0, last - len(light))
    return np.asarray(cv2.copyMakeBorder(inside, max(0, -first), below, reach, reach, MIRROR))


def _tiles(kernel: Light) -> list[Tile]:
    """Return the taps of `kernel` in the tiles of at most DIRECT, tall or wide, that take the least time."""
    return min((_cut(kernel, DIRECT // width, width) for width in WIDTHS), key=_cost)


def _cost(tiles: list[Tile]) -> float:
    """Return about what `tiles` cost, in taps over the picture: each also costs a pass, and rows beyond the strip."""
    return sum(4 + (7 + np.count_nonzero(part)) * (1 + len(part) / 32) for _, _, part in tiles)


def _cut(kernel: Light, height: int, width: int) -> list[Tile]:
    centre = len(kernel) // 2
    tiles = []
    for row in range(0, len(kernel), height):
        for column in range(0, len(kernel), width):
            part = kernel[row : row + height, column : column + width]
            rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
            if rows.size:
                tight = part[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
                corner = (row + int(rows[0]) - centre, column + int(columns[0]) - centre)
                tiles.append((*corner, np.ascontiguousarray(tight)))
    return tiles


def _fourier(light: Light, kernel: Light) -> Light:
    height, width = light.shape[:2]
    reach = len(kernel) // 2
    rows, columns = (_transform_size(side + 2 * reach) for side in (height, width))
    spectrum = np.zeros((rows, columns), np.float32)
    spectrum[: len(kernel), : len(kernel)] = kernel
    cv2.dft(spectrum, dst=spectrum, nonzeroRows=len(kernel))
    padded = cv2.copyMakeBorder(
        light, reach, rows - height - reach, reach, columns - width - reach, cv2.BORDER_REFLECT_101
    )
    out = np.empty_like(light)
    for index, plane in enumerate(cv2.split(padded)):
        cv2.dft(plane, dst=plane)
        plane = cv2.mulSpectrums(plane, spectrum, 0, plane)
        cv2.idft(plane, dst=plane, flags=cv2.DFT_SCALE)
        valid = plane[2 * reach : 2 * reach + height, 2 * reach : 2 * reach + width]
        out.reshape(height, width, -1)[..., index] = valid
    return out


def _transform_size(side: int) -> int:
    return 2 * int(cv2.getOptimalDFTSize((side + 1) // 2))
