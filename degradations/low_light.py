"""Low light: too few photons, and what a camera does about it.

What is seen: a dark picture, brighter near a lamp, with crushed shadows, a colour cast and noise; lamps stay white.

    degraded = toe(w g (k E(x) L + noise(k E(x) L)))

k = 2^EV is the exposure, E <= 1 the illumination (lamp, flash by depth, vignette, uneven segments), g the automatic
gain that brings back a part, w the error of the white balance; the noise is that of the dark raw signal (`_sensor`).
With field, noise, cast and toe off, degraded light is exactly g k L. Other modes replace k by a curve of sRGB values:

* paper: (alpha I)^gamma, brightness attenuation and gamma (RealRestorer, arXiv 2603.25502, 3.1), without noise.
* statistics: alpha and gamma for which luma has a mean and deviation drawn from what low-light photographs show. It
  stands in for RealRestorer's reverse Retinexformer, whose weights are not public.
* model: a curve for each channel, said by a small network that has looked at the picture's histogram (`_darkening`).

Sensor noise acts at native pixels; everything else scales with the image.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np

from degradations import _darkening
from degradations._camera import planckian
from degradations._contract import Degradation, Frame, Light, Options, Part, Stage
from degradations._illumination import lighting
from degradations._light import LUMA, expand_highlights
from degradations._random import chance, choice, log_uniform, normal, seed, uniform
from degradations._sensor import Sensor
from degradations._sensor import expose as expose_sensor
from degradations._severity import path, pixels
from degradations._strips import strips
from degradations._tone_curves import matched, points_table, power_table, through
from storage.records import Scene

Mode = Literal["physical", "paper", "statistics", "model"]
MODES: tuple[Mode, ...] = ("physical", "paper", "statistics", "model")
EXPOSURE = (-0.6, -1.7, -2.5, -3.4, -4.3, -5.5)  # EV, at the borders of the levels
RECOVERED = (0.8, 0.5, 0.35, 0.22, 0.12, 0.05)  # gain times exposure
SHOT = (3e-4, 6e-4, 1.2e-3, 2.2e-3, 3.6e-3, 6e-3)  # after the gain, of a camera that leaves all its noise
LEFT = (0.01, 0.6)  # of it, after noise reduction: most real dark photographs are smooth (EXPERIMENTS.md, Realism)
GAMMA = (1.1, 1.35, 1.65, 2.0, 2.5, 3.2)  # (alpha I)^gamma leaves 0.03 of a bright picture at severity 1
ATTENUATION = (0.95, 0.85, 0.75, 0.66, 0.57, 0.48)
LAMP_SIDE = 16.0  # pixels at 1024
NIGHT = 70  # median code of green below which even the smallest clipped spot is a lamp
CLIPPED = 253  # code from which a channel counts as clipped


@dataclass(frozen=True, slots=True, kw_only=True)
class LowLight:
    """Drawn values.

    highlights: brightness of clipped light over white. exposure: k, (0, 1]. gain: g, >= 1. white: gains w.
    toe: linear light below which tones are crushed, 0 for none. attenuation, gamma: of the curve (alpha I)^gamma, 1 and
    1 for none. curve: sRGB values at evenly spaced sRGB values, one channel after the other, empty for none.
    field: strength of the illumination, nepers, 0 for none; lamp_row, lamp_column: its centre, of height and width;
    lamp_radius: of min(H, W). flash: share of the field that depth says, 0 to 1. vignette: 0 to 1. unevenness: of the
    field, nepers, drawn from field_seed. segment_stops: EV by label, empty for none.
    shot, read: variances per unit of light and at black, before the gain. row: sigma of rows. bits: of the converter, 0
    for none. red, blue, crosstalk, chroma, blotch: see `Sensor`. seed: of the noise.
    """

    highlights: float
    exposure: float
    gain: float
    white: tuple[float, float, float]
    toe: float
    attenuation: float
    gamma: float
    curve: tuple[float, ...]
    field: float
    lamp_row: float
    lamp_column: float
    lamp_radius: float
    flash: float
    vignette: float
    unevenness: float
    field_seed: int
    segment_stops: tuple[float, ...]
    shot: float
    read: float
    row: float
    bits: int
    red: float
    blue: float
    crosstalk: float
    chroma: float
    blotch: float
    seed: int


class LowLightOptions(Options, frozen=True):
    """mode: one, or "mixed" by the weights, in the order physical, paper, statistics, model.

    noise, field, cast, toe, lamps: whether there is sensor noise, uneven illumination, a white-balance error, a toe,
    and whether clipped light stays bright. model: weights of another darkening network, a JSON file; None for the one
    that comes with the code. A build knows it by its path: other weights need another name.
    """

    mode: Literal["mixed", "physical", "paper", "statistics", "model"] = "mixed"
    weights: tuple[float, float, float, float] = (0.55, 0.15, 0.2, 0.1)
    noise: bool = True
    field: bool = True
    cast: bool = True
    toe: bool = True
    lamps: bool = True
    model: str | None = None


def sample(rng: np.random.Generator, severity: float, scene: Scene, options: LowLightOptions) -> LowLight:
    """Draw a darkness of `severity`."""
    drawn = choice(rng, MODES, options.weights)
    mode = drawn if options.mode == "mixed" else options.mode
    params = _field(rng, severity, _camera(rng, severity))
    params = _segment_stops(rng, severity, scene, params)
    params = (
        _exposure(rng, severity, params) if mode == "physical" else _curve(rng, severity, scene, params, mode, options)
    )
    if not options.noise or mode == "paper":
        params = replace(params, shot=0.0, read=0.0, row=0.0, bits=0)
    if not options.field or mode == "paper":
        params = replace(params, field=0.0, vignette=0.0, unevenness=0.0, segment_stops=())
    if not options.cast or mode == "paper":
        params = replace(params, white=(1.0, 1.0, 1.0))
    if not options.toe or mode == "paper":
        params = replace(params, toe=0.0)
    return params if options.lamps and mode == "physical" else replace(params, highlights=0.0)


def lamps(frame: Frame, params: LowLight, scene: Scene) -> Frame:
    """Return `frame` with its lamps brighter than white: only what is clipped over LAMP_SIDE and more.

    Glints on fur and leaves are clipped too, by daylight; in the dark they would shine like a string of lights. In a
    photograph that is dark already every clipped spot is a lamp.
    """
    bright = expand_highlights(frame, params, scene)
    if bright is frame or np.median(scene.image[::4, ::4, 1]) < NIGHT:
        return bright
    side = max(3, round(pixels(LAMP_SIDE, scene.image.shape)))
    clipped = (scene.image.min(axis=2) >= CLIPPED).astype(np.uint8)
    core = cv2.morphologyEx(clipped, cv2.MORPH_OPEN, np.ones((side, side), np.uint8))
    lit = cv2.dilate(core, np.ones((3, 3), np.uint8))  # with the lamp's soft edge
    return replace(frame, degraded=np.where(lit[..., None] > 0, bright.degraded, frame.degraded))


def illuminate(frame: Frame, params: LowLight, scene: Scene) -> Frame:
    """Return `frame` under the uneven light of a dark scene."""
    if params.field == params.vignette == params.unevenness == 0 and not params.segment_stops:
        return frame
    shape = frame.degraded.shape[:2]
    light = lighting(params, scene)
    lit = np.empty_like(frame.degraded)
    for _, _, rows in strips(shape):
        cv2.multiply(frame.degraded[rows], cv2.cvtColor(light[rows], cv2.COLOR_GRAY2RGB), dst=lit[rows])
    return replace(frame, degraded=lit)


def expose(frame: Frame, params: LowLight, scene: Scene) -> Frame:
    """Return `frame` exposed too short, or darkened by a curve."""
    del scene
    if params.curve:
        return replace(frame, degraded=through(frame.degraded, points_table(params.curve)))
    if (params.attenuation, params.gamma) != (1, 1):
        return replace(frame, degraded=through(frame.degraded, power_table(params.attenuation, params.gamma)))
    return frame if params.exposure == 1 else replace(frame, degraded=frame.degraded * np.float32(params.exposure))


def capture(frame: Frame, params: LowLight, scene: Scene) -> Frame:
    """Return `frame` with the sensor's noise at the dark level."""
    del scene
    if params.shot == params.read == 0:
        return frame
    return replace(frame, degraded=expose_sensor(frame.degraded, _sensor_of(params)))


