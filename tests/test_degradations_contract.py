"""The laws that every degradation keeps, whatever it is: a new file in the folder is held to them by being there."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import is_dataclass, replace
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import pytest

from degradations import load, names
from degradations.noise import NoiseOptions
from degradations.pairs.contract import Stage
from degradations.pairs.coupled import COUPLED
from degradations.pairs.recipes import draw, inputs_of, params_of
from degradations.pairs.render import Rendered, render, render_params, replay
from storage.canonical import decode, encode, plain
from storage.records import Recipe, Scene, Step
from tests.scenes import (
    PHOTOGRAPHS,
    annotated,
    bare,
    degraded,
    fitted,
    numbers,
    psnr,
    read,
    sampled,
    scene,
    shared_photographs,
)
from tests.variants import ALL, ALL_VARIANTS, walk

ALL_AND_COUPLED = pytest.mark.parametrize("name", [*names(), *COUPLED])


def pair(name: str, severity: float, target: Scene, seed: int = 0, **options: Any) -> Rendered:
    return render_params(target, [(load(name), sampled(name, severity, target, seed, **options))])


def harm(rendered: Rendered) -> float:
    """RMS difference in codes."""
    return float(np.sqrt(np.square(rendered.clean.astype(np.float32) - rendered.degraded).mean()))


# Form.


@ALL_VARIANTS
def test_a_pair_has_the_size_and_type_of_its_photograph(name: str, options: dict[str, Any]) -> None:
    target = scene("rocket", 96)
    rendered = pair(name, 0.7, target, 1, **options)
    for image in (rendered.clean, rendered.degraded):
        assert image.dtype == np.uint8
        assert image.shape == target.image.shape
        assert image.flags.c_contiguous


@ALL_VARIANTS
@pytest.mark.parametrize("seed", range(3))
def test_parts_leave_their_arguments_and_hand_on_finite_light(name: str, options: dict[str, Any], seed: int) -> None:
    target = scene(PHOTOGRAPHS[seed], 96, frames=seed == 2)  # read-only arrays throughout
    shape = target.image.shape
    for stage, frame in walk(target, sampled(name, 0.9, target, seed, **options), name):
        assert frame.degraded.shape == frame.clean.shape == shape
        assert frame.degraded.dtype == (np.uint8 if stage is Stage.CODEC else np.float32)
        assert np.isfinite(frame.degraded).all()
        assert np.isfinite(frame.clean).all()
        assert frame.clean.min() >= 0


@ALL
def test_the_needs_of_a_degradation_are_told_when_they_are_absent(name: str) -> None:
    target = scene(short=64)
    recipe = draw(name, 0.5, target, seed=1)
    for need in load(name).needs:
        with pytest.raises(ValueError, match=need):
            render(replace(target, **{need: None}), recipe)


@ALL
@pytest.mark.parametrize("severity", [-0.1, 1.01, float("nan")])
def test_a_severity_outside_0_to_1_is_refused(name: str, severity: float) -> None:
    with pytest.raises(ValueError, match="severity must be in"):
        draw(name, severity, scene(short=32), seed=0)


# Recipes.


@ALL_VARIANTS
@pytest.mark.parametrize("seed", range(3))
def test_params_survive_the_json_of_a_recipe(name: str, options: dict[str, Any], seed: int) -> None:
    target = scene(PHOTOGRAPHS[seed], 96, frames=seed == 2)
    params = sampled(name, 0.85, target, seed, **options)
    step = Step(degradation=name, params=plain(params), inputs={})
    stored = encode(step)
    again = params_of(load(name), decode(Step, stored))
    assert again == params
    assert encode(replace(step, params=plain(again))) == stored
    once, twice = (render_params(target, [(load(name), drawn)]).degraded for drawn in (params, again))
    assert np.array_equal(once, twice)


@ALL_AND_COUPLED
def test_a_stored_recipe_and_the_inputs_it_names_give_the_same_pair(name: str) -> None:
    target = scene("chelsea", 96, frames="blur" in name)
    recipe = draw(name, 0.8, target, seed=3)
    stored = decode(Recipe, encode(recipe))
    named = {read for step in stored.steps for read in step.inputs}
    found = {key: array for step in stored.steps for key, array in _inputs(step, target).items()}
    assert set(found) == named
    first, again = render(target, recipe), replay(target.image, stored, found)
    assert np.array_equal(first.degraded, again.degraded)
    assert np.array_equal(first.clean, again.clean)


@ALL
def test_a_pair_is_made_again_of_the_inputs_that_its_recipe_names_or_not_at_all(name: str) -> None:
    target = scene("chelsea", 96)
    recipe = draw(name, 0.8, target, seed=3)
    found = _inputs(recipe.steps[0], target)
    for kind, array in found.items():
        with pytest.raises(ValueError, match=f"made with {kind}, which is absent"):
            replay(target.image, recipe, {other: found[other] for other in found if other != kind})
        with pytest.raises(ValueError, match=f"made with another {kind}"):
            replay(target.image, recipe, {**found, kind: np.ascontiguousarray(array[::-1])})


def test_an_input_that_a_recipe_does_not_name_is_not_read() -> None:
    target = scene("chelsea", 96)
    toned = replace(target, segments=None)
    options = {"noise": NoiseOptions(segment_aware=1)}
    recipe = draw("noise", 0.8, toned, seed=3, options=options)
    again = replay(target.image, recipe, {"segments": target.segments})
    assert np.array_equal(again.degraded, render(toned, recipe).degraded)


def _inputs(step: Step, target: Scene) -> dict[str, Any]:
    return inputs_of(load(step.degradation), step.degradation, target)


@ALL
def test_the_same_seed_draws_the_same_and_another_draws_another(name: str) -> None:
    target = scene(short=64)
    assert sampled(name, 0.6, target, 5) == sampled(name, 0.6, target, 5)
    assert len({encode(sampled(name, 0.6, target, seed)) for seed in range(4)}) == 4


# Purity.


@pytest.fixture
def threads() -> Iterator[None]:
    before = cv2.getNumThreads()
    yield
    cv2.setNumThreads(before)


@ALL_VARIANTS
@pytest.mark.usefixtures("threads")
def test_bytes_depend_neither_on_threads_nor_on_what_ran_before(name: str, options: dict[str, Any]) -> None:
    target = scene("coffee", 256)
    params = sampled(name, 0.9, target, 2, **options)
    cv2.setNumThreads(1)
    first = render_params(target, [(load(name), params)]).degraded
    degraded("low_light", 0.7, scene(short=64), 9)
    np.random.rand(7)  # noqa: NPY002 - the state that nothing may read
    cv2.setNumThreads(4)
    assert np.array_equal(render_params(target, [(load(name), params)]).degraded, first)


HASHES = """
import hashlib
from degradations import names
from tests.scenes import degraded, scene
for name in reversed(names()):
    print(name, hashlib.sha256(degraded(name, 0.8, scene("rocket", 96), 4).tobytes()).hexdigest())
