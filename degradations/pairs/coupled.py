"""Coupled degradations: FoundIR's thirteen combinations by name (arXiv 2412.01427, test set), and any list of steps.

The order of the names does not matter: parts run in physical order, and of one stage in alphabetical order.

Two things hold between steps. In low light blur does not expand what is clipped beyond white: at dusk a clipped sky is
as grey as the rest of it, and its pieces would shine as white flecks; the lamps of a dark scene are those that
`low_light` finds. And a dark scene has noise all over: light is missing everywhere, and noise falls as its root only
(Foi et al. 2008, doi:10.1109/TIP.2008.2001399).
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import degradations
from storage.records import Step

NAMED: dict[str, tuple[str, Mapping[str, object]]] = {
    "raindrop": ("rain", {"mode": "raindrop"}),  # a class of its own in FoundIR
}
"""Names that stand for a degradation with options of it."""

COUPLED: dict[str, tuple[str, ...]] = {
    "blur_noise": ("blur", "noise"),
    "blur_compression": ("blur", "compression"),
    "noise_compression": ("noise", "compression"),
    "blur_noise_compression": ("blur", "noise", "compression"),
    "rain_haze": ("haze", "rain"),  # of one stage: the streaks that are seen fall before most of the haze
    "low_light_haze": ("low_light", "haze"),
    "low_light_rain": ("low_light", "rain"),
    "low_light_blur": ("low_light", "blur"),
    "low_light_noise": ("low_light", "noise"),
    "low_light_compression": ("low_light", "compression"),
    "low_light_blur_noise": ("low_light", "blur", "noise"),
    "low_light_blur_compression": ("low_light", "blur", "compression"),
    "low_light_noise_compression": ("low_light", "noise", "compression"),
}

DEMANDED: dict[tuple[str, str], Mapping[str, object]] = {("low_light", "noise"): {"segment_aware": 0.0}}
"""Options of the second of two degradations that are of one combination with a name."""


def steps_of(name: str) -> tuple[str, ...]:
    """Return the degradations that `name` stands for: itself, a combination, or a list of both joined by plus signs."""
    return tuple(step for step, _ in members_of(name))


def members_of(name: str) -> tuple[tuple[str, Mapping[str, object]], ...]:
    """Return the degradations that `name` stands for, as `steps_of`, each with the options that its name demands."""
    if name in COUPLED:
        first = COUPLED[name][0]
        return tuple((member, DEMANDED.get((first, member), {})) for member in COUPLED[name])
    if "+" not in name:
        return (NAMED.get(name, (name, {})),)
    return tuple(sorted((found for part in name.split("+") for found in members_of(part)), key=lambda found: found[0]))


def check_name(name: str) -> None:
    """Raise ValueError, which says what is nearest, unless `name` is a degradation, a combination or a list of them."""
    for step in steps_of(name):
        if step not in degradations.names():
            there = [*degradations.names(), *NAMED, *COUPLED]
            close = difflib.get_close_matches(step, there, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(there)}"
            raise ValueError(f"{step!r} is neither a degradation nor a combination; {hint}")


def together(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return `steps` of one pair, of which blur leaves clipped light at white if the scene is dark."""
    if all(step.degradation != "low_light" for step in steps):
        return tuple(steps)
    return tuple(
        replace(step, params={**step.params, "highlights": 0.0}) if step.degradation == "blur" else step
        for step in steps
    )
