"""Compression: what sending a photograph on and on leaves of it.

A generation shrinks the picture to a share of its size, perhaps sharpens it, and passes it through a codec whose 8 x 8
grid starts at some offset, because pictures are cropped between one save and the next. After the last generation it is
enlarged to its own size. Codecs: JPEG (ITU-T T.81) with standard or makers' tables, WebP, AVIF, and the intra frames
of a video. Named platforms cap the width and save at their quality; the preset `web` is the degradation that
RealRestorer's released pipeline calls sr (arXiv 2603.25502), also what training augments with.

All acts on sRGB at native pixels: the same params harm a larger picture less. Where the grid starts is arranged by
rows and columns before the picture that are cut off after the codec, so content never shifts.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
from pydantic import model_validator

from degradations.coding import codecs
from degradations.coding.codecs import Codec, Subsampling
from degradations.coding.passes import Interpolation, Pass, scaled
from degradations.coding.video import video
from degradations.coding.web import draw_enlargement, draw_passes, resized, wear
from degradations.numerics.random import chance, choice, integer, seed, uniform
from degradations.pairs.contract import Degradation, Frame, Options, Part, Stage, Weight, any_weight
from degradations.pairs.severity import path
from storage.records import Image, Scene

QUALITY = (92.0, 75.0, 50.0, 30.0, 18.0, 8.0)  # of JPEG and WebP at the borders of the levels
AVIF_QUALITY = (80.0, 60.0, 42.0, 28.0, 16.0, 6.0)
QP = (20.0, 26.0, 30.0, 35.0, 40.0, 46.0)  # of the video codec
SCALE = (1.0, 0.9, 0.75, 0.6, 0.45, 0.3)  # of the smallest generation
GENERATIONS = (1.0, 1.0, 1.6, 2.2, 2.8, 3.6)
MOST = 4  # generations
WEBP_SIDE = 16383  # pixels that WebP can hold

Platform = Literal["messenger", "feed", "microblog", "story"]
PLATFORMS: dict[Platform, tuple[int, int, int]] = {  # width cap, and quality at severity 0 and 1
    "messenger": (1280, 82, 68),
    "feed": (1080, 85, 70),
    "microblog": (2048, 85, 74),
    "story": (720, 80, 66),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One resize and one save.

    scale: of the sides, relative to the whole picture, in (0, 1]. interpolation: of the resize. sharpen: amount of the
    unsharp mask after it, 0 none. codec: see `codecs`. quality: 1 to 100, for video the QP, 0 to 51. subsampling: of
    chroma. tilt, table_seed: of JPEG tables, 0 and 0 the standard ones. offset: (row, column), 0 to 7, of the first
    whole block in the resized picture.
    """

    scale: float
    interpolation: Interpolation
    sharpen: float
    codec: Codec
    quality: int
    subsampling: Subsampling
    tilt: float
    table_seed: int
    offset: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """The saves a picture went through.

    generations: in order; passes: instead of them, those of the preset `web`. enlargement: interpolation back to size.
    codec_version: the libraries that drew this recipe; with others the bytes may differ.
    """

    generations: tuple[Generation, ...]
    passes: tuple[Pass, ...]
    enlargement: Interpolation
    codec_version: str


class CompressionOptions(Options, frozen=True):
    """The preset, and the weights of the codecs of the default one."""

    preset: Literal["default", "web", "messenger", "feed", "microblog", "story"] = "default"
    jpeg: Weight = 0.70
    webp: Weight = 0.15
    avif: Weight = 0.05
    video: Weight = 0.10

    @model_validator(mode="after")
    def _some_codec(self) -> "CompressionOptions":
        any_weight(self.jpeg, self.webp, self.avif, self.video)
        return self


def sample(rng: np.random.Generator, severity: float, scene: Scene, options: CompressionOptions) -> Compression:
    """Draw the generations; what is not strength does not depend on `severity`."""
    enlargement = draw_enlargement(rng)
    shape = scene.image.shape
    if options.preset == "web":
        return _compression((), draw_passes(rng, severity, "sr", shape), enlargement)
    if options.preset == "default":
        drawn = _draw_default(rng, severity, options, shape)
    else:
        drawn = _draw_platform(rng, severity, options.preset, shape)
    return _compression(drawn if severity > 0 else (), (), enlargement)


def _compression(
    generations: tuple[Generation, ...], passes: tuple[Pass, ...], enlargement: Interpolation
) -> Compression:
    used: set[Codec] = {step.codec for step in generations} | ({"jpeg"} if passes else set())
    versions = ", ".join(codecs.version(codec) for codec in sorted(used))
    return Compression(generations=generations, passes=passes, enlargement=enlargement, codec_version=versions)


def _draw_default(
    rng: np.random.Generator, severity: float, options: CompressionOptions, shape: tuple[int, ...]
) -> tuple[Generation, ...]:
    count = int(path(severity, GENERATIONS, identity=1.0) + uniform(rng, 0, 0.999))
    shrinks = chance(rng, 0.7)
    drawn = [_draw_generation(rng, severity, options, shape, shrinks=shrinks, turn=turn) for turn in range(MOST)]
    return tuple(drawn[: min(MOST, count)])


