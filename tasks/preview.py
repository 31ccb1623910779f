"""Try degradations on one photograph, without a dataset: what `pairforge preview` shows."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from degradations.pairs.contract import Options
from degradations.pairs.recipes import draw
from degradations.pairs.render import Rendered, render
from storage import samples
from storage.records import Image, Recipe, Scene
from tasks.annotators import open_annotator
from tasks.degrade import fit
from tasks.mixture import REALRESTORER

LABEL, GAP = 22, 4  # height of a label and distance of the tiles of a grid, pixels
FONT, FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.45
OVERSIZE = 2  # of what a tile is rendered at: codecs and sensors act at native pixels and would crush a thumbnail
LEVELS = (0.2, 0.4, 0.6, 0.8, 1.0)


def scene_of(image: Image, *, overlays: Mapping[str, Image] | None = None) -> Scene:
    """Return the scene of a photograph, uint8 (H, W, 3), annotated by the embedded backends.

    overlays: pictures of the user's, by the degradation that mixes them in: the photograph that a reflection mirrors
    (without one it mirrors a made-up room), patterns.
    """
    depth = open_annotator("depth_prior").annotate(image)
    return Scene(
        key="preview",
        image=image,
        depth=samples.decode_depth(samples.encode_depth(depth)),
        segments=open_annotator("superpixels").annotate(image),
        overlays={name: fit(overlay, image.shape) for name, overlay in (overlays or {}).items()},
    )


def preview(
    name: str, scene: Scene, *, severity: float, seed: int, options: Mapping[str, Options] | None = None
) -> tuple[Recipe, Rendered]:
    """Return the recipe and the pair of degradation or combination `name` at `severity` in [0, 1]."""
    recipe = draw(name, severity, scene, seed=seed, options=options)
    return recipe, render(scene, recipe)


def grid(
    image: Image,
    *,
    names: Sequence[str] = tuple(REALRESTORER),
    seed: int = 0,
    options: Mapping[str, Options] | None = None,
    overlays: Mapping[str, Image] | None = None,
    width: int = 320,
) -> Image:
    """Return a labelled picture: one row for each name, the clean image and the five levels, `width` pixels each."""
    scene = scene_of(_scaled(image, OVERSIZE * width), overlays=overlays)
    side = max(width // 3, *(cv2.getTextSize(name, FONT, FONT_SCALE, 1)[0][0] + 12 for name in names))
    rows = [_row(name, scene, seed, options, width, side) for name in names]
    heads = [_label("clean", width), *(_label(f"level {number}", width) for number in range(1, 6))]
    return _stack([_beside([_label("", side), *heads]), *rows])


def _row(name: str, scene: Scene, seed: int, options: Mapping[str, Options] | None, width: int, side: int) -> Image:
    pairs = [preview(name, scene, severity=level - 0.02, seed=seed, options=options)[1] for level in LEVELS]
    rendered = [pair.degraded for pair in pairs]
    clean, *tiles = (_scaled(each, width) for each in (scene.image, *rendered))
    return _beside([_label(name, side, height=len(clean)), clean, *tiles])


def _scaled(image: Image, width: int) -> Image:
    size = (width, max(1, round(image.shape[0] * width / image.shape[1])))
    method = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=method), dtype=np.uint8)


def _label(text: str, width: int, *, height: int = LABEL) -> Image:
    label = np.full((height, width, 3), 255, np.uint8)
    cv2.putText(label, text, (6, height // 2 + 4), FONT, FONT_SCALE, (0, 0, 0), 1, cv2.LINE_AA)
    return label


def _beside(tiles: Sequence[Image]) -> Image:
    gap = np.full((tiles[0].shape[0], GAP, 3), 255, np.uint8)
    return np.concatenate([part for tile in tiles for part in (tile, gap)][:-1], axis=1)


def _stack(rows: Sequence[Image]) -> Image:
    gap = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([part for row in rows for part in (row, gap)][:-1], axis=0)
