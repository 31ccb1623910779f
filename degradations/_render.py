"""From a scene and drawn steps to a pair: the parts of all steps in physical order, one decode, one encode."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from degradations import load
from degradations._contract import Degradation, Frame, Part, Stage
from degradations._light import decode, encode
from degradations._recipes import params_of
from storage.records import Image, Recipe, Scene


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """The two images of a pair, uint8 (H, W, 3) sRGB. `clean` is the scene's own array unless a part changed it."""

    clean: Image
    degraded: Image


def replay(clean: Image, recipe: Recipe, inputs: Mapping[str, NDArray[Any]]) -> Rendered:
    """Return the pair that `recipe` describes, byte for byte.

    clean: the scene's image, uint8 (H, W, 3). inputs: what the steps read: "depth" float32, "segments" uint8, "frames",
    and "overlay-<degradation>" uint8. Raises ValueError if a parameter or an input is missing or does not fit.
    """
    overlays = {name.removeprefix("overlay-"): array for name, array in inputs.items() if name.startswith("overlay-")}
    scene = Scene(
        key="",
        image=clean,
        depth=inputs.get("depth"),
        segments=inputs.get("segments"),
        frames=inputs.get("frames"),
        overlays=overlays,
    )
    return render(scene, recipe)


def render(scene: Scene, recipe: Recipe) -> Rendered:
    """Return the pair that `recipe` makes of `scene`; raises ValueError if the scene lacks what a step needs."""
    steps = [(load(step.degradation), step) for step in recipe.steps]
    for degradation, step in steps:
        _check_needs(degradation, step.degradation, scene)
    drawn = [(degradation, params_of(degradation, step)) for degradation, step in steps]
    return render_params(scene, drawn)


def render_params(scene: Scene, drawn: Sequence[tuple[Degradation, Any]]) -> Rendered:
    """Return the pair that the drawn parameters make of `scene`."""
    parts = [(part, params) for degradation, params in drawn for part in degradation.parts]
    parts.sort(key=lambda item: item[0].stage)  # stable: equal stages keep the order of the steps
    if all(part.stage is Stage.CODEC for part, _ in parts):
        frame = Frame(degraded=scene.image, clean=np.empty(0, np.float32))
        for part, params in parts:
            frame = part.apply(frame, params, scene)
        return Rendered(clean=scene.image, degraded=np.array(frame.degraded))
    return _expose(scene, parts)


def _expose(scene: Scene, parts: Sequence[tuple[Part, Any]]) -> Rendered:
    light = decode(scene.image)
    frame, state = Frame(degraded=light, clean=light), Stage.EXPOSURE
    for part, params in parts:
        if part.stage > state:
            frame, state = _advance(frame, part.stage)
        frame = part.apply(frame, params, scene)
    clean = scene.image if frame.clean is light else encode(frame.clean)
    degraded = frame.degraded if frame.degraded.dtype == np.uint8 else encode(frame.degraded)
    return Rendered(clean=clean, degraded=degraded)


def _advance(frame: Frame, stage: Stage) -> tuple[Frame, Stage]:
    if stage is Stage.CODEC:
        return replace(frame, degraded=encode(frame.degraded)), Stage.CODEC
    own = None if np.may_share_memory(frame.degraded, frame.clean) else frame.degraded  # made by a part, for us
    return replace(frame, degraded=np.clip(frame.degraded, 0, 1, out=own)), Stage.ISP


def _check_needs(degradation: Degradation, name: str, scene: Scene) -> None:
    for need in sorted(degradation.needs):
        if getattr(scene, need) is None:
            raise ValueError(f"{name} needs the scene's {need}, which is absent")
        if getattr(scene, need).shape[:2] != scene.image.shape[:2]:
            raise ValueError(f"{need} is {getattr(scene, need).shape[:2]}, the image {scene.image.shape[:2]}")
