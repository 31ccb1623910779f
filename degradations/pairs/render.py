"""From a scene and drawn steps to a pair: the parts of all steps in physical order, one decode, one encode."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from degradations import load
from degradations.numerics.light import decode, decode_bright, encode
from degradations.numerics.strips import PIXELS, ByRows, FromCodes, Gathering, IntoCodes, Stream, Work, strips, unread
from degradations.pairs.contract import Degradation, Frame, Light, Part, Stage
from degradations.pairs.recipes import fingerprint, params_of
from storage.records import Image, Recipe, Scene


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """The two images of a pair, uint8 (H, W, 3) sRGB. `clean` is the scene's own array unless a part changed it."""

    clean: Image
    degraded: Image


@dataclass(frozen=True, slots=True, kw_only=True)
class _Progress:
    """How far a pair has come: a frame, and the work by rows that waits until a part looks at its result, or the end.

    The frame's sides are the scene's own image, uint8, until a part looks at their light. light: of that image.
    """

    frame: Frame
    waiting: tuple[Work, ...]
    light: Callable[[], Light]


def replay(clean: Image, recipe: Recipe, inputs: Mapping[str, NDArray[Any]]) -> Rendered:
    """Return the pair that `recipe` describes, byte for byte.

    clean: the scene's image, uint8 (H, W, 3). inputs: what the steps read: "depth" float32, "segments" uint8, "frames",
    and "overlay-<degradation>" uint8; of others nothing is read. Raises ValueError if a parameter or an input is
    missing, or is not the one that the recipe names.
    """
    inputs = _named(recipe, inputs)
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


