"""Coupled degradations: FoundIR's thirteen combinations by name (arXiv 2412.01427, test set), and any list of steps.

The order of the names does not matter: parts run in physical order, and of one stage in alphabetical order.
"""

from collections.abc import Mapping

NAMED: dict[str, tuple[str, Mapping[str, str]]] = {
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


def steps_of(name: str) -> tuple[str, ...]:
    """Return the degradations that `name` stands for: itself, a combination, or a list joined by plus signs, sorted."""
    return tuple(step for step, _ in members_of(name))


def members_of(name: str) -> tuple[tuple[str, Mapping[str, str]], ...]:
    """Return the degradations that `name` stands for, as `steps_of`, each with the options that its name demands."""
    found = [NAMED.get(member, (member, {})) for member in COUPLED.get(name) or name.split("+")]
    return tuple(found if name in COUPLED else sorted(found, key=lambda member: member[0]))
