"""Rain: streaks by layers of depth, a veil of the drops too far to be told apart, splashes, and drops on the glass.

Each drop is a lens that shows the whole sky and street at once, so it is as bright as the mean of them, not white:
I = L (1 - a) + E a. Streaks (see `streaks`) hide only what lies behind them. On the ground, drops throw crowns, and
wet surfaces darken. Drops on the glass (FoundIR's raindrop, arXiv 2412.01427) refract the scene upside down. At night E
is local: a lamp lights the streaks around it.

What the veil takes from sight depends on the drops, not on the rate of the rain R alone. A spectrum N0 e^(-g R^-0.21 D)
of spheres has the cross-section pi N0 / (2 g^3) R^0.63, per km 0.18 R^0.63 of Marshall and Palmer's, 0.08 of a
thunderstorm, 0.25 of drizzle (N0 8000, 1400 and 30000; g 4.1, 3.0 and 5.7; Joss et al. 1968). Diffraction takes as much
again, if to angles below those of a pixel. So from 0.08 R^0.63 to Weber's 0.312 R^0.67 (Halder et al., arXiv
1908.10335), 0.37 R^0.63 in hard rain, all is rain: of few large drops in clear air or of many in grey.

Ours: how many drops count as one streak (`emphasis`), and which of all these showers falls: that which touches the area
of the level (`shower`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from degradations.numerics.light import decode, linear
from degradations.numerics.random import chance, choice, log_uniform, seed, uniform
from degradations.numerics.strips import ByRows, Work, strips, widened
from degradations.pairs.contract import Degradation, Frame, Light, Options, Part, Share, Stage
from degradations.pairs.severity import path, pixels
from degradations.weather.atmosphere import SKY, airlight, glow, is_night, layout, overlay_luminance, relit
from degradations.weather.drops import Glass, refracting
from degradations.weather.shower import Shower, Sight, places, shower, sight
from degradations.weather.splashes import crowns, ground, struck
from degradations.weather.streaks import LAYERS, Fall, layers, overlaps
from storage.records import Scene

Mode = Literal["streaks", "raindrop", "night"]
RATE = (2.0, 6.0, 15.0, 40.0, 90.0, 150.0)  # mm/h at the borders of the levels
SHUTTER = (1 / 80, 1 / 90, 1 / 105, 1 / 130, 1 / 170, 1 / 230)  # seconds
ON_LENS = (0.0, 0.0, 5.0, 15.0, 35.0, 90.0)  # drops on the lens beside streaks, per 1024 x 1024
ON_GLASS = (40.0, 210.0, 480.0, 900.0, 1270.0, 1600.0)  # drops on the glass of `raindrop`
GLASS_RADIUS = (2.3, 4.4, 5.5, 7.2, 8.2, 8.6)
FILM = (0.0, 0.0, 0.0, 0.0, 0.08, 0.3)  # of the light, spread by the water between them
STRUCK = (0.0, 60.0, 180.0, 450.0, 900.0, 1600.0)  # drops that splash, per 1024 x 1024 of near ground
WETNESS = (0.02, 0.08, 0.15, 0.2, 0.25, 0.3)  # stops, at most: a shower may have begun just now
METRES = (1.5, 6.0)  # to the nearest point, which nobody knows
LOSS = (0.08e-3, 0.37e-3)  # extinction per metre at 1 mm/h, see above
ON_THE_WAY = (0.1, 1.0)  # share of the way on which it rains: a shower may end not far behind its streaks
DENSEST = (1.0, 1.0, 1.0, 1.0, 1.2, 1.6)  # of streaks, 1 for one a drop; at least one for `emphasis` drops is there
AREA = (0.04, 0.1, 0.2, 0.5, 0.8, 0.97)  # share of visibly changed pixels at the borders of the levels
STREAKED = (0.03, 0.075, 0.15, 0.33, 0.45, 0.65)  # that of streaks alone
SKY_FAR = 12.0  # distance of a rainy sky, in reaches


class RainOptions(Options, frozen=True):
    """mode: "auto" takes `night` for dark photographs, else draws. raindrop: share of drops on glass in "auto".

    patterns: folder of images of rain on black, mixed in when the builder hands one over.
    """

    mode: Literal["auto", "streaks", "raindrop", "night"] = "auto"
    raindrop: Share = 0.2
    patterns: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rain:
    """What was drawn. Lengths in pixels at min(H, W) = 1024, counts per square of the shorter side.

    mode: of rain. rate: mm/h, 0 to 150, 0 is none. shutter: seconds. focal: pixels. angle: from the vertical to the
    right, degrees; turbulence: its spread. converge: of streaks on their vanishing point, -0.5 to 0.5. aperture:
    defocus, pixels x metres. emphasis: >= 1. density: of streaks, 1 for one a drop. extinction: of the veil, per unit
    of relative distance. metres: of such a unit, for the layers of streaks. offset: of the inverse depth. reach: 95th
    percentile of the distance; horizon: row over H. environment: linear RGB of the drops' light. glow: of lamps in it,
    0 by day. splashes: count; splash_radius: at the nearest point. wetness: stops by which ground darkens. pattern:
    weight of an overlay, 0 to 1; flip: it. drops: count on the glass; drop_radius: its median; drop_spread: of its
    logarithm; view: of a drop, in shorter sides; defocus: of a drop; film: share of the light that water between the
    drops spreads, 0 to 1. event_seed, glass_seed: of the positions.
    """

    mode: Mode
    rate: float
    shutter: float
    focal: float
    angle: float
    turbulence: float
    converge: float
    aperture: float
    emphasis: float
    density: float
    extinction: float
    metres: float
    offset: float
    reach: float
    horizon: float
    environment: tuple[float, float, float]
    glow: float
    splashes: float
    splash_radius: float
    wetness: float
    pattern: float
    flip: bool
    drops: float
    drop_radius: float
    drop_spread: float
    view: float
    defocus: float
    film: float
    event_seed: int
    glass_seed: int


def sample(rng: np.random.Generator, severity: float, scene: Scene, options: RainOptions) -> Rain:
    """Draw the rain; severity sets how hard it rains, the wind and the camera do not depend on it."""
    assert scene.depth is not None
    drawn = _mode(rng, scene, options)
    offset = log_uniform(rng, 0.05, 0.2)
    shape = layout(scene.depth, offset=offset)
    colour = airlight(scene.image, scene.depth, percentile=uniform(rng, 90, 97), chroma=uniform(rng, 0.03, 0.15))
    brightness = uniform(rng, 0.9, 0.98)  # a drop's share of the environment's light (Garg and Nayar: 0.94)
    brightness *= 0.35 if drawn == "night" else 1.0  # lamps do the rest
    metres = log_uniform(rng, *METRES)
    has_drops = chance(rng, 0.4)
    slow = log_uniform(rng, 0.8, 1.25)
    rain = Rain(
        mode=drawn,
        rate=path(severity, RATE),
        shutter=path(severity, SHUTTER, identity=SHUTTER[0]) * slow,
        focal=log_uniform(rng, 900, 1500),
        angle=uniform(rng, -25, 25),
        turbulence=uniform(rng, 1.5, 4),
        converge=uniform(rng, -0.35, 0.35),
        aperture=log_uniform(rng, 0.8, 4),
        emphasis=log_uniform(rng, 5, 9),
        density=0.0,
        extinction=0.0,
        metres=metres,
        offset=offset,
        reach=shape.reach,
        horizon=shape.horizon,
        environment=(colour[0] * brightness, colour[1] * brightness, colour[2] * brightness),
        glow=uniform(rng, 2, 5) if drawn == "night" else 0.0,
        splashes=path(severity, STRUCK),
        splash_radius=log_uniform(rng, 0.012, 0.03) * 1100 / metres,
        wetness=0.0,
        pattern=path(severity, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)),
        flip=chance(rng, 0.5),
        drops=path(severity, ON_LENS) * float(has_drops),
        drop_radius=log_uniform(rng, 8, 24),
        drop_spread=uniform(rng, 0.35, 0.6),
        view=uniform(rng, 0.3, 0.6),
        defocus=log_uniform(rng, 2, 10),
        film=0.0,
        event_seed=seed(rng),
        glass_seed=seed(rng),
    )
    return _on_glass(rng, severity, rain) if drawn == "raindrop" else _touching(rain, severity, slow, scene)


def _fall(frame: Frame, params: Rain, scene: Scene) -> Frame | Work:
    """Let rain fall between camera and scene."""
    from degradations.kernels.rain import wet

    assert scene.depth is not None
    height, width = scene.image.shape[:2]
    passing, up = _passing(params, scene), ground(scene.depth, params.horizon)
    splashes, peak = _splashing(params, scene, up)
    dry = widened(np.exp2(up * np.float32(-params.wetness)), width)
    environment = np.tile(relit(frame, params.environment), (1, width, 1))
    if params.glow:
        environment = environment + widened(glow(linear(frame.degraded), params.glow), width)

    def rain(light: Light, rows: slice, out: Light) -> None:
        wet(light, passing(rows), splashes, peak, dry, environment, rows.start, height, out)

    return rain


fall = ByRows(_fall, idle=lambda params: params.rate == 0, looks="both")


def transmittance(params: Rain, scene: Scene) -> Light:
    """Return the share of light that passes veil and streaks, float32 (H, W) in [0, 1]."""
    passing = _passing(params, scene)
    return np.concatenate([passing(rows) for _, _, rows in strips(scene.image.shape)])


def _passing(params: Rain, scene: Scene) -> Callable[[slice], Light]:
    """Return what gives the rows of `transmittance`."""
    from degradations.kernels import air, rain

    assert scene.depth is not None
    depth = np.ascontiguousarray(scene.depth)
    limits = np.array([_inverse_depth(z, params) for z in LAYERS], np.float32)  # the nearest layer's first
    front = max(1, int((limits > depth.max()).sum()))
    planes, peak = layers((depth.shape[0], depth.shape[1]), _fall_of(params), front=front)
    limits = limits[front - 1 :]  # nothing is nearer than what belongs to one plane
    pattern = overlay_luminance(scene, "rain", flip=params.flip)

    def passing(rows: slice) -> Light:
        away, clear = np.empty((2, *depth[rows].shape), np.float32)
        air.distances(depth[rows], params.offset, SKY_FAR * params.reach, SKY, away)
        rain.passing(away, depth[rows], planes, limits, peak, params.extinction, rows.start, clear)
        if pattern is not None:
            clear *= np.float32(1) - np.float32(params.pattern) * pattern[rows]
        return np.asarray(clear)

    return passing


def _wet_glass(frame: Frame, params: Rain, scene: Scene) -> Frame | Work:
    """Let `frame` be seen through drops on the lens or on a window."""
    glass = Glass(
        count=params.drops,
        radius=params.drop_radius,
        spread=params.drop_spread,
        view=params.view,
        defocus=params.defocus,
        film=params.film,
        seed=params.glass_seed,
    )
    return refracting(linear(frame.degraded), glass)


wet_glass = ByRows(_wet_glass, idle=lambda params: params.drops == 0, looks="degraded")


def _mode(rng: np.random.Generator, scene: Scene, options: RainOptions) -> Mode:
    drawn = choice(rng, ("streaks", "raindrop"), (1 - options.raindrop, options.raindrop))
    if options.mode != "auto":
        return options.mode
    if drawn == "raindrop":
        return "raindrop"
    return "night" if is_night(scene.image) else "streaks"


def _on_glass(rng: np.random.Generator, severity: float, rain: Rain) -> Rain:
    return replace(
        rain,
        rate=0.0,
        splashes=0.0,
        drops=path(severity, ON_GLASS),
        drop_radius=path(severity, GLASS_RADIUS) * uniform(rng, 0.8, 1.25),
        drop_spread=uniform(rng, 0.75, 1.0),  # on real panes most drops are specks, and few are large
        defocus=log_uniform(rng, 0.8, 6),
        film=path(severity, FILM),
    )


def _touching(rain: Rain, severity: float, slow: float, scene: Scene) -> Rain:
    """Return the rain as the shower that touches the area of `severity`; slow: factor of the shutter.

    It is solved for at the borders of the levels and nowhere less than at those before: harm grows in between.
    """
    seen, shape = _sight(rain, scene), (scene.image.shape[0], scene.image.shape[1])
    found: list[Shower] = []
    for border in range(min(5, math.ceil(5 * severity)) + 1):
        fall = _fall_of(replace(rain, rate=RATE[border], shutter=SHUTTER[border] * slow, density=1.0))
        least, most = _bounds(border, rain.emphasis)
        if found:
            least = replace(found[-1], extinction=max(least.extinction, found[-1].extinction))
        streaks = overlaps(shape, fall)
        found.append(shower(seen, streaks, least=least, most=most, streaked=STREAKED[border], touched=AREA[border]))
    return replace(
        rain,
        density=path(severity, [each.density for each in found]),
        wetness=path(severity, [each.wetness for each in found]),
        extinction=path(severity, [each.extinction for each in found]),
    )


def _bounds(border: int, emphasis: float) -> tuple[Shower, Shower]:
    """Return the least and the most that may fall at the border of a level."""
    ways = zip(LOSS, METRES, ON_THE_WAY, strict=True)
    clear, grey = (loss * RATE[border] ** 0.63 * metres * share for loss, metres, share in ways)
    least = Shower(density=1 / emphasis, wetness=WETNESS[0], extinction=clear)
    return least, Shower(density=DENSEST[border], wetness=WETNESS[border], extinction=grey)


def _sight(params: Rain, scene: Scene) -> Sight:
    """Return what is seen at some pixels of the scene."""
    from degradations.kernels.air import distances

    assert scene.depth is not None
    shape = (scene.image.shape[0], scene.image.shape[1])
    at = places(shape)
    depth = np.ascontiguousarray(scene.depth[at], np.float32)
    away = np.empty_like(depth)
    distances(depth, params.offset, SKY_FAR * params.reach, SKY, away)
    environment = np.tile(np.array(params.environment, np.float32), (*depth.shape, 1))
    if params.glow:
        environment += _at(glow(decode(scene.image), params.glow), at, shape)
    limits = np.array([_inverse_depth(z, params) for z in LAYERS], np.float32)
    return sight(
        scene.image[at],
        environment=environment,
        away=away,
        up=_at(ground(scene.depth, params.horizon), at, shape),
        before=(depth[..., None] < limits).sum(axis=2),
    )


def _at(plane: Light, at: tuple[NDArray[np.intp], NDArray[np.intp]], shape: tuple[int, int]) -> Light:
    """Return the values of `plane`, reduced, at the pixels `at` of an image of `shape`."""
    rows, columns = (place * side // full for place, side, full in zip(at, plane.shape[:2], shape, strict=True))
    return np.asarray(plane[rows, columns])


def _fall_of(params: Rain) -> Fall:
    return Fall(
        rate=params.rate,
        shutter=params.shutter,
        focal=params.focal,
        angle=params.angle,
        turbulence=params.turbulence,
        converge=params.converge,
        aperture=params.aperture,
        emphasis=params.emphasis,
        density=params.density,
        seed=params.event_seed,
    )


def _inverse_depth(z: float, params: Rain) -> float:
    """Return the inverse depth of what stands `z` metres away: streaks there hide only what has less."""
    return min((1 + params.offset) * params.metres / z - params.offset, 2.0)


def _splashing(params: Rain, scene: Scene, up: Light) -> tuple[NDArray[np.uint8], float]:
    """Return the crowns, uint8 (H, W), and the opacity that 255 stands for."""
    assert scene.depth is not None
    if params.splashes == 0:
        return np.zeros(scene.depth.shape, np.uint8), 0.0
    radius = pixels(params.splash_radius, scene.image.shape)
    return crowns(scene.depth, struck(up, scene.image), density=params.splashes, radius=radius, seed=params.event_seed)


DEGRADATION = Degradation(
    params=Rain,
    sample=sample,
    parts=(Part(Stage.MEDIA, fall), Part(Stage.GLASS, wet_glass)),
    needs=frozenset({"depth"}),
    reads=frozenset({"overlay"}),
    overlay="pattern",
    options=RainOptions,
    local=True,
)