def _named(recipe: Recipe, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return of `inputs` those that `recipe` names, by name and sha256: all others would make other bytes."""
    named = {name: sha256 for step in recipe.steps for name, sha256 in step.inputs.items()}
    for name, sha256 in named.items():
        if name not in inputs:
            raise ValueError(f"{recipe.name} was made with {name}, which is absent")
        if fingerprint(inputs[name]) != sha256:
            raise ValueError(f"{recipe.name} was made with another {name}")
    return {name: inputs[name] for name in named}


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
    image = np.ascontiguousarray(scene.image)
    frame = Frame(degraded=image, clean=image)
    progress, state = _Progress(frame=frame, waiting=(), light=cache(lambda: decode(image))), Stage.EXPOSURE
    for part, params in parts:
        if part.stage > state:
            state = Stage.CODEC if part.stage is Stage.CODEC else Stage.ISP
            progress = _encoded(progress) if state is Stage.CODEC else _exposed(progress)
        progress = _applied(progress, part, params, scene)
    frame = _encoded(progress).frame
    is_kept = frame.clean is image or frame.clean is progress.light()
    degraded = np.array(image) if frame.degraded is image else frame.degraded
    return Rendered(clean=scene.image if is_kept else encode(frame.clean), degraded=degraded)


def _applied(progress: _Progress, part: Part, params: Any, scene: Scene) -> _Progress:
    if part.stage is Stage.CODEC:
        return replace(progress, frame=part.apply(progress.frame, params, scene))
    if isinstance(part.apply, Gathering):
        return progress if part.apply.idle(params) else _gathered(progress, part.apply, params, scene)
    if not isinstance(part.apply, ByRows):
        progress = _settled(progress, clean=True)
        return replace(progress, frame=part.apply(progress.frame, params, scene))
    if part.apply.idle(params):
        return progress
    if part.apply.looks != "nothing" and not _is_untouched(progress):
        progress = _settled(progress, clean=part.apply.looks == "both")
    done = part.apply.prepare(progress.frame, params, scene)
    if isinstance(done, Frame):
        return replace(progress, frame=done)
    return replace(progress, waiting=(*progress.waiting, done))


def _gathered(progress: _Progress, part: Gathering, params: Any, scene: Scene) -> _Progress:
    """Return `progress` with what waits worked into `part`, whose work waits in its place."""
    source = progress.frame.degraded
    light = _worked(progress.waiting, source)
    match progress.waiting:
        case () if source.dtype == np.uint8:
            stream = Stream(source.shape, light, codes=source)
        case (FromCodes(gains=gains),) if source.dtype == np.uint8:
            stream = Stream(source.shape, light, codes=source, gains=gains)
        case _:
            stream = Stream(source.shape, light)
    work = part.gather(stream, params, scene)
    return replace(progress, frame=replace(progress.frame, degraded=unread(source.shape)), waiting=(work,))


def _settled(progress: _Progress, *, clean: bool) -> _Progress:
    """Return `progress` with nothing waiting and the degraded side as light; the clean side too if asked for."""
    degraded, kept = progress.frame.degraded, progress.frame.clean
    if progress.waiting:
        source, degraded = degraded, np.empty(degraded.shape, np.float32)
        for _ in _worked(progress.waiting, source, degraded):
            pass
    elif degraded.dtype == np.uint8:
        degraded = progress.light()
    if clean and kept.dtype == np.uint8:
        kept = progress.light()
    return replace(progress, frame=Frame(degraded=degraded, clean=kept), waiting=())


def _is_untouched(progress: _Progress) -> bool:
    return progress.frame.degraded is progress.frame.clean and not progress.waiting


def _exposed(progress: _Progress) -> _Progress:
    """Return `progress` with its light clipped to [0, 1]."""
    if _is_untouched(progress):
        return progress
    return replace(progress, waiting=(*progress.waiting, _clip))


def _clip(light: Light, rows: slice, out: Light) -> None:
    del rows
    np.clip(light, 0, 1, out=out)


def _encoded(progress: _Progress) -> _Progress:
    """Return `progress` with nothing waiting and the degraded side as a uint8 sRGB image."""
    source = progress.frame.degraded
    if source.dtype == np.uint8 and not progress.waiting:
        return progress
    image = np.empty(source.shape, np.uint8)
    match progress.waiting:
        case (IntoCodes() as work,):
            for _, _, rows in strips(source.shape, pixels=2 * PIXELS):  # no light beside it in the cache
                work.end(rows, image[rows])
        case waiting:
            for rows, light in _worked(waiting, source):
                encode(light, out=image[rows])
    return replace(progress, frame=replace(progress.frame, degraded=image), waiting=())


def _worked(works: tuple[Work, ...], source: NDArray[Any], out: Light | None = None) -> Iterator[tuple[slice, Light]]:
    """Yield strip by strip what becomes of `source`, light or a uint8 image, by `works`.

    out: of the shape of `source`, to which all of it is written; without it a strip is gone with the next one.
    """
    if source.dtype == np.uint8:
        match works:
            case (FromCodes(gains=gains), *others):
                works = (partial(_decode, gains=gains), *others)
            case _:
                works = (_decode, *works)
    _, _, tallest = next(strips(source.shape))
    room = np.empty((2, tallest.stop, *source.shape[1:]), np.float32)  # works read one half and write the other
    for _, _, rows in strips(source.shape):
        light = source[rows]
        for turn, work in enumerate(works):
            written = room[turn % 2, : len(light)]
            if out is not None and turn == len(works) - 1:
                written = out[rows]
            work(light, rows, written)
            light = written
        yield rows, light


def _decode(codes: NDArray[Any], rows: slice, out: Light, *, gains: Light | None = None) -> None:
    del rows
    if gains is None:
        decode(codes, out=out)
    else:
        decode_bright(codes, gains, out)


def _check_needs(degradation: Degradation, name: str, scene: Scene) -> None:
    for need in sorted(degradation.needs):
        if getattr(scene, need) is None:
            raise ValueError(f"{name} needs the scene's {need}, which is absent")
        if getattr(scene, need).shape[:2] != scene.image.shape[:2]:
            raise ValueError(f"{need} is {getattr(scene, need).shape[:2]}, the image {scene.image.shape[:2]}")
