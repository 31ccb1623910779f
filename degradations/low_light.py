"""Low light: too few photons, and what a camera does about it.

What is seen: a dark picture, brighter near a lamp, with crushed shadows, a colour cast and noise; lamps stay white.

    degraded = toe(w g (k E(x) L + noise(k E(x) L)))

k = 2^EV is the exposure, E <= 1 the illumination (lamp, flash by depth, vignette, uneven segments), g the automatic
gain that brings back a part, w the error of the white balance; the noise is that of the dark raw signal (`sensor`).
With field, noise, cast and toe off, degraded light is exactly g k L. Other modes replace k by a curve of sRGB values:

* paper: (alpha I)^gamma, brightness attenuation and gamma (RealRestorer, arXiv 2603.25502, 3.1), without noise.
* statistics: alpha and gamma for which luma has a mean and deviation drawn from what low-light photographs show. It
  stands in for RealRestorer's reverse Retinexformer, whose weights are not public.
* model: a curve for each channel, said by a small network that has looked at the picture's histogram (`darkening`).

Sensor noise acts at native pixels; everything else scales with the image.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from pydantic import model_validator

from degradations.camera import darkening
from degradations.camera.colour import keeping, planckian
from degradations.camera.illumination import illumination, lighting
from degradations.camera.lamps import lamps_of
from degradations.camera.sensor import Sensor, exposure
from degradations.camera.tone_curves import matched, points_table, power_table, through
from degradations.numerics.light import LUMA, decode, linear, luminance
from degradations.numerics.random import chance, choice, log_uniform, normal, seed, uniform
from degradations.numerics.strips import ByRows, Work
from degradations.pairs.contract import Degradation, Frame, Light, Options, Part, Stage, Weight, any_weight
from degradations.pairs.severity import path
from storage.records import Image, Scene

Mode = Literal["physical", "paper", "statistics", "model"]
MODES: tuple[Mode, ...] = ("physical", "paper", "statistics", "model")
EXPOSURE = (-0.6, -1.7, -2.5, -3.4, -4.3, -5.5)  # EV, at the borders of the levels
RECOVERED = (0.9, 0.68, 0.5, 0.34, 0.18, 0.07)  # gain times exposure: what white comes to before the tone curve
SHOT = (3e-4, 6e-4, 1.2e-3, 2.2e-3, 3.6e-3, 6e-3)  # after the gain, of a camera that leaves all its noise
LEFT = (0.003, 0.4)  # of it, after noise reduction: most real dark photographs are smooth (EXPERIMENTS.md, Realism)
SMOOTH = 0.5  # share of the cameras that leave none of it
FIELD = (0.1, 0.3, 0.5, 0.7, 0.85, 1.0)  # of the drawn unevenness of the light
METERED = 0.5  # how far the camera makes up for light that does not reach everywhere: power of its mean
COLOUR = (0.95, 0.85, 0.75, 0.65, 0.55, 0.5)  # of the chroma, left at least: cameras fade it as they amplify
SHADOWS = (0.03, 0.12, 0.26, 0.4, 0.5, 0.6)  # of the brightest tone: below it, the tone curve of a dark picture crushes
CURVED = 0.3  # of the unevenness, where a curve darkens
GAMMA = (1.1, 1.35, 1.65, 2.0, 2.5, 3.2)  # (alpha I)^gamma leaves 0.03 of a bright picture at severity 1
ATTENUATION = (0.95, 0.85, 0.75, 0.66, 0.57, 0.48)


@dataclass(frozen=True, slots=True, kw_only=True)
class LowLight:
    """Drawn values.

    highlights: brightness of clipped light over white. exposure: k, (0, 1]. gain: g, >= 1. white: gains w. saturation:
    share of the chroma that is left. toe: linear light below which tones are crushed, 0 for none. attenuation, gamma:
    of the curve (alpha I)^gamma, 1 and 1 for none. curve: sRGB values at evenly spaced sRGB values, one channel after
    the other, empty for none.
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
    saturation: float
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

    noise, field, cast, toe, lamps: whether there is sensor noise, uneven illumination, a fault of colour, a toe, and
    whether clipped light stays bright. model_weights: of another darkening network, a JSON file; None for the one
    that comes with the code. A build makes its pairs anew when they change.
    """

    mode: Literal["mixed", "physical", "paper", "statistics", "model"] = "mixed"
    weights: tuple[Weight, Weight, Weight, Weight] = (0.55, 0.15, 0.2, 0.1)
    noise: bool = True
    field: bool = True
    cast: bool = True
    toe: bool = True
    lamps: bool = True
    model_weights: str | None = None

    @model_validator(mode="after")
    def _some_mode(self) -> "LowLightOptions":
        any_weight(*self.weights)
        return self

    def check(self) -> None:
        """Raise ValueError if `model_weights` are none."""
        if self.model_weights:
            try:
                darkening.load_weights(self.model_weights)
            except ValueError as error:
                raise ValueError(f"model_weights: {error}; name another file or leave it out") from error


def sample(rng: np.random.Generator, severity: float, scene: Scene, options: LowLightOptions) -> LowLight:
    """Draw a darkness of `severity`."""
    drawn = choice(rng, MODES, options.weights)
    mode = drawn if options.mode == "mixed" else options.mode
    params = _field(rng, severity, scene, _camera(rng, severity))
    params = _segment_stops(rng, severity, scene, params)
    if mode == "physical":
        params = _exposure(rng, severity, scene, params if options.field else _evenly_lit(params))
    else:
        params = _curve(rng, severity, scene, params, mode, options)
    if not options.noise or mode == "paper":
        params = replace(params, shot=0.0, read=0.0, row=0.0, bits=0)
    if not options.field or mode == "paper":
        params = _evenly_lit(params)
    if not options.cast or mode == "paper":
        params = replace(params, white=(1.0, 1.0, 1.0), saturation=1.0)
    if not options.toe or mode == "paper":
        params = replace(params, toe=0.0)
    return params if options.lamps and mode == "physical" else replace(params, highlights=0.0)


def _lamps(frame: Frame, params: LowLight, scene: Scene) -> Frame | Work:
    """Let the lamps of the photograph be brighter than white."""
    found = lamps_of(scene.image, params.highlights)
    return frame if len(found.places) == 0 else found.shine


lamps = ByRows(_lamps, idle=lambda params: params.highlights == 0)


def _illuminate(frame: Frame, params: LowLight, scene: Scene) -> Frame | Work:
    """Put `frame` under the uneven light of a dark scene."""
    field = lighting(params, scene)
    if field is None:
        return frame

    def light_up(light: Light, rows: slice, out: Light) -> None:
        cv2.multiply(light, cv2.cvtColor(field[rows], cv2.COLOR_GRAY2RGB), dst=out)

    return light_up


illuminate = ByRows(_illuminate, idle=lambda params: False)


def _expose(frame: Frame, params: LowLight, scene: Scene) -> Frame | Work:
    """Expose `frame` too short, or darken it by a curve."""
    del frame, scene
    if params.curve:
        return through(points_table(params.curve))
    if (params.attenuation, params.gamma) != (1, 1):
        return through(power_table(params.attenuation, params.gamma))

    def shorten(light: Light, rows: slice, out: Light) -> None:
        del rows
        np.multiply(light, np.float32(params.exposure), out=out)

    return shorten


expose = ByRows(
    _expose, idle=lambda params: params.exposure == params.attenuation == params.gamma == 1 and not params.curve
)


def _capture(frame: Frame, params: LowLight, scene: Scene) -> Frame | Work:
    """Let `frame` have the sensor's noise at the dark level."""
    del scene
    return exposure(linear(frame.degraded), _sensor_of(params))


