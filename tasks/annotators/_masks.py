"""Masks that overlap become one map of labels; masks of neighbouring tiles become masks of the whole image."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from tasks.annotators.superpixels import Labels, by_area

Bits = NDArray[np.bool_]

MAX_SEGMENTS = 255  # labels 0 to 254, the rest of the image among them
SAME = 0.5  # intersection over union, where two tiles overlap, from which two masks are of one thing
SAMPLES = 128  # pixels that are compared there, at least, along the shorter side


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A part of an image: its first row and column and its size in pixels."""

    row: int
    column: int
    height: int
    width: int

    def common(self, other: "Box") -> "Box":
        """Return the part of the image that lies in both; its height or width is not positive if there is none."""
        row, column = max(self.row, other.row), max(self.column, other.column)
        bottom = min(self.row + self.height, other.row + other.height)
        right = min(self.column + self.width, other.column + other.width)
        return Box(row=row, column=column, height=bottom - row, width=right - column)

    @property
    def is_empty(self) -> bool:
        """Whether no pixel lies in it."""
        return self.height <= 0 or self.width <= 0

    def within(self, outer: "Box") -> tuple[slice, slice]:
        """Return the rows and columns of this box in an array that shows `outer`."""
        row, column = self.row - outer.row, self.column - outer.column
        return slice(row, row + self.height), slice(column, column + self.width)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """One thing: which pixels of `box` it covers, and how sure the model is of it, 0 to 1."""

    box: Box
    bits: Bits
    stability: float

    @property
    def area(self) -> int:
        """Return the number of its pixels."""
        return int(np.count_nonzero(self.bits))


def tiles(shape: tuple[int, int], side: int, overlap: float) -> list[Box]:
    """Return tiles of at most `side` pixels that cover an image of `shape`, neighbours sharing `overlap` of a side."""
    spans = [_spans(length, side, round(side * overlap)) for length in shape]
    return [
        Box(row=row, column=column, height=height, width=width)
        for row, height in spans[0]
        for column, width in spans[1]
    ]


def _spans(length: int, side: int, shared: int) -> list[tuple[int, int]]:
    if length <= side:
        return [(0, length)]
    count = -(-(length - shared) // (side - shared))
    starts = np.rint(np.linspace(0, length - side, count)).astype(int)
    return [(int(start), side) for start in starts]


def merge(tiled: Sequence[tuple[Box, Sequence[Mask]]]) -> list[Mask]:
    """Return the masks of all tiles, those of one thing that neighbours saw parts of as one.

    Two masks are of one thing when each is the other's best match in the part that both tiles see, and they agree there
    on more than SAME: a whole in one tile is not joined with a part of it in the next.
    """
    flat = [mask for _, masks in tiled for mask in masks]
    starts = np.cumsum([0, *(len(masks) for _, masks in tiled)])
    parents = list(range(len(flat)))
    for (first, (box, masks)), (second, (other, others)) in combinations(enumerate(tiled), 2):
        for one, two in _matches(masks, others, box.common(other)):
            parents[_root(parents, int(starts[first]) + one)] = _root(parents, int(starts[second]) + two)
    groups: dict[int, list[Mask]] = {}
    for index, mask in enumerate(flat):
        groups.setdefault(_root(parents, index), []).append(mask)
    return [_joined(group) for group in groups.values()]


def _matches(masks: Sequence[Mask], others: Sequence[Mask], shared: Box) -> Iterable[tuple[int, int]]:
    if shared.is_empty or not masks or not others:
        return []
    seen, seen_too = _sampled(masks, shared), _sampled(others, shared)
    both = seen @ seen_too.T
    either = seen.sum(axis=1)[:, None] + seen_too.sum(axis=1)[None] - both
    agreement = both / np.maximum(either, 1)
    best, best_too = agreement.argmax(axis=1), agreement.argmax(axis=0)
    return [(one, int(two)) for one, two in enumerate(best) if best_too[two] == one and agreement[one, two] > SAME]


def _sampled(masks: Sequence[Mask], shared: Box) -> NDArray[np.float32]:
    """Return every mask at regular places of `shared`, float32 (N, places), 0 or 1."""
    stride = max(1, min(shared.height, shared.width) // SAMPLES)
    samples = np.zeros((len(masks), -(-shared.height // stride), -(-shared.width // stride)), np.float32)
    for index, mask in enumerate(masks):
        part = mask.box.common(shared)
        if not part.is_empty:
            first = -(-(part.row - shared.row) // stride), -(-(part.column - shared.column) // stride)
            row, column = (
                shared.row + first[0] * stride - mask.box.row,
                shared.column + first[1] * stride - mask.box.column,
            )
            rows, columns = part.within(mask.box)
            bits = mask.bits[row : rows.stop : stride, column : columns.stop : stride]
            samples[index, first[0] : first[0] + bits.shape[0], first[1] : first[1] + bits.shape[1]] = bits
    return samples.reshape(len(masks), -1)


def _root(parents: list[int], index: int) -> int:
    while parents[index] != index:
        index = parents[index]
    return index


def _joined(masks: Sequence[Mask]) -> Mask:
    if len(masks) == 1:
        return masks[0]
    row, column = (min(getattr(mask.box, name) for mask in masks) for name in ("row", "column"))
    bottom = max(mask.box.row + mask.box.height for mask in masks)
    right = max(mask.box.column + mask.box.width for mask in masks)
    box = Box(row=row, column=column, height=bottom - row, width=right - column)
    bits = np.zeros((box.height, box.width), bool)
    for mask in masks:
        bits[mask.box.within(box)] |= mask.bits
    areas = [mask.area for mask in masks]
    stability = float(np.average([mask.stability for mask in masks], weights=areas))
    return Mask(box=box, bits=bits, stability=stability)


def pack(masks: Iterable[Mask], shape: tuple[int, int]) -> Labels:
    """Return uint8 (H, W) labels 0 to 254 by falling area, of the masks and of the rest, which none covers.

    Of more than 254 masks those of the largest area times stability stay. Where masks overlap the smallest is seen: a
    part lies upon the whole.
    """
    known = sorted(((mask.area, mask) for mask in masks), key=lambda item: -item[0] * item[1].stability)
    chosen = sorted((item for item in known[: MAX_SEGMENTS - 1] if item[0]), key=lambda item: -item[0])
    labels = np.zeros(shape, np.uint8)
    for label, (_, mask) in enumerate(chosen, start=1):
        labels[mask.box.row : mask.box.row + mask.box.height, mask.box.column : mask.box.column + mask.box.width][
            mask.bits
        ] = label
    return by_area(labels)
