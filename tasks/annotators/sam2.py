"""Segments by SAM-2: what a grid of points finds, without duplicates, as one map of labels.

Ravi et al. 2024 (SAM 2, arXiv:2408.00714); how masks are asked for and sifted is that of Segment Anything (Kirillov et
al. 2023, arXiv:2304.02643, section 5 and appendix B) with the thresholds of Meta's generator for SAM-2. For every
point three masks are predicted; those stay that the model itself thinks good and that hardly change when the threshold
moves; of those with like boxes the best. Ours: large images are seen in tiles whose masks are joined where tiles
overlap, so that nothing is lost at a border; what is left is packed into at most 255 labels.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, Field

from storage.records import Image
from storage.torchvision import prepare_torchvision
from storage.weights import identity, locate
from tasks.annotators import Annotator, Prepare
from tasks.annotators._masks import Box, Mask, merge, pack, tiles
from tasks.annotators._sam2_models import Pixels, Segmenter, open_model, open_pixels
from tasks.annotators.superpixels import Labels

VERSION = "sam2-1"
LIBRARIES = ("torch", "torchvision", "transformers", "sam2")
OFFSET = 1.0  # of the logits, both ways, under which a stable mask hardly changes
SAME_BOX = 0.7  # intersection over union of boxes from which two masks are duplicates
OVERLAP = 0.25  # of a tile's side, shared with its neighbour
AT_ONCE = 32  # masks at full size in memory

Fraction = Annotated[float, Field(ge=0, le=1)]


class Options(BaseModel, frozen=True, extra="forbid"):
    """How masks are asked for and sifted; the defaults are those of Meta's generator.

    points_per_side: of the grid laid over a tile. points_per_batch: asked for together. iou: least predicted
    intersection over union. stability: least share of a mask that stays when the threshold moves. tile: longest side in
    pixels that is seen at once. batch: images or tiles embedded together. compile: the image encoder, by torch.compile.
    """

    points_per_side: Annotated[int, Field(ge=1, le=128)] = 32
    points_per_batch: Annotated[int, Field(ge=1, le=4096)] = 64
    iou: Fraction = 0.8
    stability: Fraction = 0.95
    tile: Annotated[int, Field(ge=64)] = 2048
    batch: Annotated[int, Field(ge=1, le=64)] = 4
    dtype: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False


class Prepared(NamedTuple):
    """An image as the network is given it. shape: (H, W). tiles: that cover it. pixels: of each tile."""

    shape: tuple[int, int]
    tiles: tuple[Box, ...]
    pixels: tuple[Pixels, ...]


Tiled = list[tuple[Box, list[Mask]]]  # the masks of each tile, in the coordinates of the image


def load(device: str, weights: str, options: Options) -> Annotator:
    """Return the annotator of the SAM-2 at `weights`; raises SettingsError or ShardError if it is none."""
    prepare_torchvision()
    model = open_model(locate(weights), device, is_compiled=options.compile)
    return Annotator(
        kind="segments",
        backend=f"{VERSION}:{identity(weights)[:12]}",
        prepare=open_prepare(weights, options),
        predict=lambda prepared: find(model, prepared, options, device),
        finish=finish,
        batch=options.batch,
    )


def open_prepare(weights: str, options: Options) -> Prepare:
    """Return what cuts an image into tiles and makes these ready: `Prepared`; raises as `load` does."""
    prepare_torchvision()
    pixels = open_pixels(locate(weights))
    return lambda image: prepared_by(pixels, image, options)


def prepared_by(pixels: Callable[[Image], Any], image: Image, options: Options) -> Prepared:
    """Return the tiles of a uint8 (H, W, 3) image, each as `pixels` makes it ready."""
    boxes = tuple(tiles(_shape(image), options.tile, OVERLAP))
    pieces = (image[box.within(_whole(image))] for box in boxes)
    return Prepared(shape=_shape(image), tiles=boxes, pixels=tuple(map(pixels, pieces)))


def find(model: Segmenter, prepared: Sequence[Prepared], options: Options, device: str = "cpu") -> list[Tiled]:
    """Return the masks of each prepared image, tile by tile; tiles go through the network `batch` at a time."""
    pieces = [piece for one in prepared for piece in zip(one.tiles, one.pixels, strict=True)]
    masks = _found(model, pieces, options, device)
    return [[(box, _placed(next(masks), box)) for box in one.tiles] for one in prepared]


def finish(found: Tiled, image: Image) -> Labels:
    """Return uint8 (H, W) labels 0 to 254 by falling area of a uint8 (H, W, 3) image of these masks."""
    return pack(merge(found), _shape(image))


def masks_of(
    model: Segmenter, embedding: Any, shape: tuple[int, int], options: Options, device: str = "cpu"
) -> list[Mask]:
    """Return the masks of one embedded image or tile of `shape`, as Meta's generator finds them."""
    import torch
    from torchvision.ops import nms

    points = torch.from_numpy(grid(options.points_per_side)).to(device)
    found = [
        _sifted(*model.masks(embedding, points[start : start + options.points_per_batch]), shape, options)
        for start in range(0, len(points), options.points_per_batch)
    ]
    logits, scores, stabilities, boxes = (torch.cat(parts) for parts in zip(*found, strict=True))
    kept = nms(boxes, scores, SAME_BOX)
    masks: list[Mask] = []
    for part in _parts(kept):
        bits = (_enlarged(logits[part], shape) > 0).cpu().numpy()
        corners, stable = boxes[part].int().tolist(), stabilities[part].tolist()
        masks += [_cropped(*item) for item in zip(bits, corners, stable, strict=True)]
    return masks