capture = ByRows(_capture, idle=lambda params: params.shot == params.read == 0, looks="degraded")


def _develop(frame: Frame, params: LowLight, scene: Scene) -> Frame | Work:
    """Give `frame` automatic gain, white balance, faded colours and the toe of the tone curve.

    The toe, x^2 (1 + toe) / (x + toe), leaves 0 and 1, and what is below `toe` falls faster.
    """
    from degradations.kernels.codes import crush

    del frame, scene
    white = np.diag(np.asarray(params.white) * params.gain)
    gains = (keeping(1, params.saturation) @ white).astype(np.float32)

    def bring_back(light: Light, rows: slice, out: Light) -> None:
        if params.toe:
            crush(cv2.transform(light, gains).reshape(-1), params.toe, out.reshape(-1))
        else:
            cv2.transform(light, gains, dst=out)

    return bring_back


develop = ByRows(
    _develop,
    idle=lambda params: params.gain == params.saturation == 1 and params.white == (1, 1, 1) and params.toe == 0,
)


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
    left = log_uniform(rng, *LEFT) * (not chance(rng, SMOOTH))
    shot = path(severity, SHOT) * left
    read = math.exp(2.18 * math.log(max(shot, 1e-12)) + 1.20 + normal(rng, 0, 0.26)) if shot else 0.0
    rows = uniform(rng, 0.05, 0.25)
    return LowLight(
        highlights=path(severity, (1,) * 6) * log_uniform(rng, 0.5, 8),
        exposure=1.0,
        gain=1.0,
        white=_cast(rng, severity),
        saturation=1 - (1 - path(severity, COLOUR, identity=1.0)) * uniform(rng, 0, 1),
        toe=path(severity, SHADOWS) * uniform(rng, 0.2, 1.4),
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
        bits=choice(rng, (10, 12, 14)) if shot else 0,
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


def _field(rng: np.random.Generator, severity: float, scene: Scene, params: LowLight) -> LowLight:
    """Draw the light: more often than not it comes from where the photograph is brightest."""
    strength = path(severity, FIELD)
    anywhere = uniform(rng, -0.1, 0.8), uniform(rng, -0.1, 1.1)
    row, column = _brightest(scene.image) if chance(rng, 0.6) else anywhere
    return replace(
        params,
        field=strength * uniform(rng, 0.2, 3.4) * chance(rng, 0.85),
        lamp_row=row,
        lamp_column=column,
        lamp_radius=uniform(rng, 0.2, 1.0),
        flash=uniform(rng, 0, 0.7) * chance(rng, 0.3),
        vignette=strength * uniform(rng, 0, 0.3),
        unevenness=strength * uniform(rng, 0, 0.3),
        field_seed=seed(rng),
    )


def _brightest(image: Image) -> tuple[float, float]:
    """Return where, in shares of height and width, a photograph is brightest over a twelfth of it."""
    light = luminance(decode(np.asarray(cv2.resize(image, (12, 12), interpolation=cv2.INTER_AREA))))
    row, column = np.unravel_index(int(np.argmax(cv2.GaussianBlur(light, (0, 0), 1))), light.shape)
    return (float(row) + 0.5) / 12, (float(column) + 0.5) / 12


def _evenly_lit(params: LowLight) -> LowLight:
    return replace(params, field=0.0, vignette=0.0, unevenness=0.0, segment_stops=())


def _segment_stops(rng: np.random.Generator, severity: float, scene: Scene, params: LowLight) -> LowLight:
    if scene.segments is None or severity == 0:
        return params
    strength = path(severity, (0.1, 0.3, 0.5, 0.7, 0.85, 1.0))
    count = int(scene.segments.max()) + 1
    return replace(params, segment_stops=tuple(-strength * abs(normal(rng, 0, 0.25)) for _ in range(count)))


def _exposure(rng: np.random.Generator, severity: float, scene: Scene, params: LowLight) -> LowLight:
    """Draw how much light is caught and brought back, by a camera that meters the whole picture."""
    lean = uniform(rng, 0.85, 1.15)
    exposure = 2 ** path(severity, EXPOSURE)
    metered = float(illumination(params, scene).mean()) ** -METERED
    recovered = min(1.0, path(severity, RECOVERED, identity=1.0) ** lean * metered)
    gain = max(1.0, recovered / exposure)
    return replace(
        params,
        exposure=exposure,
        gain=gain,
        toe=params.toe * gain * exposure,
        shot=params.shot / gain,
        read=params.read / gain**2,
        row=params.row / gain,
    )


def _curve(
    rng: np.random.Generator, severity: float, scene: Scene, params: LowLight, mode: Mode, options: LowLightOptions
) -> LowLight:
    lean, variation = uniform(rng, 0.9, 1.1), math.exp(normal(rng, 0.15, 0.45))  # of nine real ones: 0.2, 0.55
    # Nobody meters here, and the curve has the tones of a whole dark photograph: what is uneven comes on top of them.
    params = replace(params, toe=params.toe / 20, field=params.field * CURVED)
    if severity == 0:
        return params
    if mode == "paper":
        gamma = path(severity, GAMMA, identity=1.0) ** lean
        return replace(params, attenuation=path(severity, ATTENUATION, identity=1.0), gamma=gamma)
    if mode == "model":  # no gain comes after the curve: noise is that of two stops more light, or it would brighten
        quiet = replace(params, shot=params.shot / 4, read=params.read / 16, row=params.row / 4)
        return replace(quiet, curve=darkening.curve(scene.image, severity, options.model_weights))
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
