"""Watermarks planted on photographs: tiled text, a text or a logo in a corner, a text across the centre, a band.

A mark is I = (1 - alpha m) J + alpha m c, with a mask m in [0, 1], one opacity alpha and one colour c; some have a
shadow or are outlines only, as those of real agencies do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as Pictures
from PIL import ImageDraw, ImageFont

KINDS = ("tiled", "corner", "logo", "centre", "band")
WORDS = (
    "SAMPLE",
    "PREVIEW",
    "stock photo",
    "(c) J. Doe 2021",
    "www.example.com",
    "Do not copy",
    "PhotoBank",
    "@studio.n",
)
WORDS += (
    "Copyright",
    "demo",
    "image bank",
    "ARCHIVE 4711",
    "Kim Lee Photography",
    "proof only",
    "EXAMPLE",
    "shutter & co",
)
VISIBLE = 6.0  # levels, the mean change under the mark
FONTS = sorted(Path("/usr/share/fonts").rglob("DejaVu*.ttf"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What was planted. mask: float32 (H, W) in [0, 1], before alpha."""

    kind: str
    alpha: float
    mask: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Hand:
    """Who makes marks: the fonts it has, and a function that draws a word."""

    fonts: tuple[Path, ...]
    word: Callable[[np.random.Generator], str]


def _word(rng):
    return WORDS[rng.integers(len(WORDS))]


HAND = Hand(fonts=tuple(FONTS), word=_word)


def plant(rng, image, kind, hand=HAND):
    """Return a copy of `image`, uint8 (H, W, 3), with a mark of `kind` and opacity U(0.15, 0.6), and the mark."""
    mask = mask_of(rng, image.shape[:2], kind, hand)
    alpha = float(rng.uniform(0.15, 0.6))
    shift = max(1, round(min(image.shape[:2]) / 400)) if kind != "band" and rng.random() < 0.25 else 0
    return laid(rng, image, mask, alpha, shift), Mark(kind=kind, alpha=alpha, mask=mask)


def mask_of(rng, shape, kind, hand=HAND):
    """Return the mask of a new mark of `kind` on an image of `shape`, in [0, 1]."""
    return np.clip(_MASKS[kind](rng, shape, partial(_text, hand)), 0, 1)


def laid(rng, image, mask, alpha, shift):
    """Return a copy of `image` under a mark in a colour drawn until it is seen, and a shadow `shift` pixels beside."""
    lit = image.astype(np.float32)
    if shift:
        shadow = np.roll(mask, (shift, shift), (0, 1))
        lit = lit * (1 - alpha * 0.7 * shadow[..., None])
    cover = alpha * mask[..., None]
    strokes = mask > 0.5
    for _ in range(8):  # a mark that nobody can see is not one: its colour is drawn again
        planted = lit * (1 - cover) + cover * _colour(rng)
        if not strokes.any() or np.abs(planted - image)[strokes].mean() >= VISIBLE:
            break
    return np.clip(planted + 0.5, 0, 255).astype(np.uint8)


def _colour(rng):
    if rng.random() < 0.6:
        return np.float32([255, 255, 255])
    return np.float32([rng.uniform(0, 255)] * 3) if rng.random() < 0.6 else rng.uniform(0, 255, 3).astype(np.float32)


@cache
def _font(fonts, index, size):
    return ImageFont.load_default(size) if index < 0 else ImageFont.truetype(str(fonts[index]), size)


def _text(hand, rng, height):
    """Return the mask of a word whose letters are about `height` pixels tall."""
    size = max(8, round(height * 1.3))
    font = _font(hand.fonts, int(rng.integers(-1, len(hand.fonts))) if rng.random() < 0.8 else -1, size)
    word = hand.word(rng)
    left, top, right, bottom = font.getbbox(word)
    canvas = Pictures.new("L", (right - left + 8, bottom - top + 8))
    outline = rng.random() < 0.15 and height > 24
    draw = ImageDraw.Draw(canvas)
    if outline:
        draw.text((4 - left, 4 - top), word, 0, font, stroke_width=max(1, round(height / 25)), stroke_fill=255)
    else:
        draw.text((4 - left, 4 - top), word, 255, font)
    return np.asarray(canvas, np.float32) / 255


