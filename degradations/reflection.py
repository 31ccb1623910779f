"""Reflection: a pane of glass mirrors a second scene over the one behind it.

    I = e (tau(theta) T + F(theta) g (R * disk * (delta + rho delta_d)) / (1 + rho)),    g = f + (g1 - f) W

in linear light: T is the scene behind the glass, R the mirrored one, out of focus and doubled by the
second surface of the glass, g how much brighter its world is: f all over the pane, since glass mirrors everywhere and
only its bright parts are seen, g1 where W says that the brighter part of that world lies. tau and F are the Fresnel
transmission and reflection of both surfaces (n = 1.5). The camera exposes for all the light: it makes up for what the
glass takes, e = 1 / tau, so that the clean image is the photograph itself, and for less where the reflection is strong
and would burn it out (METERED). The clean side is e tau T, what the same exposure shows without the reflection, as
pairs with and without glass are taken (Wan et al., ICCV 2017, SIR2). With `auto_exposure` off e = 1.

`network_like` mixes as SynNet does (Wen et al., CVPR 2019, Single Image Reflection Removal Beyond Linearity), I = W R +
(1 - W) T with W a smooth function of both layers, but in linear light and with random instead of trained weights.

R is another photograph of the same split, or a procedural room. In a share of the pairs the roles are swapped: the
other photograph stands behind the glass and is the clean image. Ours: the level's share of visibly changed pixels
(facts of the severity levels: 10, 20, 50, 80 %) is met by the extent of W, in closed form.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from degradations.numerics.area import PROXY, brightening, coarse, dimming, reduced
from degradations.numerics.light import decode, encode, linear, luminance
from degradations.numerics.random import chance, choice, log_uniform, normal, seed, uniform
from degradations.numerics.strips import ByRows, Work, enlarged, whole
from degradations.pairs.contract import Degradation, Frame, Light, Options, Part, Share, Stage
from degradations.pairs.severity import FADE, path
from degradations.pane.glass import FEATURES, HIDDEN, gains, ghost_ratio, surface, transmission, weight, weight_field
from degradations.pane.mirrored import cropped, mirrored_view, second_scene
from storage.records import Image, Scene

Weight = Literal["window", "fbm", "segments", "network_like"]
AREA = (0.02, 0.10, 0.20, 0.50, 0.80, 0.97)  # share of visibly changed pixels at the borders of the levels
RATIO = (0.03, 0.08, 0.15, 0.3, 0.5, 0.9)  # mean light of the reflection where it shows, over that behind the glass
PEAK = (0.06, 0.15, 0.25, 0.45, 0.7, 1.1)  # brightest light of the reflection (95th percentile); 1 is white
OPACITY = (0.12, 0.2, 0.3, 0.42, 0.55, 0.72)  # largest weight of the second scene in the network-like mix
METERED = (1.0, 1.0, 1.0, 1.0, 0.75, 0.55)  # exposure left by a camera that sees the reflection, too
SHARPEST = (4.0, 3.5, 3.0, 2.0, 1.0, 0.0)  # px at 1024: radius of the disk, at best
SPREAD = (4.0, 4.0, 4.0, 4.0, 3.0, 3.0)  # px at 1024: how much larger it may be
EVERYWHERE = (0.3, 0.8)  # share of the touched area that a pane touches with what it mirrors all over, faintly
_STEPS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_LESS = np.array((1.0, 0.8, 0.6, 0.45, 0.3, 0.2, 0.1, 0.05))  # parts of that share that are tried
_SURE = np.float32(1.15)  # how far the small copy may be mistaken in the gain that is seen somewhere
_NOWHERE = 1e3  # a level that no field reaches
_PANE = ((0.2, 0.8), (0.2, 0.8), (0.3, 1.1), (0.3, 1.1), (-0.1, 0.1))  # row, column, height, width, tilt
GRID = 512  # pixels along the short side on which the reflection is made: half of 1024, it is rarely in focus


class ReflectionOptions(Options, frozen=True):
    """What a user may choose.

    weight: where reflections show; None draws it. auto_exposure: whether the camera makes up for the light that the
    glass takes and adds. swap_share: how often another photograph, when it is large enough, stands behind the glass.
    """

    weight: Weight | None = None
    auto_exposure: bool = True
    swap_share: Share = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Reflection:
    """A pane and what it mirrors.

    gain: how much brighter the mirrored world is, 0 none, about 1 to 20 (network_like: its largest weight, 0 to 1);
    faint: where it is dimmest, 0 to gain.
    incidence: degrees, 0 to 60. exposure: of the camera, 1 / transmission when it makes up for the glass, less where
    the reflection is strong.

    weight: kind of field that says where the reflection shows; cover, softness: level and width of its edge;
    weight_seed: of its clouds; pane: (row, column, height, width, tilt), place in shares of the frame, size in short
    sides; projection: weights of the network.

    defocus, ghost: radius and distance in px at 1024; ghost_angle: radians. tint: by channel, 0.87 to
    1.1. mirrored, zoom (1 or more), row, column (0 to 1): the window of the second photograph that is seen.
    highlights: light of its clipped parts above white. interior_seed: of the view mirrored when there is no second
    photograph. swapped: whether the second photograph stands behind the glass.
    """

    gain: float
    faint: float
    incidence: float
    exposure: float
    weight: Weight
    cover: float
    softness: float
    weight_seed: int
    pane: tuple[float, ...]
    projection: tuple[float, ...]
    defocus: float
    ghost: float
    ghost_angle: float
    tint: tuple[float, ...]
    mirrored: bool
    zoom: float
    row: float
    column: float
    highlights: float
    interior_seed: int
    swapped: bool


def sample(rng: np.random.Generator, severity: float, scene: Scene, options: ReflectionOptions) -> Reflection:
    """Draw a pane and a view, then set brightness and extent to what `severity` asks for.

    The extent is found level by level, so that it never shrinks: where a brighter reflection would reach its area with
    less of the pane, it stays as bright as that area allows.
    """
    drawn, sharpness, everywhere = _draw(rng, scene, options)
    small, other = _proxies(drawn, scene)
    params, meters = drawn, options.auto_exposure and drawn.weight != "network_like"
    for at in (*(step for step in _STEPS if step < severity), max(severity, FADE)):
        exposure = drawn.exposure * (path(at, METERED) if meters else 1)
        focused = replace(_focused(params, at, sharpness), exposure=exposure)
        params = _solved(focused, at, everywhere, scene, small, other)
    return _faded(params, severity)


def _is_clear(params: Reflection) -> bool:
    return params.gain == 0 and abs(_through(params) - 1) <= 1e-9 and not params.swapped


def _apply(frame: Frame, params: Reflection, scene: Scene) -> Frame | Work:
    """Let `frame` be seen through the pane; with swapped roles the clean side is the second photograph."""
    through = _through(params)
    dims = abs(through - 1) > 1e-9
    shape = (frame.degraded.shape[0], frame.degraded.shape[1])
    if not dims and not params.swapped:
        return _reflecting(params, scene, frame.degraded, None)
    behind, clean = linear(frame.degraded), linear(frame.clean)
    if params.swapped:
        behind = clean = decode(cropped(scene.overlays["reflection"], params, shape, zoom=1.0))
    if dims:
        dimmed = behind * np.float32(through)
        behind, clean = dimmed, dimmed if clean is behind else clean * np.float32(through)
    if params.gain == 0:
        return replace(frame, degraded=behind, clean=clean)
    other = _reduced_light(linear(frame.degraded)) if params.swapped else None
    return replace(frame, degraded=whole(_reflecting(params, scene, behind, other), behind), clean=clean)


apply = ByRows(_apply, idle=_is_clear, looks="both")


def _through(params: Reflection) -> float:
    """Return how much of the light behind the glass the camera records."""
    return params.exposure * (1 if params.weight == "network_like" else transmission(params.incidence))


def _reflecting(params: Reflection, scene: Scene, behind: NDArray[Any], other: Light | None) -> Work:
    """Return the work that adds the reflection to what is `behind` the glass."""
    shape = (behind.shape[0], behind.shape[1])
    layer, share = _layer(params, scene, behind, other)
    hidden = share if params.weight == "network_like" else None

    def reflect(light: Light, rows: slice, out: Light) -> None:
        mirrored = enlarged(layer, rows, shape).reshape(light.shape)
        if hidden is not None:
            mirrored -= light * enlarged(hidden, rows, shape).reshape(*light.shape[:2], 1)
        cv2.add(light, mirrored, dst=out)

    return reflect


# The mirrored scene.


def _layer(params: Reflection, scene: Scene, behind: NDArray[Any], other: Light | None) -> tuple[Light, Light]:
    """Return the light that the pane adds, float32 (h, w, 3), and its gain (h, w), on a grid of GRID pixels."""
    grid = coarse(behind.shape, GRID)
    view = mirrored_view(params, scene, grid, other)
    compared = linear(behind) if params.weight == "network_like" else behind
    field = weight_field(params, compared, view, scene.segments)
    share = cv2.resize(gains(params, field), grid[::-1], interpolation=cv2.INTER_LINEAR).reshape(grid)
    shown = cv2.cvtColor(share * np.float32(strength(params)), cv2.COLOR_GRAY2RGB)
    return np.asarray(cv2.multiply(view, shown)), share


def strength(params: Reflection) -> float:
    """Return what a mirrored world as bright as white adds at gain 1: Fresnel reflection of both surfaces, exposed."""
    if params.weight == "network_like":
        return 1.0
    return surface(params.incidence) * (1 + ghost_ratio(params.incidence)) * params.exposure


def _reduced_light(light: Light) -> Light:
    grid = coarse(light.shape, GRID)
    return np.asarray(cv2.resize(light, grid[::-1], interpolation=cv2.INTER_AREA).reshape(*grid, 3), dtype=np.float32)


# Drawing.


def _draw(rng: np.random.Generator, scene: Scene, options: ReflectionOptions) -> tuple[Reflection, float, float]:
    """Draw what does not depend on severity: the pane, where in the range of sharpness it lies, and EVERYWHERE."""
    swapped = chance(rng, options.swap_share) and _large_enough(scene)
    kinds: tuple[Weight, ...] = ("window", "fbm", "segments", "network_like")
    usable = scene.segments is not None and not swapped
    kind = choice(rng, kinds, (0.42, 0.42, 0.06 if usable else 0.0, 0.1))  # a pane ends seldom where a thing does
    if options.weight is not None and (options.weight != "segments" or usable):
        kind = options.weight
    incidence = uniform(rng, 0, 60)
    nuisance = Reflection(
        gain=0.0,
        faint=0.0,
        incidence=incidence,
        exposure=1 / transmission(incidence) if options.auto_exposure and kind != "network_like" else 1.0,
        weight=kind,
        cover=_NOWHERE,
        softness=log_uniform(rng, 0.03, 0.2) if kind == "window" else log_uniform(rng, 0.15, 0.5),
        weight_seed=seed(rng),
        pane=tuple(uniform(rng, low, high) for low, high in _PANE),
        projection=tuple(normal(rng) for _ in range(HIDDEN * (FEATURES + 1))),
        defocus=0.0,
        ghost=uniform(rng, 2, 20),
        ghost_angle=uniform(rng, 0, 2 * math.pi),
        tint=_tint(rng),
        mirrored=chance(rng, 0.5),
        zoom=log_uniform(rng, 1, 2),
        row=uniform(rng, 0, 1),
        column=uniform(rng, 0, 1),
        highlights=log_uniform(rng, 0.5, 8),
        interior_seed=seed(rng),
        swapped=swapped,
    )
    return nuisance, uniform(rng, 0, 1), uniform(rng, *EVERYWHERE)


def _tint(rng: np.random.Generator) -> tuple[float, float, float]:
    """Draw the colour of the light on the camera's side against that behind the glass, and of the glass.

    Light of lamps, sun and sky differs from warm to cold, thick glass is greenish: none turns a reflection violet.
    """
    warmth, iron = uniform(rng, -0.1, 0.1), uniform(rng, 0, 0.03)
    return 1 + warmth - iron, 1.0, 1 - warmth - iron


def _large_enough(scene: Scene) -> bool:
    overlay = scene.overlays.get("reflection")
    return overlay is not None and all(a >= b for a, b in zip(overlay.shape, scene.image.shape, strict=True))


def _proxies(params: Reflection, scene: Scene) -> tuple[Image, Light]:
    """Return small copies: the image behind the glass, and the light of the scene that it mirrors."""
    shape = (scene.image.shape[0], scene.image.shape[1])
    grid = coarse(shape, PROXY)
    if not params.swapped:
        return reduced(scene.image, grid), second_scene(params, scene, grid)
    behind = cropped(scene.overlays["reflection"], params, shape, zoom=1.0)
    return reduced(behind, grid), decode(reduced(scene.image, grid))


def _focused(params: Reflection, at: float, sharpness: float) -> Reflection:
    return replace(params, defocus=path(at, SHARPEST) + sharpness * path(at, SPREAD))


def _solved(params: Reflection, at: float, everywhere: float, scene: Scene, small: Image, other: Light) -> Reflection:
    """Return the pane with the gains of severity `at`, and the extent at which it touches the area of the level.

    params.cover is the extent at a lower severity. everywhere: share of the area that is touched by what is mirrored
    all over.
    """
    behind, share = decode(small) * np.float32(_through(params)), path(at, AREA)
    view = mirrored_view(params, scene, (small.shape[0], small.shape[1]), other)
    field = weight_field(params, behind, view, scene.segments, short=PROXY)
    layer = view * np.float32(strength(params))
    change = layer - behind if params.weight == "network_like" else layer
    seen = encode(behind)
    limit = np.where(change > 0, brightening(seen), dimming(seen))
    needed = (limit / np.maximum(np.abs(change), 1e-6)).min(axis=2)  # of gain * weight, for a visible change
    gain = _brightness(params, at, behind, layer, needed)
    faint = _faint(params, gain, needed, everywhere * share)
    odds = np.clip((needed - faint) / max(gain - faint, 1e-6), 1e-6, 1)
    level = np.where(odds < 1, field - params.softness * np.log(odds / np.maximum(1 - odds, 1e-6)), -np.inf)
    level = np.where(needed > faint, level, _NOWHERE)
    cover = max(float(np.quantile(level, 1 - share, method="higher")), float(field.min()) - 6 * params.softness)
    if cover > params.cover:
        shown = weight(params, field)
        hidden = np.maximum(1 - shown, np.float32(1e-6))
        least = float(np.quantile((needed - np.float32(gain) * shown) / hidden, share, method="lower"))
        faint = min(faint, max(least, params.faint))
        most = float(np.quantile((needed - np.float32(faint) * hidden) / shown, share, method="lower"))
        return replace(params, gain=max(min(gain, most), faint), faint=faint)
    return replace(params, gain=gain, faint=faint, cover=cover)


def _faint(params: Reflection, gain: float, needed: Light, share: float) -> float:
    """Return the gain with which `share` of the picture is touched all over the pane, at least as at a lower severity.

    As much less as it takes where an even part of the picture would be touched all at once, and none in the
    network-like mix, whose trained weights leave parts of the picture alone.
    """
    if params.weight == "network_like":
        return 0.0
    order = np.sort(needed, axis=None)
    touching = order[(share * len(order) * _LESS).astype(int)]
    unsure = np.diff(np.searchsorted(order, (touching / _SURE, touching * _SURE)), axis=0)[0] / len(order)
    sure = touching[unsure <= 0.3 * share]
    return min(max(params.faint, float(sure[0]) if len(sure) else 0.5 * float(order[0])), gain)


def _brightness(params: Reflection, at: float, behind: Light, layer: Light, needed: Light) -> float:
    """Return the gain at which the mean light of the reflection is RATIO of that behind, within PEAK.

    A reflection that is dark but for a few lamps is made up to 2.5 times brighter to touch the area of its level.
    """
    if params.weight == "network_like":
        return path(at, OPACITY)
    light = luminance(layer)
    gain = path(at, RATIO) * max(float(luminance(behind).mean()), 0.02) / max(float(light.mean()), 1e-4)
    touching = 1.1 * float(np.quantile(needed, path(at, AREA), method="lower"))
    return min(max(gain, touching), 2.5 * gain, path(at, PEAK) / max(float(np.quantile(light, 0.95)), 1e-4))


def _faded(params: Reflection, severity: float) -> Reflection:
    """Return the pane with its strength going to none, glass included, below severity FADE; no pane at 0."""
    fade = min(1.0, severity / FADE)
    swapped = params.swapped and severity > 0
    params = replace(params, swapped=swapped, gain=params.gain * fade, faint=params.faint * fade)
    if params.weight == "network_like":
        return params
    clear = 1 / transmission(params.incidence)
    return replace(params, exposure=clear + fade * (params.exposure - clear))


DEGRADATION = Degradation(
    params=Reflection,
    sample=sample,
    parts=(Part(Stage.GLASS, apply),),
    reads=frozenset({"segments", "overlay"}),
    overlay="photograph",
    options=ReflectionOptions,
    local=True,
)