def develop(frame: Frame, params: LowLight, scene: Scene) -> Frame:
    """Return `frame` after automatic gain, white balance and the toe of the tone curve."""
    del scene
    if params.gain == 1 and params.white == (1, 1, 1) and params.toe == 0:
        return frame
    gains = np.diag(np.asarray(params.white) * params.gain).astype(np.float32)
    developed = np.empty_like(frame.degraded)
    for _, _, rows in strips(developed.shape):
        cv2.transform(frame.degraded[rows], gains, dst=developed[rows])
        if params.toe:
            _crush(developed[rows], params.toe)
    return replace(frame, degraded=developed)


def _crush(light: Light, toe: float) -> None:
    """Turn x into x^2 (1 + toe) / (x + toe): black and white stay, tones below `toe` fall quadratically."""
    np.maximum(light, 0, out=light)
    crushed = cv2.multiply(light, light, scale=1 + toe)
    light += np.float32(toe)
    cv2.divide(crushed, light, dst=light)


def _sensor_of(params: LowLight) -> Sensor:
    return Sensor(
        shot=params.shot,
        read=params.read,
        row=params.row,
        bits=params.bits,
        red=params.red,
        blue=params.blue,
        crosstalk=params.crosstalk,
        chroma=params.chroma,
        blotch=params.blotch,
        seed=params.seed,
    )