"""


def test_another_process_makes_the_same_bytes() -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "17", "PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run([sys.executable, "-c", HASHES], check=True, capture_output=True, text=True, env=environment)
    there = dict(line.split() for line in told.stdout.splitlines())
    target = scene("rocket", 96)
    here = {name: hashlib.sha256(degraded(name, 0.8, target, 4).tobytes()).hexdigest() for name in names()}
    assert there == here


# Severity.


@ALL_VARIANTS
@pytest.mark.parametrize("photograph", PHOTOGRAPHS)
def test_severity_zero_changes_no_byte(name: str, options: dict[str, Any], photograph: str) -> None:
    full = scene(photograph, 96)
    for seed, target in enumerate([full, bare(full, load(name)), scene(photograph, 96, frames=True), full, full]):
        rendered = pair(name, 0.0, target, seed, **options)
        assert np.array_equal(rendered.degraded, target.image)
        assert np.array_equal(rendered.clean, target.image)


@ALL_AND_COUPLED
def test_severity_zero_of_a_recipe_changes_no_byte(name: str) -> None:
    target = scene("coffee", 96)
    rendered = render(target, draw(name, 0.0, target, seed=1))
    assert np.array_equal(rendered.degraded, target.image)


def assert_harm_grows(rendered: list[Rendered]) -> None:
    """PSNR falls from level to level; 0.02 dB is one code in a hundred pixels, the rounding of small pictures.

    Level 1 does something, if only a little where what is out of focus has no texture; `strength` drops such pairs.
    """
    levels = [psnr(each.clean, each.degraded) for each in rendered]
    assert all(lower < higher + 0.02 for higher, lower in pairwise(levels)), levels
    assert levels[0] < 75, "level 1 does nothing"
    assert levels[-1] < levels[0] - 1, "five levels that harm alike"


@ALL_VARIANTS
@pytest.mark.parametrize(("photograph", "seed"), [("astronaut", 0), ("coffee", 1), ("chelsea", 2), ("rocket", 3)])
def test_harm_grows_from_level_to_level(name: str, options: dict[str, Any], photograph: str, seed: int) -> None:
    target = scene(photograph, 160)
    assert_harm_grows([pair(name, level / 5, target, seed, **options) for level in range(1, 6)])


@pytest.mark.parametrize("name", list(COUPLED))
def test_harm_of_a_combination_grows_from_level_to_level(name: str) -> None:
    target = scene("astronaut", 160)
    assert_harm_grows([render(target, draw(name, level / 5, target, seed=5)) for level in range(1, 6)])


@pytest.mark.slow
@ALL_VARIANTS
@pytest.mark.parametrize("photograph", PHOTOGRAPHS)
def test_harm_grows_for_many_seeds(name: str, options: dict[str, Any], photograph: str) -> None:
    full = scene(photograph, 192)
    for seed in range(30):
        target = bare(full, load(name)) if seed % 2 else full
        assert_harm_grows([pair(name, level / 5, target, seed, **options) for level in range(1, 6)])


@ALL_VARIANTS
def test_harm_has_no_steps_along_severity(name: str, options: dict[str, Any]) -> None:
    """Between two near severities, at the borders of levels too, the harm moves by less than four codes RMS."""
    for seed in range(3):
        target = scene(PHOTOGRAPHS[seed], 128)
        for severity in (0.05, 0.2, 0.4, 0.6, 0.8, 0.97):
            below, above = (harm(pair(name, at, target, seed, **options)) for at in (severity - 1e-3, severity + 1e-3))
            assert abs(above - below) < 4


@ALL_VARIANTS
def test_harm_fades_out_towards_zero(name: str, options: dict[str, Any]) -> None:
    """Less than nine codes RMS at 0.002: what is left is a codec at its best, or a veil over black."""
    for seed in range(3):
        target = scene(PHOTOGRAPHS[seed], 128)
        assert harm(pair(name, 0.002, target, seed, **options)) < 9


@ALL_VARIANTS
def test_nuisance_does_not_depend_on_severity(name: str, options: dict[str, Any]) -> None:
    """Modes, choices and the seeds of fields are those of the seed, at any severity."""
    for seed in range(8):
        target = scene(PHOTOGRAPHS[seed % 4], 96, frames=seed == 7)
        weak, strong = (dict(numbers(sampled(name, at, target, seed, **options))) for at in (0.3, 0.9))
        assert set(weak) == set(strong)
        for field in weak:
            _assert_same_nuisance(field, weak[field], strong[field])


def _assert_same_nuisance(field: str, weak: Any, strong: Any) -> None:
    if isinstance(weak, tuple) and isinstance(strong, tuple):  # a list may get longer
        for one, other in zip(weak, strong, strict=False):
            _assert_same_nuisance(field, one, other)
    elif is_dataclass(weak):
        for inner, value in numbers(weak):
            _assert_same_nuisance(inner, value, dict(numbers(strong))[inner])
    elif field == "codec_version":  # which codecs the generations use, and there may be more of them
        assert set(weak.split(", ")) <= set(strong.split(", "))
    elif isinstance(weak, (bool, str)) or weak is None or field.endswith("seed"):
        assert weak == strong, field


@pytest.mark.slow
@ALL
def test_the_laws_of_severity_hold_on_the_shared_photographs(name: str) -> None:
    for seed, file in enumerate(shared_photographs(12)):
        target = annotated(fitted(read(file), 256))
        assert np.array_equal(degraded(name, 0.0, target, seed), target.image)
        assert_harm_grows([pair(name, level / 5, target, seed) for level in range(1, 6)])
