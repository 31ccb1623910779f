"""The web's wear of a picture, as restorers simulate it: blur, shrink, add noise, save as JPEG, enlarge again.

The model of Wang et al., Real-ESRGAN (arXiv 2107.10833) as RealRestorer's released pipeline uses it, in three forms:
`sr` (its web degradation, also an augmentation in training), `blur` (its blur) and `tail` (what its noise ends with).
Against that release: sizes are whole numbers and centres are kept, so nothing shifts; noise is drawn from recorded
seeds; negative light never reaches the Poisson noise; results are rounded, not truncated. Up to the codec all sums are
exact (`taps`), so a batch on a GPU meets the same codec with the same codes; a ringing kernel is the exception.
"""

import math
from typing import Literal

import cv2
import numpy as np

from degradations.coding.codecs import jpeg
from degradations.coding.passes import Interpolation, Pass, scaled
from degradations.numerics.random import chance, choice, gaussian_field, seed, uniform
from degradations.numerics.resample import blurred, reduced, resampled, snapped
from degradations.optics.convolve import convolve
from degradations.optics.psf import ringing
from degradations.pairs.contract import Light
from storage.records import Image

Form = Literal["sr", "blur", "tail"]

SECOND = 0.6  # severity from which a picture may go through the web twice
INTERPOLATIONS = {"area": cv2.INTER_AREA, "bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}


def wear(image: Image, passes: tuple[Pass, ...], enlargement: Interpolation) -> Image:
    """Return uint8 sRGB `image`, (H, W, 3), after `passes` and enlarged to its own size again."""
    if not passes:
        return image
    shape = image.shape[:2]
    for step in passes:
        image = _wear_once(image, step, shape)
    return resized(image, shape, enlargement)


def resized(image: Image, shape: tuple[int, ...], interpolation: Interpolation) -> Image:
    """Return `image` at `shape` (H, W); half-pixel centres, so its content stays where it is."""
    if image.shape[:2] == tuple(shape[:2]):
        return image
    if interpolation == "area" and shape[0] <= image.shape[0] and shape[1] <= image.shape[1]:
        return reduced(image, shape)
    out = cv2.resize(image, (shape[1], shape[0]), interpolation=INTERPOLATIONS[interpolation])
    return np.asarray(out, dtype=np.uint8)


def draw_passes(rng: np.random.Generator, severity: float, form: Form, shape: tuple[int, ...]) -> tuple[Pass, ...]:
    """Draw the passes of `form`: the published ranges are reached at severity 1, and shrink to nothing at 0.

    A second pass of `blur` sets in at SECOND, gently.
    """
    later = max(0.0, (severity - SECOND) / (1 - SECOND))
    draws = [_draw_pass(rng, at, form, turn, shape) for turn, at in enumerate((severity, later))]
    second = chance(rng, 0.7)
    if severity == 0:
        return ()
    return tuple(draws) if form == "blur" and second and later > 0 else tuple(draws[:1])


def draw_enlargement(rng: np.random.Generator) -> Interpolation:
    """Draw how the picture is enlarged at the end."""
    return choice(rng, ("bilinear", "bicubic"))


def _draw_pass(rng: np.random.Generator, severity: float, form: Form, turn: int, shape: tuple[int, ...]) -> Pass:
    interpolation: Interpolation = choice(rng, ("area", "bilinear", "bicubic"))
    rings, blurred, noisy, photonic, grey, poor = (chance(rng, share) for share in (0.5, 0.6, 0.5, 0.25, 0.4, 0.2))
    width, shrink, noise, quality = (uniform(rng, 0.7, 1.0) for _ in range(4))
    field = seed(rng)
    harm = severity * min(1.0, severity / 0.05)
    if form == "blur":
        return Pass(
            sigma=0.0 if rings else harm * width * (6, 5)[turn],
            cutoff=math.pi * (1 - 0.75 * harm * width) if rings else 0.0,
            scale=1 / (1 + harm * shrink * (3, 4)[turn]),
            interpolation=interpolation,
            noise=0.0 if photonic else harm * noise * 25,
            photons=1 / max(harm * noise * 0.02, 1e-9) ** 2 if photonic and harm else 0.0,
            grey=grey,
            quality=round(95 - harm * quality * 75),
            seed=field,
        )
    reach = 0.2 if min(shape[:2]) < 512 else 0.5
    return Pass(
        sigma=harm * width * 1.2 if blurred else 0.0,
        cutoff=0.0,
        scale=1 - harm * shrink * reach,
        interpolation=interpolation,
        noise=harm * noise * 10 if noisy and form == "sr" else 0.0,
        photons=0.0,
        grey=grey,
        quality=round(95 - harm * quality * (55 if poor else 35)),
        seed=field,
    )


def _wear_once(image: Image, step: Pass, shape: tuple[int, ...]) -> Image:
    light = blurred(image, step.sigma) if step.sigma else image.astype(np.float32)
    if step.cutoff:
        light = snapped(convolve(light, ringing(step.cutoff)))
    light = _noisy(resampled(light, scaled(shape, step.scale), step.interpolation), step)
    worn = np.rint(np.clip(light, 0, 255)).astype(np.uint8)
    return jpeg(worn, quality=step.quality, subsampling="4:2:0") if step.quality else worn


def _noisy(light: Light, step: Pass) -> Light:
    if not step.noise and not step.photons:
        return light
    field = gaussian_field((*light.shape[:2], 1 if step.grey else 3), step.seed)
    if step.noise:
        return np.asarray(light + np.float32(step.noise) * field, dtype=np.float32)
    signal = np.clip(light, 0, 255) * np.float32(255 / step.photons)  # the variance of light counted in photons
    return np.asarray(light + np.sqrt(signal) * field, dtype=np.float32)