def _logo(rng, size):
    """Return the mask of rings, discs, stars and bars, two or three of them in a square of `size` pixels."""
    canvas = np.zeros((size, size), np.uint8)
    middle, pen = size // 2, max(1, size // int(rng.integers(10, 24)))
    shapes = rng.permutation(4)[: int(rng.integers(2, 4))]
    if 0 in shapes:
        cv2.circle(canvas, (middle, middle), middle - pen - 1, 255, pen, cv2.LINE_AA)
    if 1 in shapes:
        count = int(rng.integers(3, 8))
        turns = np.arange(2 * count) * np.pi / count
        radii = np.where(np.arange(2 * count) % 2, 0.28, 0.62) * middle
        star = np.stack([middle + radii * np.sin(turns), middle - radii * np.cos(turns)], 1).astype(np.int32)
        cv2.fillPoly(canvas, [star], 255, cv2.LINE_AA)
    if 2 in shapes:
        for offset in range(-1, 2):
            cv2.line(
                canvas, (size // 6, middle + offset * 3 * pen), (size * 5 // 6, middle + offset * 3 * pen), 255, pen
            )
    if 3 in shapes:
        cv2.rectangle(canvas, (pen, pen), (size - pen - 1, size - pen - 1), 255, pen)
    return canvas.astype(np.float32) / 255


def _turned(mask, degrees):
    side = int(np.hypot(*mask.shape)) + 2
    matrix = cv2.getRotationMatrix2D((mask.shape[1] / 2, mask.shape[0] / 2), degrees, 1)
    matrix[:, 2] += (side - mask.shape[1]) / 2, (side - mask.shape[0]) / 2
    return cv2.warpAffine(mask, matrix, (side, side))


def _placed(shape, stamp, row, column):
    """Return a mask of `shape` with `stamp` at (row, column), cut off at the borders."""
    mask = np.zeros(shape, np.float32)
    top, left = max(row, 0), max(column, 0)
    bottom, right = min(row + stamp.shape[0], shape[0]), min(column + stamp.shape[1], shape[1])
    if bottom > top and right > left:
        mask[top:bottom, left:right] = stamp[top - row : bottom - row, left - column : right - column]
    return mask


def _tiled(rng, shape, text):
    short = min(shape)
    stamp = text(rng, short * rng.uniform(0.025, 0.06))
    if rng.random() < 0.25:
        stamp = _logo(rng, int(short * rng.uniform(0.06, 0.12)))
    gap = rng.uniform(1.1, 2.0, 2)
    across, down = int(stamp.shape[1] * gap[0] + short * 0.02), int(stamp.shape[0] * (1 + 2.5 * gap[1]))
    side = int(np.hypot(*shape)) + 2
    field = np.zeros((side, side), np.float32)
    for turn, row in enumerate(range(0, side - stamp.shape[0], down)):
        start = across // 2 if turn % 2 and gap[0] > 1.5 else 0
        for column in range(start, side - stamp.shape[1], across):
            field[row : row + stamp.shape[0], column : column + stamp.shape[1]] = stamp
    degrees = float(rng.choice([0, rng.uniform(15, 45), -rng.uniform(15, 45)]))
    turned = _turned(field, degrees)
    row, column = (turned.shape[0] - shape[0]) // 2, (turned.shape[1] - shape[1]) // 2
    return turned[row : row + shape[0], column : column + shape[1]]


def _in_corner(rng, shape, stamp):
    margin = int(min(shape) * rng.uniform(0.015, 0.05))
    row = shape[0] - stamp.shape[0] - margin if rng.random() < 0.75 else margin
    columns = [margin, shape[1] - stamp.shape[1] - margin, (shape[1] - stamp.shape[1]) // 2]
    return _placed(shape, stamp, row, columns[rng.choice(3, p=[0.35, 0.5, 0.15])])


def _corner(rng, shape, text):
    return _in_corner(rng, shape, text(rng, min(shape) * rng.uniform(0.025, 0.07)))


def _corner_logo(rng, shape, text):
    return _in_corner(rng, shape, _logo(rng, int(min(shape) * rng.uniform(0.07, 0.16))))


def _centre(rng, shape, text):
    short = min(shape)
    stamp = text(rng, short * rng.uniform(0.07, 0.16)) if rng.random() < 0.8 else _logo(rng, int(short * 0.4))
    if rng.random() < 0.4:
        stamp = _turned(stamp, float(rng.uniform(-45, 45)))
    return _placed(shape, stamp, (shape[0] - stamp.shape[0]) // 2, (shape[1] - stamp.shape[1]) // 2)


def _band(rng, shape, text):
    height = int(min(shape) * rng.uniform(0.06, 0.12))
    row = shape[0] - height - int(rng.choice([0, height // 2])) if rng.random() < 0.8 else 0
    mask = np.zeros(shape, np.float32)
    mask[row : row + height] = 0.6
    stamp = text(rng, height * 0.45)
    text = _placed(shape, stamp, row + (height - stamp.shape[0]) // 2, int(shape[1] * rng.uniform(0.02, 0.4)))
    return np.maximum(mask, text)


_MASKS = {"tiled": _tiled, "corner": _corner, "logo": _corner_logo, "centre": _centre, "band": _band}
