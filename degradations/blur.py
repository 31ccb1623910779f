"""Blur: light that belongs to one point is spread over many.

    B = integral over the exposure of L(W_t x) dt, or L * k      in linear light, clipped highlights re-expanded

Causes: a camera shaken by hand (Boracchi and Foi, IEEE TIP 2012), moved straight, turned or zoomed; one object moving;
defocus by depth through a round or bladed opening; real frames averaged over an exposure, the main way of RealRestorer
(arXiv 2603.25502, section 3.1); and the soft, plateau and ringing kernels of the web (arXiv 2107.10833). The preset
`realrestorer` is the chain that its released pipeline calls blur. Ours: every kernel has its centroid at 0 and is
scaled so that causes of one severity spread light alike; defocus layers with silhouettes; motion of objects by
segments. Lengths are pixels at min(H, W) = 1024.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from degradations.coding.passes import Interpolation, Pass
from degradations.coding.web import draw_passes, wear
from degradations.numerics.light import decode, encode, expand_highlights
from degradations.numerics.random import chance, choice, log_uniform, normal, seed, uniform
from degradations.numerics.strips import Gathering, Stream, Work, streamed
from degradations.optics.clips import exposed, speed
from degradations.optics.convolve import convolve, convolving, growing, halved, ready, softening
from degradations.optics.defocus import opening
from degradations.optics.layers import layering
from degradations.optics.motion import Turn, camera_path, moving_object, path_length
from degradations.optics.outline import movers
from degradations.optics.psf import aperture, bell, point_spread, ringing, trajectory
from degradations.optics.straight import moving
from degradations.pairs.contract import Degradation, Frame, Light, Options, Part, Stage, Weight, any_weight
from degradations.pairs.severity import path, pixels
from storage.errors import SourceError
from storage.records import Scene

LENGTH = (3.0, 7.0, 13.0, 22.0, 36.0, 60.0)  # of motion; facts of each level, tuned in EXPERIMENTS.md
RADIUS = (1.0, 1.7, 3.0, 5.0, 8.0, 13.0)  # of the most defocused point
SIGMA = (0.7, 1.1, 1.9, 3.0, 4.6, 7.0)  # of web kernels
SPAN = (4.0, 8.0, 14.0, 24.0, 36.0, 60.0)  # pixels that the faster tenth of a clip moves


@dataclass(frozen=True, slots=True, kw_only=True)
class Still:
    """Nothing moves and all is in focus."""

    cause: Literal["still"] = "still"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shake:
    """A hand-held camera. length: of the line that spreads alike. The rest: as `trajectory`."""

    length: float
    seed: int
    centripetal: float
    jerk: float
    tremor: float
    cause: Literal["shake"] = "shake"


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """A camera moved straight and evenly. angle: radians from the row axis."""

    length: float
    angle: float
    cause: Literal["linear"] = "linear"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectMotion:
    """One object moving straight before a still camera. segment: its label in scene.segments."""

    length: float
    angle: float
    segment: int
    cause: Literal["object_motion"] = "object_motion"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """A camera turned and zoomed. turns: (yaw, pitch, roll, log zoom) at even times; radians."""

    turns: tuple[Turn, ...]
    cause: Literal["rotation"] = "rotation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Defocus:
    """Wrong focus. radius: of the disk of the most defocused point, or of all if `focus` is None.

    focus: disparity in focus. reach: pixels of radius per unit of disparity. blades, rotation, ring: as `aperture`.
    """

    radius: float
    focus: float | None
    reach: float
    blades: int
    rotation: float
    ring: float
    cause: Literal["defocus"] = "defocus"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """An exposure over the frames of a clip. span: its duration in frames."""

    span: float
    cause: Literal["clip"] = "clip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Web:
    """A kernel as the web's resizing and sharpening leave behind. sigma: geometric mean of its RMS widths.

    aspect: of its axes; angle: radians of the long one; beta: its exponent (1 is the Gaussian).
    """

    kernel: Literal["gaussian", "generalised", "plateau", "ringing"]
    sigma: float
    aspect: float
    angle: float
    beta: float
    cause: Literal["web"] = "web"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """RealRestorer's released blur: `passes` through the web, in sRGB at native pixels."""

    passes: tuple[Pass, ...]
    enlargement: Interpolation
    cause: Literal["chain"] = "chain"