def grid(per_side: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Return the points of a grid over the unit square, float32 (N, 2) of (column, row), row by row."""
    places = (np.arange(per_side, dtype=np.float32) + 0.5) / per_side
    columns, rows = np.meshgrid(places, places)
    return np.stack([columns.ravel(), rows.ravel()], axis=1)


def _found(model: Segmenter, pieces: Sequence[tuple[Box, Any]], options: Options, device: str) -> Iterator[list[Mask]]:
    for start in range(0, len(pieces), options.batch):
        group = pieces[start : start + options.batch]
        with _computing(device, options.dtype):
            embeddings = model.embed([pixels for _, pixels in group])
            found = [
                masks_of(model, embedding, (box.height, box.width), options, device)
                for (box, _), embedding in zip(group, embeddings, strict=True)
            ]
        yield from found


def _sifted(logits: Any, scores: Any, shape: tuple[int, int], options: Options) -> tuple[Any, Any, Any, Any]:
    """Return logits, scores, stabilities and boxes, (left, top, right, bottom), of the masks that are good enough."""
    import torch

    logits, scores = logits.flatten(0, 1), scores.flatten()
    good = scores > options.iou
    logits, scores = logits[good], scores[good]
    if not len(logits):
        return logits, scores, scores, scores.new_zeros((0, 4))
    measured = [_measured(_enlarged(part, shape)) for part in _parts(logits)]
    stabilities, boxes = (torch.cat(parts) for parts in zip(*measured, strict=True))
    stable = stabilities >= options.stability
    return logits[stable], scores[stable], stabilities[stable], boxes[stable]


def _parts(items: Any) -> list[Any]:
    return [items[start : start + AT_ONCE] for start in range(0, len(items), AT_ONCE)]


def _measured(logits: Any) -> tuple[Any, Any]:
    """Return the stability of each mask, float32 (N,), nan for an empty one, and the box around it."""
    inner, outer = ((logits > offset).sum(dim=(1, 2)).float() for offset in (OFFSET, -OFFSET))
    bits = logits > 0
    edges = [_extent(bits.any(dim=dim)) for dim in (1, 2)]  # columns, then rows
    return inner / outer, _stacked(edges)


def _extent(is_covered: Any) -> tuple[Any, Any]:
    """Return the first and the last index that is covered in each row of a boolean (N, length)."""
    length = is_covered.shape[1]
    first = is_covered.int().argmax(dim=1)
    last = length - 1 - is_covered.flip(1).int().argmax(dim=1)
    return first, last


def _stacked(edges: Sequence[tuple[Any, Any]]) -> Any:
    import torch

    (left, right), (top, bottom) = edges
    return torch.stack([left, top, right, bottom], dim=1).float()


def _enlarged(logits: Any, shape: tuple[int, int]) -> Any:
    import torch

    return torch.nn.functional.interpolate(logits[:, None].float(), shape, mode="bilinear", align_corners=False)[:, 0]


def _cropped(bits: Any, corners: Sequence[int], stability: float) -> Mask:
    left, top, right, bottom = corners
    box = Box(row=top, column=left, height=bottom - top + 1, width=right - left + 1)
    return Mask(box=box, bits=bits[top : bottom + 1, left : right + 1].copy(), stability=stability)


def _placed(masks: Sequence[Mask], tile: Box) -> list[Mask]:
    """Return the masks of a tile in the coordinates of the image."""
    return [
        Mask(
            box=Box(
                row=mask.box.row + tile.row,
                column=mask.box.column + tile.column,
                height=mask.box.height,
                width=mask.box.width,
            ),
            bits=mask.bits,
            stability=mask.stability,
        )
        for mask in masks
    ]


def _computing(device: str, dtype: str) -> AbstractContextManager[Any]:
    import torch

    stack = ExitStack()
    stack.enter_context(torch.inference_mode())
    if dtype == "bf16":
        stack.enter_context(torch.autocast(device.partition(":")[0], dtype=torch.bfloat16))
    return stack


def _shape(image: Image) -> tuple[int, int]:
    return image.shape[0], image.shape[1]


def _whole(image: Image) -> Box:
    return Box(row=0, column=0, height=image.shape[0], width=image.shape[1])