def _draw_generation(
    rng: np.random.Generator,
    severity: float,
    options: CompressionOptions,
    shape: tuple[int, ...],
    *,
    shrinks: bool,
    turn: int,
) -> Generation:
    codec = _draw_codec(rng, options, shape)
    depth = 1.0 if turn == 0 else uniform(rng, 0, 1)
    scale = path(severity, SCALE, identity=1.0) ** depth if shrinks else 1.0
    sharpened, amount = chance(rng, 0.25), uniform(rng, 0.2, 0.8)
    maker, tilt, table_seed = (
        choice(rng, ("standard", "tilted", "random"), (6, 2, 2)),
        uniform(rng, -0.4, 0.4),
        seed(rng),
    )
    return Generation(
        scale=scale,
        interpolation=choice(rng, ("area", "bilinear", "bicubic"), (2, 1, 1)),
        sharpen=amount * min(1.0, severity / 0.2) if sharpened else 0.0,
        codec=codec,
        quality=_quality(severity, codec),
        subsampling=choice(rng, ("4:2:0", "4:2:2", "4:4:4"), (7, 1, 2)),
        tilt=tilt if maker == "tilted" else 0.0,
        table_seed=table_seed if maker == "random" else 0,
        offset=(integer(rng, 0, 7), integer(rng, 0, 7)),
    )


def _draw_codec(rng: np.random.Generator, options: CompressionOptions, shape: tuple[int, ...]) -> Codec:
    names: tuple[Codec, ...] = ("jpeg", "webp", "avif", "video")
    codec = choice(rng, names, [float(getattr(options, name)) for name in names])
    return "jpeg" if codec == "webp" and max(shape) > WEBP_SIDE - 8 else codec


def _quality(severity: float, codec: Codec) -> int:
    if codec == "video":
        return round(path(severity, QP))
    quality = path(severity, AVIF_QUALITY if codec == "avif" else QUALITY, identity=100.0)
    return max(1, round(quality))


def _draw_platform(
    rng: np.random.Generator, severity: float, platform: Platform, shape: tuple[int, ...]
) -> tuple[Generation, ...]:
    """One pass through the platform for the first half of the scale; after it, up to three: sent on and saved again."""
    cap, best, worst = PLATFORMS[platform]
    count = 1 + int(severity * 2 + uniform(rng, 0, 0.999))
    offsets = [(integer(rng, 0, 7), integer(rng, 0, 7)) for _ in range(MOST)]
    step = Generation(
        scale=min(1.0, cap / shape[1]),
        interpolation="area",
        sharpen=0.3 if shape[1] > cap else 0.0,
        codec="jpeg",
        quality=round(best + (worst - best) * severity),
        subsampling="4:2:0",
        tilt=0.0,
        table_seed=0,
        offset=(0, 0),
    )
    return (step, *(replace(step, offset=offset) for offset in offsets[1:count]))


def compress(frame: Frame, params: Compression, scene: Scene) -> Frame:
    """Return `frame`, whose degraded side is uint8 sRGB, after all generations."""
    image = wear(frame.degraded, params.passes, params.enlargement)
    shape = image.shape[:2]
    for step in params.generations:
        image = _generation(image, step, shape)
    return replace(frame, degraded=resized(image, shape, params.enlargement))


def _generation(image: Image, step: Generation, shape: tuple[int, ...]) -> Image:
    image = resized(image, scaled(shape, step.scale), step.interpolation)
    if step.sharpen:
        soft = cv2.GaussianBlur(image, (0, 0), 1.0)
        image = cv2.addWeighted(image, 1 + step.sharpen, soft, -step.sharpen, 0)
    return _through(image, step)


def _through(image: Image, step: Generation) -> Image:
    """Return `image` after the codec, whose first whole block starts at `step.offset`."""
    top, left = before = (-step.offset[0] % 8, -step.offset[1] % 8)
    if step.codec == "jpeg":
        return codecs.jpeg(
            image,
            quality=step.quality,
            subsampling=step.subsampling,
            tilt=step.tilt,
            table_seed=step.table_seed,
            before=before,
        )
    padded = cv2.copyMakeBorder(image, top, 0, left, 0, cv2.BORDER_REPLICATE) if top or left else image
    coded = _CODECS[step.codec](padded, step)
    return np.ascontiguousarray(coded[top:, left:])


_CODECS: dict[Codec, Callable[[Any, Generation], Image]] = {
    "webp": lambda image, step: codecs.webp(image, quality=step.quality),
    "avif": lambda image, step: codecs.avif(image, quality=step.quality, subsampling=step.subsampling),
    "video": lambda image, step: video(image, qp=step.quality),
}


DEGRADATION = Degradation(
    params=Compression,
    sample=sample,
    parts=(Part(Stage.CODEC, compress),),
    options=CompressionOptions,
)
