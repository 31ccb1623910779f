"""Haze: far things pale into the colour of the air.

I = L t + A (1 - t), with t_c = exp(-beta_c s) along the path s (Koschmieder 1924; Narasimhan and Nayar 2002,
doi:10.1023/A:1016328200723), in linear light. beta_c grows as wavelength^-q: 0 for fog, about 1 for haze, negative
for dust. The air thins out with height, so that the path to the sky ends: s = (h / e) (1 - exp(-d e / h)) at elevation
e over the horizon. Its density is uneven: log-normal fractal noise, and a pattern when one is handed in (RealRestorer,
arXiv 2603.25502, blends patterns too); a path within one clump sees little of that, and one through many their mean, of
which the spread falls as the root of their number (Taylor 1921, doi:10.1112/plms/s2-20.1.196). Some of what droplets
scatter forward still arrives, blurred; the sensor's noise comes after the air. By night the airlight is local: lamps
light the air around them (Narasimhan and Nayar 2003, doi:10.1109/CVPR.2003.1211417). Ours: the airlight, a neutralised
percentile of the far part; the offset of the inverse depth, drawn; the transmission per level, tuned on photographs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np

from degradations.numerics.fields import fbm
from degradations.numerics.light import linear
from degradations.numerics.random import choice, gaussian_field, log_uniform, seed, uniform
from degradations.numerics.strips import ByRows, Work, enlarged, widened
from degradations.pairs.contract import Degradation, Frame, Light, Options, Part, Stage
from degradations.pairs.severity import path, pixels
from degradations.weather.atmosphere import SKY, airlight, glow, is_night, layout, overlay_luminance, relit, soften
from storage.records import Scene

Kind = Literal["fog", "haze", "dust", "smog"]
KINDS: tuple[Kind, ...] = ("fog", "haze", "dust", "smog")
EXPONENT = {"fog": (0.0, 0.0), "haze": (0.5, 1.3), "dust": (-0.7, -0.3), "smog": (0.0, 0.6)}  # q, from and to
TINT = {"fog": (0.99, 1.0, 1.015), "haze": (0.96, 1.0, 1.05), "dust": (1.12, 0.99, 0.8), "smog": (1.04, 1.0, 0.9)}
THICKNESS = {"fog": (0.4, 3.0), "haze": (0.12, 0.8), "dust": (0.2, 1.5), "smog": (0.2, 1.2)}  # of the layer, in reaches
FORWARD = {"fog": (0.2, 0.6), "haze": (0.0, 0.0), "dust": (0.1, 0.4), "smog": (0.0, 0.0)}  # droplets, dust: not aerosol
WAVELENGTH = (610, 550, 465)  # nm, of the red, green and blue primaries
TRANSMISSION = (0.9, 0.7, 0.52, 0.35, 0.19, 0.06)  # at the 95th percentile of the distance, by level
UNEVENNESS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
NOISE = (0.0, 0.5, 1.0, 1.4, 1.4, 1.4)  # denser air is no darker: hardly more noise than at level 2
SCATTER = (0.5, 1.5, 2.5, 3.5, 4.5, 6.0)
SKY_FAR = 12.0  # distance of the sky, in reaches
AMBIENT = 0.35  # of a night's airlight; lamps do the rest
GLOW = (1.5, 4.0)  # of the light around a place: lamps are clipped, and brighter than they look
NOISE_TILE = 384


class HazeOptions(Options, frozen=True):
    """kind: of the air, "auto" draws it. preset: "realrestorer" keeps its released formula, mended.

    patterns: folder of images whose brightness is the density of haze, mixed in when the builder hands one over.
    """

    kind: Literal["auto", "fog", "haze", "dust", "smog"] = "auto"
    preset: Literal["physical", "realrestorer"] = "physical"
    patterns: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Haze:
    """What was drawn.

    kind: of air. beta: extinction of green light per unit of distance, >= 0, 0 is clear air. exponent: q of
    wavelength^-q, -1 to 1.5. offset: of the inverse depth, 0.02 to 0.3. far: distance of the sky. reach: 95th
    percentile of the distance. falloff: power of distance / reach, 1 to 2, 1 is physical. horizon: row over H, 0 to 1.
    layer: height of the air's layer as distance x elevation, 0 is without end. unevenness: of the density, 0 to 0.6.
    cell: of the unevenness in pixels at 1024. stretch: of its cells, horizontally. density_seed: of the unevenness.
    pattern: weight of an overlay in the density, 0 to 1; flip: it, horizontally. airlight: linear RGB, 0 to 1. scatter:
    sigma of forward-scattered light in pixels at 1024, 0 to 6; forward: its share, 0 to 0.6. noise: standard
    deviation at mid-grey in sRGB codes, 0 to 1.4; noise_seed: of the noise. glow: of lamps in the airlight, 0 by day.
    """

    kind: Kind
    beta: float
    exponent: float
    offset: float
    far: float
    reach: float
    falloff: float
    horizon: float
    layer: float
    unevenness: float
    cell: float
    stretch: float
    density_seed: int
    pattern: float
    flip: bool
    airlight: tuple[float, float, float]
    scatter: float
    forward: float
    noise: float
    noise_seed: int
    glow: float


def sample(rng: np.random.Generator, severity: float, scene: Scene, options: HazeOptions) -> Haze:
    """Draw the air; severity sets how little of the far part is left, what kind of air it is does not depend on it."""
    assert scene.depth is not None
    drawn = choice(rng, KINDS, (0.4, 0.4, 0.08, 0.12))
    kind = drawn if options.kind == "auto" else options.kind
    offset = log_uniform(rng, 0.05, 0.2)
    shape = layout(scene.depth, offset=offset)
    colour = airlight(scene.image, scene.depth, percentile=uniform(rng, 90, 99), chroma=uniform(rng, 0.03, 0.12))
    strength = uniform(rng, 0.5, 1.0)  # of the tint
    transmission = path(severity, TRANSMISSION, identity=1.0)
    haze = Haze(
        kind=kind,
        beta=-math.log(transmission) / shape.reach,
        exponent=uniform(rng, *EXPONENT[kind]),
        offset=offset,
        far=SKY_FAR * shape.reach,
        reach=shape.reach,
        falloff=1.0,
        horizon=shape.horizon,
        layer=shape.reach * log_uniform(rng, *THICKNESS[kind]),
        unevenness=path(severity, UNEVENNESS) * uniform(rng, 0.6, 1.0),
        cell=log_uniform(rng, 250, 700),
        stretch=uniform(rng, 1.5, 3.0),
        density_seed=seed(rng),
        pattern=uniform(rng, 0.3, 0.8),
        flip=uniform(rng, 0, 1) < 0.5,
        airlight=_tinted(colour, kind, strength),
        scatter=path(severity, SCATTER) * uniform(rng, 0.5, 1.0),
        forward=uniform(rng, *FORWARD[kind]),
        noise=path(severity, NOISE) * uniform(rng, 0.6, 1.0),
        noise_seed=seed(rng),
        glow=0.0,
    )
    haze = _at_night(rng, haze) if is_night(scene.image) else haze
    return _as_released(rng, severity, haze) if options.preset == "realrestorer" else haze


def _veil(frame: Frame, params: Haze, scene: Scene) -> Frame | Work:
    """Let `frame` be seen through the air. Raises AssertionError without depth, which `render` has checked."""
    from degradations.kernels.air import scattered_forward, through_air

    height, width = scene.image.shape[:2]
    depths = _optical_depths(params, scene)
    colour = np.tile(relit(frame, params.airlight), width)
    extinction = np.tile(np.array([(nm / 550) ** -params.exponent for nm in WAVELENGTH], np.float32), width)
    sigma = pixels(params.scatter, (height, width))
    is_soft = sigma >= 1 and params.forward > 0
    behind = linear(frame.degraded) if params.glow or is_soft else None
    lamps = glow(behind, params.glow) if behind is not None and params.glow else None
    soft = widened(soften(behind, sigma), width) if behind is not None and is_soft else None

    def see(light: Light, rows: slice, out: Light) -> None:
        depth = depths(rows)
        if soft is not None:
            straight, light = light, np.empty_like(light)
            scattered_forward(straight, depth, soft, params.forward, rows.start, height, light)
        if lamps is None:
            through_air(light, depth, extinction, colour, out)
            return
        around = enlarged(lamps, rows, (height, width))  # the airlight is brighter by that: A (1 - t) is linear in A
        through_air(cv2.subtract(light, around), depth, extinction, colour, out)
        cv2.add(out, around, dst=out)

    return see


veil = ByRows(_veil, idle=lambda params: params.beta == 0, looks="both")


def optical_depth(params: Haze, scene: Scene) -> Light:
    """Return the optical depth of green light, float32 (H, W), >= 0: beta times the path, weighed by the density."""
    return _optical_depths(params, scene)(slice(0, scene.image.shape[0]))


def _noise(frame: Frame, params: Haze, scene: Scene) -> Frame | Work:
    """Add shot noise, which the air did not soften.

    One tile of numbers serves all three channels, which share a part of it as demosaiced ones do: a third of the time.
    """
    from degradations.kernels.grain import shot_noise

    slope = params.noise / 255 * 0.833 / math.sqrt(0.18)  # sRGB codes to light at mid-grey, as shot noise
    tile = _grain(params.noise_seed, slope)
    return lambda light, rows, out: shot_noise(light, tile, rows.start, out)


noise = ByRows(_noise, idle=lambda params: params.noise == 0)


def _grain(noise_seed: int, slope: float) -> Light:
    tile = gaussian_field((NOISE_TILE, NOISE_TILE), noise_seed)
    shifted = [np.roll(tile, (131 * channel, 67 * channel), (0, 1)) for channel in (1, 2, 3)]
    return np.asarray(cv2.merge([cv2.addWeighted(tile, 0.8 * slope, own, 0.6 * slope, 0) for own in shifted]))


def _optical_depths(params: Haze, scene: Scene) -> Callable[[slice], Light]:
    """Return what gives some rows of `optical_depth`."""
    from degradations.kernels.air import distances, optical_depths

    assert scene.depth is not None
    inverse, rates = np.ascontiguousarray(scene.depth), _rates(params, scene)
    clump = params.reach * params.cell / 1024  # as long as a cell is wide that is seen at the reach
    density = widened(_density(params, scene), inverse.shape[1])

    def depths(rows: slice) -> Light:
        away = np.empty_like(inverse[rows])
        distances(inverse[rows], params.offset, params.far, SKY, away)
        if params.falloff != 1:
            away = params.reach * cv2.pow(away / np.float32(params.reach), params.falloff)
        out = np.empty_like(away)
        optical_depths(away, density, rates, rows.start, params.beta, clump, out)
        return out

    return depths


def _rates(params: Haze, scene: Scene) -> Light:
    """Return by how much the air thins out along a path of 1, by row: its elevation over the layer's height."""
    height, width = scene.image.shape[:2]
    middles = (np.arange(height) + 0.5) / height
    elevation = (params.horizon - middles) * (height / min(height, width))
    rates = np.where((params.layer > 0) & (elevation > 1e-3), elevation / max(params.layer, 1e-9), 0)
    return rates.astype(np.float32)


