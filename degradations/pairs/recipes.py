"""Draw a recipe: the only way from settings and a seed to parameters. After it, nothing is random."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from degradations import load
from degradations.numerics.random import generator
from degradations.pairs.contract import Degradation, Options
from degradations.pairs.coupled import members_of, together
from storage.canonical import digest, plain
from storage.records import Recipe, Scene, Step


def draw(
    name: str, severity: float, scene: Scene, *, seed: int, options: Mapping[str, Options] | None = None
) -> Recipe:
    """Return the recipe of degradation or combination `name` at `severity` in [0, 1] for `scene`.

    options: by degradation; those not named use their defaults. The steps of a combination share the harm: each is
    drawn at severity / sqrt(n). Raises ValueError for a severity outside [0, 1] or an unknown name.
    """
    if not 0 <= severity <= 1:
        raise ValueError(f"severity must be in [0, 1], got {severity}")
    members = members_of(name)
    share = severity / len(members) ** 0.5
    steps = tuple(
        _draw_step(member, share, scene, generator(seed, index), _options_of(member, options or {}, demanded))
        for index, (member, demanded) in enumerate(members)
    )
    return recipe_of(name, severity, together(steps))


def recipe_of(name: str, severity: float, steps: tuple[Step, ...], *, used: float | None = None) -> Recipe:
    """Return the recipe of these steps, with its digest. used: the severity they were drawn at, if it is another."""
    content = {"name": name, "severity": severity, "steps": steps} | ({} if used is None else {"used": used})
    return Recipe(name=name, severity=severity, steps=steps, digest=digest(content), used=used)


def params_of(degradation: Degradation, step: Step) -> Any:
    """Return the params record that `step` stores; raises ValueError naming what is missing, unknown or misfits."""
    expected = {field.name for field in dataclasses.fields(degradation.params)}
    if set(step.params) != expected:
        odd = sorted(set(step.params) ^ expected)
        raise ValueError(f"params of {step.degradation} do not fit this version: {', '.join(odd)}")
    return TypeAdapter(degradation.params).validate_python(dict(step.params))


def fingerprint(array: NDArray[Any]) -> str:
    """Return the sha256 of an array's type, shape and values, by which a recipe names what it read."""
    header = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.sha256(header + np.ascontiguousarray(array).tobytes()).hexdigest()


def inputs_of(degradation: Degradation, name: str, scene: Scene) -> dict[str, NDArray[Any]]:
    """Return the annotations and overlay that `degradation` reads of `scene`, by name, where present."""
    found = {read: getattr(scene, read) for read in sorted(degradation.needs | degradation.reads) if read != "overlay"}
    inputs = {read: array for read, array in found.items() if array is not None}
    if name in scene.overlays:
        inputs[f"overlay-{name}"] = scene.overlays[name]
    return inputs


def _options_of(name: str, options: Mapping[str, Options], demanded: Mapping[str, object]) -> Options:
    return (options.get(name) or load(name).options()).model_copy(update=dict(demanded))


def _draw_step(name: str, severity: float, scene: Scene, rng: np.random.Generator, options: Options) -> Step:
    degradation = load(name)
    params = degradation.sample(rng, severity, scene, options)
    inputs = {read: fingerprint(array) for read, array in inputs_of(degradation, name, scene).items()}
    return Step(degradation=name, params=plain(params), inputs=inputs)