def _camera(rng: np.random.Generator, severity: float) -> LowLight:
    """Draw the camera: its colours, its noise at this darkness, its cast and toe; no darkness yet."""
    shot = path(severity, SHOT) * log_uniform(rng, *LEFT)
    read = math.exp(2.18 * math.log(max(shot, 1e-12)) + 1.20 + normal(rng, 0, 0.26)) if shot else 0.0
    rows = uniform(rng, 0.05, 0.25)
    return LowLight(
        highlights=path(severity, (1,) * 6) * log_uniform(rng, 0.5, 8),
        exposure=1.0,
        gain=1.0,
        white=_cast(rng, severity),
        toe=path(severity, (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)) * uniform(rng, 0, 0.02),
        attenuation=1.0,
        gamma=1.0,
        curve=(),
        field=0.0,
        lamp_row=0.5,
        lamp_column=0.5,
        lamp_radius=1.0,
        flash=0.0,
        vignette=0.0,
        unevenness=0.0,
        field_seed=0,
        segment_stops=(),
        shot=shot,
        read=read,
        row=rows * math.sqrt(read),
        bits=choice(rng, (10, 12, 14)) if severity > 0 else 0,
        red=uniform(rng, 1.5, 2.2),
        blue=uniform(rng, 1.6, 2.4),
        crosstalk=uniform(rng, 0.3, 0.7),
        chroma=uniform(rng, 0.15, 0.5),
        blotch=uniform(rng, 0.5, 0.9),
        seed=seed(rng),
    )


def _cast(rng: np.random.Generator, severity: float) -> tuple[float, float, float]:
    """Draw the error of the white balance: light of 2500 to 4000 K, or a greenish LED, corrected in large part."""
    kelvin, is_led, left = uniform(rng, 2500, 4000), chance(rng, 0.3), uniform(rng, 0.1, 0.35)
    green = uniform(rng, 1.0, 1.12)
    colour = np.array((0.96, green, 1.04)) if is_led else planckian(kelvin)
    gains = colour ** (left * path(severity, (0.3, 0.5, 0.7, 0.85, 1, 1)))
    gains = gains / float(LUMA @ gains)
    red, green, blue = (float(gain) for gain in gains)
    return (red, green, blue) if severity > 0 else (1.0, 1.0, 1.0)


def _field(rng: np.random.Generator, severity: float, params: LowLight) -> LowLight:
    strength = path(severity, (0.1, 0.3, 0.5, 0.7, 0.85, 1.0))
    return replace(
        params,
        field=strength * uniform(rng, 0, 1.6) * chance(rng, 0.7),
        lamp_row=uniform(rng, -0.1, 0.8),
        lamp_column=uniform(rng, -0.1, 1.1),
        lamp_radius=uniform(rng, 0.3, 1.2),
        flash=uniform(rng, 0, 0.7) * chance(rng, 0.4),
        vignette=strength * uniform(rng, 0, 0.3),
        unevenness=strength * uniform(rng, 0, 0.3),
        field_seed=seed(rng),
    )


def _segment_stops(rng: np.random.Generator, severity: float, scene: Scene, params: LowLight) -> LowLight:
    if scene.segments is None or severity == 0:
        return params
    strength = path(severity, (0.1, 0.3, 0.5, 0.7, 0.85, 1.0))
    count = int(scene.segments.max()) + 1
    return replace(params, segment_stops=tuple(-strength * abs(normal(rng, 0, 0.25)) for _ in range(count)))


def _exposure(rng: np.random.Generator, severity: float, params: LowLight) -> LowLight:
    lean = uniform(rng, 0.85, 1.15)
    exposure = 2 ** path(severity, EXPOSURE)
    recovered = path(severity, RECOVERED, identity=1.0) ** lean
    gain = max(1.0, recovered / exposure)
    return replace(
        params, exposure=exposure, gain=gain, shot=params.shot / gain, read=params.read / gain**2, row=params.row / gain
    )


def _curve(
    rng: np.random.Generator, severity: float, scene: Scene, params: LowLight, mode: Mode, options: LowLightOptions
) -> LowLight:
    lean, variation = uniform(rng, 0.9, 1.1), math.exp(normal(rng, -0.05, 0.35))
    if severity == 0:
        return params
    if mode == "paper":
        gamma = path(severity, GAMMA, identity=1.0) ** lean
        return replace(params, attenuation=path(severity, ATTENUATION, identity=1.0), gamma=gamma)
    if mode == "model":  # no gain comes after the curve: noise is that of two stops more light, or it would brighten
        quiet = replace(params, shot=params.shot / 4, read=params.read / 16, row=params.row / 4)
        return replace(quiet, curve=_darkening.curve(scene.image, severity, options.model))
    attenuation, gamma = matched(scene.image, severity, lean=lean, variation=variation)
    return replace(params, attenuation=attenuation, gamma=gamma)


DEGRADATION = Degradation(
    params=LowLight,
    sample=sample,
    parts=(
        Part(Stage.HIGHLIGHTS, lamps),
        Part(Stage.ILLUMINATION, illuminate),
        Part(Stage.EXPOSURE, expose),
        Part(Stage.SENSOR, capture),
        Part(Stage.ISP, develop),
    ),
    reads=frozenset({"depth", "segments"}),
    options=LowLightOptions,
)