Cause = Annotated[
    Still | Shake | Linear | ObjectMotion | Rotation | Defocus | Clip | Web | Chain, Field(discriminator="cause")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Blur:
    """What spreads the light. highlights: how much brighter than white the clipped light really is, 0 to 8."""

    highlights: float
    motion: Cause


class BlurOptions(Options, frozen=True):
    """The weight of each cause; those that the scene cannot give (no segments, no clip) are left out."""

    preset: Literal["default", "realrestorer"] = "default"
    shake: Weight = 0.25
    linear: Weight = 0.10
    object_motion: Weight = 0.15
    rotation: Weight = 0.10
    defocus: Weight = 0.20
    clip: Weight = 4.0  # where there is a clip, it is nearly always used
    web: Weight = 0.20

    @model_validator(mode="after")
    def _some_cause(self) -> "BlurOptions":
        any_weight(self.shake, self.linear, self.object_motion, self.rotation, self.defocus, self.clip, self.web)
        return self


def sample(rng: np.random.Generator, severity: float, scene: Scene, options: BlurOptions) -> Blur:
    """Draw a cause and its strength; what is not strength does not depend on `severity`."""
    cause = choice(rng, *_possible(scene, options))
    highlights = log_uniform(rng, 0.5, 8.0) * min(1.0, severity / 0.2)
    drawn = _DRAW[cause](rng, severity, scene)
    if severity == 0:
        return Blur(highlights=0.0, motion=Still())
    is_of_codes = isinstance(drawn, Chain) or (isinstance(drawn, Web) and drawn.kernel == "ringing")
    return Blur(highlights=0.0 if is_of_codes else highlights, motion=drawn)


def _possible(scene: Scene, options: BlurOptions) -> tuple[list[str], list[float]]:
    if options.preset == "realrestorer":
        return ["chain"], [1.0]
    weights = {name: float(getattr(options, name)) for name in _DRAW if name != "chain"}
    segments, are_things = movers(scene) if options.object_motion else ([], False)
    impossible = {"object_motion": not segments, "clip": not _moves(scene)}
    weights = {name: weight for name, weight in weights.items() if not impossible.get(name)}
    others = sum(weights.values()) - weights.get("object_motion", 0)
    if others and segments and not are_things:
        weights["object_motion"] = 0.0  # a piece of pavement would move; whoever asks for nothing else gets that
    if not any(weights.values()):
        raise SourceError("no_cause", "blur: no cause with a weight above 0 is possible for this scene")
    return list(weights), list(weights.values())


def _moves(scene: Scene) -> bool:
    if scene.frames is None or len(scene.frames) < 3:
        return False
    return speed(scene.frames) >= 3 / (len(scene.frames) - 1)


def _draw_shake(rng: np.random.Generator, severity: float, scene: Scene) -> Shake:
    return Shake(
        length=path(severity, LENGTH),
        seed=seed(rng),
        centripetal=uniform(rng, 0, 0.7),
        jerk=uniform(rng, 0, 2),
        tremor=choice(rng, (uniform(rng, 0, 1), 0.05)),
    )


def _draw_linear(rng: np.random.Generator, severity: float, scene: Scene) -> Linear:
    return Linear(length=path(severity, LENGTH), angle=uniform(rng, 0, math.pi))


def _draw_object(rng: np.random.Generator, severity: float, scene: Scene) -> ObjectMotion:
    segment = choice(rng, movers(scene)[0])
    vertical = uniform(rng, -1, 1)  # things on earth mostly move sideways
    return ObjectMotion(
        length=1.5 * path(severity, LENGTH), angle=math.pi / 2 + vertical**3 * math.pi / 2, segment=segment
    )


def _draw_rotation(rng: np.random.Generator, severity: float, scene: Scene) -> Rotation:
    """A random walk in four directions, one of which leads."""
    lead = choice(rng, ((1.0, 0.3, 0.3, 0.1), (0.3, 1.0, 0.3, 0.1), (0.15, 0.15, 2.0, 0.1), (0.1, 0.1, 0.2, 1.0)))
    drift = [normal(rng) for _ in range(4)]
    knots = np.cumsum([[normal(rng, mean, 0.5) for mean in drift] for _ in range(5)], axis=0) * lead
    unit = 1e-3 * (knots - knots.mean(axis=0))
    shape = scene.image.shape[:2]
    length = path_length(_turns(unit), shape)
    wanted = pixels(path(severity, LENGTH), shape)
    return Rotation(turns=_turns(unit * (wanted / length if length > 0 else 0.0)))


def _turns(knots: NDArray[np.float64]) -> tuple[Turn, ...]:
    return tuple((float(row[0]), float(row[1]), float(row[2]), float(row[3])) for row in knots)


def _draw_defocus(rng: np.random.Generator, severity: float, scene: Scene) -> Defocus:
    radius = path(severity, RADIUS)
    whole = chance(rng, 0.3)
    quantile = choice(rng, (uniform(rng, 0.0, 0.2), uniform(rng, 0.8, 1.0)))
    blades = choice(rng, (0, 5, 6, 7, 8, 9), (4, 1, 1, 2, 1, 2))
    focus, reach = (None, 0.0) if whole else _focus(scene, quantile, radius)
    return Defocus(
        radius=radius,
        focus=focus,
        reach=reach,
        blades=blades,
        rotation=uniform(rng, 0, 2 * math.pi),
        ring=choice(rng, (0.0, uniform(rng, 0, 1)), (0.7, 0.3)),
    )


def _focus(scene: Scene, quantile: float, radius: float) -> tuple[float | None, float]:
    """Return the disparity in focus and the pixels per unit of disparity that blur the farthest from it by `radius`."""
    if scene.depth is None:
        return None, 0.0
    focus = float(np.quantile(scene.depth, quantile))
    farthest = float(np.quantile(np.abs(scene.depth - np.float32(focus)), 0.9))
    return (focus, radius / farthest) if farthest > 0.02 else (None, 0.0)


def _draw_clip(rng: np.random.Generator, severity: float, scene: Scene) -> Clip:
    assert scene.frames is not None
    return Clip(span=min(path(severity, SPAN) / speed(scene.frames), float(len(scene.frames) - 1)))


def _draw_web(rng: np.random.Generator, severity: float, scene: Scene) -> Web:
    kernel: Literal["gaussian", "generalised", "plateau", "ringing"] = choice(
        rng, ("gaussian", "generalised", "plateau", "ringing"), (0.63, 0.135, 0.135, 0.1)
    )
    stretched, aspect = chance(rng, 0.36), log_uniform(rng, 1, 3)
    betas = {"generalised": log_uniform(rng, 0.5, 4), "plateau": log_uniform(rng, 1, 2)}
    return Web(
        kernel=kernel,
        sigma=path(severity, SIGMA),
        aspect=aspect if stretched else 1.0,
        angle=uniform(rng, 0, math.pi),
        beta=betas.get(kernel, 1.0),
    )


def _draw_chain(rng: np.random.Generator, severity: float, scene: Scene) -> Chain:
    return Chain(passes=draw_passes(rng, severity, "blur", scene.image.shape), enlargement="bicubic")


_DRAW: dict[str, Callable[[np.random.Generator, float, Scene], Cause]] = {
    "shake": _draw_shake,
    "linear": _draw_linear,
    "object_motion": _draw_object,
    "rotation": _draw_rotation,
    "defocus": _draw_defocus,
    "clip": _draw_clip,
    "web": _draw_web,
    "chain": _draw_chain,
}


def _spread(stream: Stream, params: Blur, scene: Scene) -> Work:
    """Spread the light of `stream` by the drawn cause.

    Raises ValueError if the annotation that the cause reads is absent.
    """
    cause, shape = params.motion, stream.shape
    match cause:
        case Clip():
            return ready(exposed(_given(scene.frames, "frames"), cause.span, params.highlights))
        case ObjectMotion():
            inside = _given(scene.segments, "segments") == cause.segment
            return ready(moving_object(stream.light(), inside, pixels(cause.length, shape), cause.angle))
        case Rotation():
            return ready(camera_path(stream.light(), cause.turns))
        case Defocus():
            return _defocusing(stream, cause, scene)
        case Linear():
            return moving(stream, pixels(cause.length, shape), cause.angle)
        case Shake():
            return convolving(stream.light(), _shaken(cause, shape))
        case Web():
            return _softening(stream, cause)
        case Still() | Chain():
            return ready(stream.light())


spread = Gathering(_spread, idle=lambda params: isinstance(params.motion, Still | Chain))


def _shaken(cause: Shake, shape: tuple[int, ...]) -> Light:
    length = pixels(cause.length, shape)
    points = trajectory(length, cause.seed, centripetal=cause.centripetal, jerk=cause.jerk, tremor=cause.tremor)
    return point_spread(points)


def _defocusing(stream: Stream, cause: Defocus, scene: Scene) -> Work:
    kernel = partial(aperture, blades=cause.blades, rotation=cause.rotation, ring=cause.ring)
    if cause.focus is None:
        return opening(stream, pixels(cause.radius, stream.shape), kernel)
    depth = _given(scene.depth, "depth")
    return layering(stream, depth, focus=cause.focus, reach=pixels(cause.reach, stream.shape), kernel=kernel)


def _softening(stream: Stream, cause: Web) -> Work:
    sigma = pixels(cause.sigma, stream.shape)
    if sigma < 1e-3:
        return ready(stream.light())  # the next pixel's share is below any float, and 0 would be divided by
    if cause.kernel == "ringing":
        return ready(_rung(stream.light(), ringing(1.7 / sigma)))  # halves the same frequency as the Gaussian
    if cause.kernel == "gaussian" and cause.aspect == 1:
        return softening(stream, sigma)
    return _belling(stream, sigma * cause.aspect**0.5, sigma * cause.aspect**-0.5, cause)


def _rung(light: Light, kernel: Light) -> Light:
    """Return `light` as a filter of sRGB codes leaves it: the web resizes and sharpens codes, not light.

    In light a ring below a highlight would fall to black, and one above a shadow would hardly be seen.
    """
    if kernel.size == 1:
        return light
    codes = convolve(encode(light).astype(np.float32), kernel)
    return decode(np.rint(np.clip(codes, 0, 255)).astype(np.uint8))


def _belling(stream: Stream, along: float, across: float, cause: Web) -> Work:
    """Spread light by `along` and `across` pixels RMS, on a reduced copy if both are wide (see `softening`)."""
    if across * across < 5 or min(stream.shape[:2]) < 32:
        aspect, sigma = along / across, math.sqrt(along * across)
        kernel = bell(sigma, aspect, cause.angle, beta=cause.beta, plateau=cause.kernel == "plateau")
        return convolving(stream.light(), kernel)
    long, short = (math.sqrt((spread * spread - 2) / 4) for spread in (along, across))
    small = halved(stream)
    return growing(_belling(streamed(small), long, short, cause), small.shape)


def _given(annotation: NDArray[Any] | None, name: str) -> NDArray[Any]:
    if annotation is None:
        raise ValueError(f"this blur reads the scene's {name}, which is absent")
    return annotation


def recompress(frame: Frame, params: Blur, scene: Scene) -> Frame:
    """Return `frame` after the chain of the preset; any other cause leaves it alone."""
    if not isinstance(params.motion, Chain):
        return frame
    return replace(frame, degraded=wear(frame.degraded, params.motion.passes, params.motion.enlargement))


DEGRADATION = Degradation(
    params=Blur,
    sample=sample,
    parts=(
        Part(Stage.HIGHLIGHTS, expand_highlights),
        Part(Stage.OPTICS, spread),
        Part(Stage.CODEC, recompress),
    ),
    reads=frozenset({"depth", "segments", "frames"}),
    options=BlurOptions,
    keeps_geometry=False,
)
