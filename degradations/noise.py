"""Noise: a sensor at high gain, film-like grain, or what a picture has gathered on its way through the web.

What is seen: speckle that is stronger in the shadows, coloured blotches, faint rows, stuck pixels; or clumped grain.

* sensor: Poisson-Gaussian on the raw mosaic, variance shot x + read, with row noise, quantisation and stuck pixels,
  through demosaicing, white balance, colour matrix and chroma noise reduction (`sensor`). Read noise follows shot
  noise as in the Darmstadt set (ln read = 2.18 ln shot + 1.20 +- 0.26; Ploetz and Roth, arXiv 1707.01313).
* grain, white and signal-dependent noise, impulses: in the square root of light, which is within 15 % of sRGB from 0.25
  up; the granular noise of RealRestorer (arXiv 2603.25502, 3.1) is luma grain with a third of it in chroma, clumped
  or not.
* Segment-aware: the sigma of each segment, or band of tones, is multiplied by a gain of its own, exp(N(0, 0.35)), and
  noise reduction has cleared whole segments, so that noise is seen in the share of the picture that the level names.

Ours: all values are drawn before and recorded, the strength is the sigma of a mid-grey picture in sRGB units, the five
levels follow it. All of it acts at native pixels and does not scale with the image.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from pydantic import model_validator

from degradations.camera.colour import keeping
from degradations.camera.sensor import GREY, Sensor, exposure, grey_sigma, stuck
from degradations.coding.codecs import jpeg
from degradations.coding.passes import scaled
from degradations.numerics.area import reduced
from degradations.numerics.light import LUMA, linear
from degradations.numerics.random import chance, choice, gaussian_field, integer, log_uniform, normal, seed, uniform
from degradations.numerics.regions import areas, halved, region_map, regions, some_regions
from degradations.numerics.strips import ByRows, Work, enlarged
from degradations.pairs.contract import Degradation, Frame, Light, Options, Part, Share, Stage, Weight, any_weight
from degradations.pairs.severity import path
from storage.records import Image, Scene

SIGMA = (3.0, 6.0, 12.0, 22.0, 35.0, 60.0)  # of mid-grey, sRGB codes, at the borders of the levels
AREA = (0.1, 0.165, 0.21, 0.52, 0.82, 1.0)  # of segments that are not cleared; weak noise is seen in half of its pixels
CLEARED = {"sensor": (0.85, 1.2), "granular": (1.2, 2.0), "web": (1.0, 1.5)}
"""Of AREA, by how well each kind is seen, and sigma, sRGB codes, that noise reduction leaves elsewhere: not visible."""
LUMA_LEFT = (0.15, 0.8)  # of fine luma noise after noise reduction; these three and TOE: `EXPERIMENTS.md`, "Real noise"
BLOTCH_LEFT = (0.3, 0.9)  # of coarse chroma, over the root of LUMA_LEFT: who smooths luma smooths chroma more
CHROMA_LEFT = (0.0, 0.25)  # of fine chroma, over that of the coarse
TOE = (0.03, 0.3)  # of the tone curve
ROWS_STAY = 0.5  # power of LUMA_LEFT: noise reduction leaves more of a row than of a pixel, so less of rows is drawn
CHROMA_GAIN = np.float32(1.6)  # a linear enlargement by two keeps 39 % of the variance
GRANULAR_CHROMA = 0.35  # of luma grain (RealRestorer, released code)
COLOURED = float(np.sqrt(1 + (GRANULAR_CHROMA * (np.eye(3) - keeping(1, 0))) ** 2 @ np.ones(3)).mean())
"""By how much that chroma raises the sigma of the channels over that of luma grain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Drawn values; all zero but the nuisance ones is the identity.

    shot, read: variances per unit of light and at black, linear. row: sigma of rows, linear. hot: fraction of stuck
    pixels. bits: of the converter, 10 to 14, 0 for none. red, blue: white-balance gains, 1 to 2.4. crosstalk: of the
    colour matrix, 0 to 1. luma, chroma, blotch, toe: what noise reduction leaves, and the tone curve (`Sensor`).
    grain: sigma of luma grain, [0, 1]; grain_chroma: of its chroma; grain_radius: sigma of its blur, pixels; clump:
    side of the box that gathers it, pixels, 0 for none; clump_threshold: of the local over the mean variance;
    midtones: whether grain fades towards black and white.
    white: sigma, poisson: variance at white, of web noise, [0, 1]; grey: whether it is the same in all channels.
    impulse: fraction of pixels turned black or white. segment_gains: by label, empty for none; feather: pixels. area:
    share of the picture that noise reduction spares, 0 to 1, in whole segments; left: of the noise elsewhere, 0 to 1.
    tail_scale: at which a web copy was stored, (0, 1], 1 for none; tail_quality: its JPEG quality, 0 for none.
    """

    shot: float
    read: float
    row: float
    hot: float
    bits: int
    red: float
    blue: float
    crosstalk: float
    luma: float
    chroma: float
    blotch: float
    toe: float
    grain: float
    grain_chroma: float
    grain_radius: float
    midtones: bool
    clump: int
    clump_threshold: float
    white: float
    poisson: float
    grey: bool
    impulse: float
    segment_gains: tuple[float, ...]
    feather: float
    area: float
    left: float
    tail_scale: float
    tail_quality: int
    seed: int


class NoiseOptions(Options, frozen=True):
    """mode: one kind only, or "mixed" by the weights given. preset: RealRestorer's composite instead.

    segment_aware: share of pictures whose segments differ, and of which only some are noisy, but for the preset.
    """

    mode: Literal["mixed", "sensor", "granular", "web"] = "mixed"
    weights: tuple[Weight, Weight, Weight] = (0.5, 0.25, 0.25)
    segment_aware: Share = 0.3
    preset: Literal["none", "realrestorer"] = "none"

    @model_validator(mode="after")
    def _some_kind(self) -> "NoiseOptions":
        any_weight(*self.weights)
        return self


def sample(rng: np.random.Generator, severity: float, scene: Scene, options: NoiseOptions) -> Noise:
    """Draw a noise whose sigma at mid-grey is that of `severity`."""
    kind = choice(rng, ("sensor", "granular", "web"), options.weights)
    kind = kind if options.mode == "mixed" else options.mode
    params = _quiet(rng, severity)
    gains = _segment_gains(rng, scene, options.segment_aware)
    params = replace(params, segment_gains=gains)
    if options.preset == "realrestorer":
        return _realrestorer(rng, severity, params)
    sigma = path(severity, SIGMA) / 255
    if gains:
        params = _cleared(params, severity, sigma, kind)
    drawn = {"sensor": _sensor(rng, severity, sigma, params), "granular": _granular(rng, sigma, params)}
    return {**drawn, "web": _web(rng, sigma, params)}[kind]  # all are drawn: the stream is the same for each


def _expose(frame: Frame, params: Noise, scene: Scene) -> Frame | Work:
    """Let a noisy sensor see `frame`."""
    return exposure(linear(frame.degraded), _sensor_of(params), _gain(params, scene))


expose = ByRows(_expose, idle=lambda params: params.shot == params.read == params.hot == 0, looks="degraded")


def _scatter(frame: Frame, params: Noise, scene: Scene) -> Frame | Work:
    """Add grain, web noise and impulses in the square root of light."""
    shape = scene.image.shape[0], scene.image.shape[1]
    grey, colour = _grain(shape, params), _grain_chroma(shape, params)
    gain, impulses = _gain(params, scene), _impulses(shape, params)

    def add_noise(light: Light, rows: slice, out: Light) -> None:
        _, tones = cv2.threshold(light, 0, 0, cv2.THRESH_TOZERO)
        cv2.sqrt(tones, dst=tones)
        noise = _web_noise(tones, params, rows, shape)
        if grey is not None:
            cv2.add(noise, _grain_noise(tones, params, grey[rows], colour, rows, shape), dst=noise)
        if gain is not None:
            cv2.multiply(noise, cv2.cvtColor(gain[rows], cv2.COLOR_GRAY2RGB), dst=noise)
        cv2.threshold(cv2.add(tones, noise, dst=noise), 0, 0, cv2.THRESH_TOZERO, dst=noise)
        cv2.multiply(noise, noise, dst=out)
        if impulses is not None:
            np.copyto(out, (impulses[rows] - np.float32(1))[..., None], where=impulses[rows, :, None] > 0)

    return add_noise


scatter = ByRows(_scatter, idle=lambda params: params.grain == params.white == params.poisson == params.impulse == 0)


def copy(frame: Frame, params: Noise, scene: Scene) -> Frame:
    """Return the uint8 `frame` as a smaller JPEG copy of itself, enlarged again."""
    del scene
    if params.tail_quality == 0:
        return frame
    height, width = frame.degraded.shape[:2]
    small = reduced(frame.degraded, scaled((height, width), params.tail_scale))
    back = jpeg(small, quality=params.tail_quality, subsampling="4:2:0")
    return replace(frame, degraded=cv2.resize(back, (width, height), interpolation=cv2.INTER_CUBIC))


def _web_noise(tones: Light, params: Noise, rows: slice, shape: tuple[int, int]) -> Light:
    """Return the web noise of `tones` (H, W, 3), some rows of the picture of `shape`: zero where none was drawn."""
    if params.white == params.poisson == 0:
        return np.zeros_like(tones)
    field = gaussian_field(shape if params.grey else (*shape, 3), params.seed, stream=5, rows=rows)
    if params.poisson:
        signal = cv2.transform(tones, LUMA[None]).reshape(field.shape) if params.grey else tones
        variance = cv2.addWeighted(signal, params.poisson, signal, 0, params.white**2)
        noise = cv2.multiply(cv2.sqrt(variance, dst=variance), field, dst=field)
    else:
        noise = np.multiply(field, np.float32(params.white), out=field)
    return np.asarray(cv2.cvtColor(noise, cv2.COLOR_GRAY2RGB) if params.grey else noise)


def _grain_noise(
    tones: Light, params: Noise, grey: Light, colour: Light | None, rows: slice, shape: tuple[int, int]
) -> Light:
    """Return the noise that luma grain `grey` (H, W), of these rows, and chroma grain, of half the size, make."""
    grains = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
    if colour is not None:
        cv2.scaleAdd(enlarged(colour, rows, shape), params.grain_chroma, grains, dst=grains)
    if params.midtones:
        _, dark = cv2.threshold(tones, 1, 0, cv2.THRESH_TRUNC)
        np.subtract(np.float32(1), dark, out=dark)
        cv2.multiply(grains, cv2.multiply(tones, dark, dst=dark, scale=4), dst=grains)
    return np.asarray(grains)


def _impulses(shape: tuple[int, int], params: Noise) -> Image | None:
    """Return 1 where a pixel turns black, 2 where it turns white, uint8 (H, W), 0 elsewhere."""
    if params.impulse == 0:
        return None
    plane = np.zeros(shape, np.uint8)
    places = stuck(shape, params.impulse, params.seed)
    plane[places] = 1 + np.arange(len(places[0])) % 2
    return plane


def _grain(shape: tuple[int, ...], params: Noise) -> Light | None:
    """Return luma grain of the sigma drawn, (H, W): blurred white noise, gathered where it happens to be dense."""
    if params.grain == 0:
        return None
    grain = gaussian_field(shape, params.seed, stream=3)
    if params.grain_radius > 0:
        grain = cv2.GaussianBlur(grain, (0, 0), params.grain_radius).reshape(shape)
    if params.clump:
        box = (params.clump, params.clump)
        gathered = cv2.blur(grain, box).reshape(shape)
        variance = cv2.blur(cv2.multiply(grain, grain), box).reshape(shape) - gathered * gathered
        dense = variance > np.float32(params.clump_threshold) * variance.mean()
        np.copyto(grain, gathered, where=dense)
    deviation = float(cv2.meanStdDev(grain)[1][0, 0])
    return np.multiply(grain, np.float32(params.grain / max(deviation, 1e-6)), out=grain)


def _grain_chroma(shape: tuple[int, ...], params: Noise) -> Light | None:
    """Return chroma grain of no luma at half the size, (H // 2, W // 2, 3): dyes are coarser than silver."""
    if params.grain_chroma == 0:
        return None
    half = (max(1, shape[0] // 2), max(1, shape[1] // 2), 3)
    no_luma = np.eye(3, dtype=np.float32) - keeping(1, 0)
    return np.asarray(cv2.transform(gaussian_field(half, params.seed, stream=4), CHROMA_GAIN * no_luma)).reshape(half)


def _gain(params: Noise, scene: Scene) -> Light | None:
    if not params.segment_gains:
        return None
    shape, labels = scene.image.shape[:2], regions(scene)
    if params.area >= 1:
        return region_map(labels, params.segment_gains, params.feather, shape)
    labels = halved(labels)
    spared = some_regions(labels, params.area, params.seed)
    left = params.left + np.float32(1 - params.left) * spared
    return region_map(labels, params.segment_gains, params.feather, shape, factor=left)


def _sensor_of(params: Noise) -> Sensor:
    return Sensor(
        shot=params.shot,
        read=params.read,
        row=params.row,
        hot=params.hot,
        bits=params.bits,
        red=params.red,
        blue=params.blue,
        crosstalk=params.crosstalk,
        luma=params.luma,
        chroma=params.chroma,
        blotch=params.blotch,
        toe=params.toe,
        seed=params.seed,
    )


def _quiet(rng: np.random.Generator, severity: float) -> Noise:
    """Draw what all kinds share, and what does not depend on the severity; no noise yet."""
    del severity
    processed = chance(rng, 0.5)
    red, blue, crosstalk = uniform(rng, 1.9, 2.4), uniform(rng, 1.5, 1.9), uniform(rng, 0.3, 0.8)
    luma = uniform(rng, *LUMA_LEFT)
    blotch = uniform(rng, *BLOTCH_LEFT) * math.sqrt(luma)
    return Noise(
        shot=0.0,
        read=0.0,
        row=0.0,
        hot=0.0,
        bits=choice(rng, (10, 12, 14)),
        red=red if processed else 1.0,
        blue=blue if processed else 1.0,
        crosstalk=crosstalk if processed else 0.0,
        luma=luma,
        chroma=uniform(rng, *CHROMA_LEFT) * blotch,
        blotch=blotch,
        toe=log_uniform(rng, *TOE),
        grain=0.0,
        grain_chroma=0.0,
        grain_radius=uniform(rng, 0.4, 1.2),
        midtones=chance(rng, 0.6),
        clump=choice(rng, (0, 3, 5, 7), (0.6, 0.2, 0.1, 0.1)),
        clump_threshold=uniform(rng, 0.4, 0.8),
        white=0.0,
        poisson=0.0,
        grey=chance(rng, 0.4),
        impulse=0.0,
        segment_gains=(),
        feather=uniform(rng, 2, 4),
        area=1.0,
        left=1.0,
        tail_scale=1.0,
        tail_quality=0,
        seed=seed(rng),
    )


def _segment_gains(rng: np.random.Generator, scene: Scene, share: float) -> tuple[float, ...]:
    """Draw a gain for each label, or none; their mean square over the picture is 1, so that sigma keeps its meaning."""
    aware = chance(rng, share)
    labels = regions(scene)
    covered = areas(labels)
    gains = [math.exp(normal(rng, 0, 0.35)) for _ in covered]
    if not aware:
        return ()
    power = sum(gain * gain * area for gain, area in zip(gains, covered, strict=True))
    return tuple(gain / math.sqrt(power) for gain in gains)


def _cleared(params: Noise, severity: float, sigma: float, kind: str) -> Noise:
    """Return `params` with noise reduced to what is not visible but in a share of the picture."""
    factor, codes = CLEARED[kind]
    return replace(params, area=min(1.0, factor * path(severity, AREA)), left=codes / max(255 * sigma, codes))


def _sensor(rng: np.random.Generator, severity: float, sigma: float, params: Noise) -> Noise:
    deviation, rows, has_hot = normal(rng, 0, 0.26), uniform(rng, 0.3, 0.8), chance(rng, 0.3)
    if sigma == 0:
        return params
    row_share = rows * path(severity, (0, 0, 0.1, 0.15, 0.2, 0.3)) * params.luma**ROWS_STAY
    plain = replace(_sensor_of(params), bits=0)
    shot = 4 * sigma**2
    for _ in range(8):  # Newton's steps in the logarithms, by the slope of the raw variance
        read = _read(shot, deviation)
        row = row_share * math.sqrt(shot * GREY + read)
        reached = grey_sigma(replace(plain, shot=shot, read=read, row=row))
        slope = (shot * GREY + 2.18 * read) / (2 * (shot * GREY + read))
        shot *= (sigma / reached) ** (1 / slope)
    read = _read(shot, deviation)
    row = row_share * math.sqrt(shot * GREY + read)
    hot = path(severity, (0, 0, 1e-5, 5e-5, 2e-4, 5e-4)) if has_hot else 0.0
    return replace(params, shot=shot, read=read, row=row, hot=hot)


def _read(shot: float, deviation: float) -> float:
    return math.exp(2.18 * math.log(shot) + 1.20 + deviation)


def _granular(rng: np.random.Generator, sigma: float, params: Noise) -> Noise:
    coloured = chance(rng, 0.7)
    grain = sigma / COLOURED if coloured else sigma
    return replace(params, grain=grain, grain_chroma=GRANULAR_CHROMA * grain if coloured else 0.0)


def _web(rng: np.random.Generator, sigma: float, params: Noise) -> Noise:
    if chance(rng, 0.5):
        return replace(params, white=sigma)
    return replace(params, poisson=sigma**2 / math.sqrt(GREY))


def _realrestorer(rng: np.random.Generator, severity: float, params: Noise) -> Noise:
    """Draw two to four of Gaussian, salt and pepper, Poisson and granular noise, and in half of all a web copy.

    The ranges of the released code, walked by severity; what it calls Poisson does nothing after a Gaussian (its scale
    is the number of different values), here it is 255 to 16 photons at white.
    """
    kinds, left = [], ["white", "impulse", "poisson", "grain"]
    for _ in range(integer(rng, 2, 4)):
        kinds.append(left.pop(integer(rng, 0, len(left) - 1)))  # noqa: PERF401 - it draws, in order
    white = math.sqrt(path(severity, (0.0012, 0.005, 0.015, 0.035, 0.06, 0.1)))
    impulse = path(severity, (0.001, 0.005, 0.01, 0.02, 0.035, 0.05))
    poisson = path(severity, (1 / 512, 1 / 255, 1 / 128, 1 / 64, 1 / 32, 1 / 16))
    grain = path(severity, (0.3, 0.6, 1.0, 1.5, 2.0, 2.4)) * 8 / 255
    clump = choice(rng, (0, 3, 5, 7), (0.6, 0.4 / 3, 0.4 / 3, 0.4 / 3))
    tailed, scale, quality = chance(rng, 0.5), uniform(rng, 0.6, 1.0), uniform(rng, 0.0, 1.0)
    copied = tailed and severity > 0
    return replace(
        params,
        white=white if "white" in kinds else 0.0,
        impulse=impulse if "impulse" in kinds else 0.0,
        poisson=poisson if "poisson" in kinds else 0.0,
        grain=grain if "grain" in kinds else 0.0,
        grain_chroma=GRANULAR_CHROMA * grain if "grain" in kinds else 0.0,
        grain_radius=0.0,
        midtones=False,
        clump=clump,
        grey=False,
        tail_scale=1 - (1 - scale) * path(severity, (0.2, 0.4, 0.6, 0.8, 1, 1)) if copied else 1.0,
        tail_quality=round(95 - (20 + 45 * quality) * path(severity, (0.1, 0.3, 0.5, 0.7, 0.9, 1))) if copied else 0,
    )


DEGRADATION = Degradation(
    params=Noise,
    sample=sample,
    parts=(Part(Stage.SENSOR, expose), Part(Stage.ISP, scatter), Part(Stage.CODEC, copy)),
    reads=frozenset({"segments"}),
    options=NoiseOptions,
)
