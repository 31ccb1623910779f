"""Layers of defocus: the picture is cut by depth, each part spread by itself, and laid over what is behind it.

Planes of light, red, green, blue and the silhouette, stand one below the other, so that one filter takes all. A strip
of the picture goes through all layers that reach it, from back to front, while it is in the cache; what is far out of
focus is spread once, on a copy of half the size, and enlarged row by row as it is laid.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from degradations.numerics.light import DECODE, ENCODE
from degradations.numerics.strips import IntoCodes, Stream, streamed, strips, whole
from degradations.optics.convolve import DIRECT, MIRROR, convolve
from degradations.optics.defocus import WIDE, Kernel, narrower, opened
from degradations.pairs.contract import Light
from storage.records import Image, Plane

LAYERS = 8
ROWS = 8  # of which is known together what layers they hold
BLOCK = 2**17  # pixels, about, that go through all layers together: more leave the cache, fewer see more rows twice

Lay = Callable[[slice, Light], None]
"""lay(rows, out) puts a layer's rows over those of the layers behind it, `out` (4, h, W)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """What is max(1 - |d per_step - centre|, 0) of a picture at disparity d.

    light: planes (3, H, W). disparity: (H, W). extents: first and last column of it in each ROWS, (h, 2).
    """

    light: Light
    disparity: Plane
    per_step: float
    centre: float
    extents: NDArray[np.int64]

    def near(self, rows: slice, margin: int) -> tuple[slice, slice] | None:
        """Return which of `rows`, and which columns, are at most `margin` pixels from it, or None if none are."""
        first = max(0, rows.start - margin) // ROWS
        extents = self.extents[first : -(-(rows.stop + margin) // ROWS)]
        held = np.flatnonzero(extents[:, 1] >= 0)
        if held.size == 0:
            return None
        top, bottom = (first + int(held[0])) * ROWS - margin, (first + int(held[-1]) + 1) * ROWS + margin
        left, right = int(extents[:, 0].min()) - margin, int(extents[:, 1].max()) + 1 + margin
        columns = slice(max(0, left), min(right, self.disparity.shape[1]))
        return slice(max(rows.start, top), min(rows.stop, bottom)), columns

    def parts(self, top: int, left: int, shape: tuple[int, int]) -> Iterator[Light]:
        """Yield its silhouette and its planes of light, (h, w) each; rows beyond the picture are mirrored."""
        from degradations.kernels.layers import cut, silhouette

        hat = np.empty(shape, np.float32)
        silhouette(self.disparity, self.per_step, self.centre, top, left, hat)
        yield hat
        for plane in self.light:
            part = np.empty(shape, np.float32)
            cut(plane, hat, top, left, part)
            yield part


def layered_defocus(light: Light, disparity: Plane, *, focus: float, reach: float, kernel: Kernel) -> Light:
    """Return `light`, float32 (H, W, 3), blurred by |disparity - focus| times `reach` pixels.

    disparity: float32 (H, W), 1 nearest. The layers' silhouettes are hats that add up to 1, so slopes stay smooth;
    the light is divided by the silhouettes' total, so nothing darkens where a layer ends behind another.
    """
    return whole(layering(streamed(light), disparity, focus=focus, reach=reach, kernel=kernel), light)


def layering(stream: Stream, disparity: Plane, *, focus: float, reach: float, kernel: Kernel) -> IntoCodes:
    """Return the work that writes the rows of the light of `stream`, as `layered_defocus`."""
    from degradations.kernels.layers import join, join_codes

    (height, width, _), kernel = stream.shape, cache(kernel)
    lays = [_lay(layer, radius, kernel) for layer, radius in _layers(stream, disparity, focus, reach)]
    size = max(4 * ROWS, BLOCK // width // ROWS * ROWS)
    total, begun = np.empty((4, min(size, height), width), np.float32), -1

    def laid(rows: slice) -> Iterator[tuple[int, slice]]:
        """Yield the first row in `total` of what is asked for of each block, and which of the rows asked for it is."""
        nonlocal begun
        for block in range(rows.start // size, -(-rows.stop // size)):
            top, bottom = block * size, min(block * size + size, height)
            if block != begun:
                begun, total[...] = block, 0
                for lay in lays:
                    lay(slice(top, bottom), total)
            first = max(rows.start, top)
            yield first - top, slice(first - rows.start, min(rows.stop, bottom) - rows.start)

    def go_on(_: Light, rows: slice, out: Light) -> None:
        for first, part in laid(rows):
            join(total, first, out[part].reshape(-1, 3 * width))

    def end(rows: slice, out: Image) -> None:
        for first, part in laid(rows):
            join_codes(total, first, ENCODE, out[part].reshape(-1, 3 * width))

    return IntoCodes(go_on, end)


def _layers(stream: Stream, disparity: Plane, focus: float, reach: float) -> list[tuple[_Layer, float]]:
    """Return what holds anything of the layers from back to front, and how many pixels each is out of focus."""
    from degradations.kernels.layers import extents

    disparity = np.ascontiguousarray(disparity)
    low, high = sorted(reach * (float(end) - focus) for end in (disparity.min(), disparity.max()))
    centres = _centres(low, high)
    step = centres[1] - centres[0] if len(centres) > 1 else 1.0
    places = [(focus * reach + centre) / step for centre in centres]
    found = np.tile(np.array([stream.shape[1], -1], np.int64), (-(-len(disparity) // ROWS), len(centres), 1))
    extents(disparity, reach / step, places[0], ROWS, found)
    light, layers = _planes(stream), []
    for index, place in enumerate(places):
        between = found[:, max(0, index - 1) : index + 1]  # the layer behind and this one, this one and the next
        held = np.stack([between[..., 0].min(axis=1), between[..., 1].max(axis=1)], axis=1)
        layer = _Layer(light=light, disparity=disparity, per_step=reach / step, centre=place, extents=held)
        if held[:, 1].max() >= 0:
            layers.append((layer, abs(centres[index])))
    return layers


def _planes(stream: Stream) -> Light:
    """Return the light of `stream` (H, W, 3) as planes (3, H, W)."""
    from degradations.kernels.layers import planes

    out = np.empty((3, *stream.shape[:2]), np.float32)
    if stream.codes is not None:
        planes(stream.codes.reshape(stream.shape[0], -1), DECODE, stream.gains, out)
        return out
    for rows, light in stream.strips:
        for channel, plane in enumerate(out):
            cv2.extractChannel(light, channel, dst=plane[rows])
    return out


def _centres(low: float, high: float) -> list[float]:
    """Return signed radii from back to front, 0 among them, at least half a pixel apart, about LAYERS of them."""
    step = max(0.5, (high - low) / (LAYERS - 1))
    return [step * index for index in range(math.floor(low / step), math.ceil(high / step) + 1)]


def _lay(layer: _Layer, radius: float, kernel: Kernel) -> Lay:
    """Return what lays a layer `radius` pixels out of focus."""
    if radius >= WIDE and min(layer.disparity.shape) >= 4 * WIDE:
        return _far(layer, radius, kernel)
    return _near(layer, kernel(radius) if radius else np.ones((1, 1), np.float32))


def _near(layer: _Layer, kernel: Light) -> Lay:
    """Return what cuts, spreads and lays a layer at full size."""
    from degradations.kernels.layers import lay_over

    reach, turned = len(kernel) // 2, np.ascontiguousarray(kernel[::-1, ::-1])

    def spread(part: Light) -> Light:
        if kernel.size == 1:
            return part
        if kernel.size > DIRECT:
            return convolve(part, kernel)
        return np.asarray(cv2.filter2D(part, -1, turned, borderType=MIRROR))

    def lay(rows: slice, out: Light) -> None:
        found = layer.near(rows, reach + 1)
        if found is None:
            return
        rows_near, columns = found
        shape = rows_near.stop - rows_near.start + 2 * reach, columns.stop - columns.start
        parts = layer.parts(rows_near.start - reach, columns.start, shape)
        place = (reach, rows_near.start - rows.start, columns.start)
        cover = spread(next(parts))
        for part, plane in zip(parts, out[:3], strict=True):
            lay_over(spread(part), cover, *place, plane)
        lay_over(cover, cover, *place, out[3])

    return lay


def _far(layer: _Layer, radius: float, kernel: Kernel) -> Lay:
    """Return what enlarges and lays a layer that is cut and spread at half the size (see `opening`)."""
    from degradations.kernels.layers import lay_grown_over

    height = len(layer.disparity)
    found = layer.near(slice(0, height), math.ceil(1.3 * radius) + 8)  # a polygon's corners reach beyond the radius
    assert found is not None
    box, columns = (slice(side.start // ROWS * ROWS, side.stop) for side in found)  # halves are those of the picture
    width = columns.stop - columns.start
    small = np.stack([opened(half, narrower(radius), kernel) for half in _halved(layer, box, columns)])

    def lay(rows: slice, out: Light) -> None:
        first, last = max(rows.start, box.start), min(rows.stop, box.stop)
        if first < last:
            lay_grown_over(small, width, first - box.start, last - first, first - rows.start, columns.start, out)

    return lay


def _halved(layer: _Layer, box: slice, columns: slice) -> Light:
    """Return a box of a layer at half the size: red, green, blue and its silhouette, (4, h, w)."""
    from degradations.kernels.pyramid import reduce

    height, width = box.stop - box.start, columns.stop - columns.start
    out = np.empty((4, (height + 1) // 2, (width + 1) // 2), np.float32)
    lines = np.empty((4, 5, out.shape[2]), np.float32)
    for _, _, rows in strips((height, width)):
        parts = layer.parts(box.start + rows.start, columns.start, (rows.stop - rows.start, width))
        for index, part in zip((3, 0, 1, 2), parts, strict=True):
            reduce(part, 1, rows.start, height, lines[index], out[index])
    return out