def _density(params: Haze, scene: Scene) -> Light:
    """Return the density of the air, float32, of mean 1, at a fraction of the size unless a pattern was handed in."""
    height, width = scene.image.shape[:2]
    small = -(-height // 4), max(1, round(width / 4 / params.stretch))
    field = fbm(small, params.density_seed, cell=params.cell * min(height, width) / 4 / min(small))
    half_variance = params.unevenness**2 / 2  # log-normal: 1 + h * fbm to first order, mean 1, never a hole
    density = cv2.exp(field * np.float32(params.unevenness) - np.float32(half_variance))
    pattern = overlay_luminance(scene, "haze", flip=params.flip)
    if pattern is None:
        return np.asarray(density)
    density = cv2.resize(density, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width)
    density *= np.float32(1) + np.float32(params.pattern) * (pattern / np.float32(max(pattern.mean(), 0.05)) - 1)
    return np.asarray(density)


def _tinted(colour: tuple[float, float, float], kind: Kind, strength: float) -> tuple[float, float, float]:
    red, green, blue = (min(1.0, c * (1 + strength * (t - 1))) for c, t in zip(colour, TINT[kind], strict=True))
    return red, green, blue


def _at_night(rng: np.random.Generator, haze: Haze) -> Haze:
    """Return `haze` in the light of lamps: bright around them and dark away from them (Narasimhan and Nayar 2003)."""
    red, green, blue = (AMBIENT * value for value in haze.airlight)
    return replace(haze, airlight=(red, green, blue), glow=uniform(rng, *GLOW))


def _as_released(rng: np.random.Generator, severity: float, haze: Haze) -> Haze:
    """RealRestorer's numbers (arXiv 2603.25502, released code) on distance, in linear light.

    Mended: it takes 1 - inverse depth as distance, works on gamma-encoded values, truncates, and lets the sky shine
    through; its one strength per image is spread over the severities.
    """
    beta = path(severity, (0.3, 0.6, 0.9, 1.2, 1.5, 1.8))
    bias = uniform(rng, -0.005, 0.005)
    bright = float(np.interp(beta, (0.3, 3), (0.78, 0.95))) + uniform(rng, -0.015, 0.015)
    red, green, blue = (((bright + sign * bias + 0.055) / 1.055) ** 2.4 for sign in (-1, 0, 1))
    return replace(
        haze,
        beta=beta / haze.reach,
        exponent=0.0,
        falloff=uniform(rng, 1, 2),
        far=1.5 * haze.reach,
        layer=0.0,
        airlight=(red, green, blue),
        scatter=0.0,
        noise=0.0,
        glow=0.0,
    )


DEGRADATION = Degradation(
    params=Haze,
    sample=sample,
    parts=(Part(Stage.MEDIA, veil), Part(Stage.SENSOR, noise)),
    needs=frozenset({"depth"}),
    reads=frozenset({"overlay"}),
    overlay="pattern",
    options=HazeOptions,
)
