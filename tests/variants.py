"""What the laws of degradations are held to: every name, and every form that options turn it into."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from degradations import load, names
from degradations.numerics.light import decode as light_of
from degradations.pairs.contract import Frame, Stage
from storage.records import Scene
from tests.scenes import frozen

ALL = pytest.mark.parametrize("name", names())

# What options turn a degradation into is held to the same laws.
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in names()),
    ("blur", {"preset": "realrestorer"}),
    ("compression", {"preset": "web"}),
    ("compression", {"preset": "messenger"}),
    ("haze", {"preset": "realrestorer"}),
    *(("low_light", {"mode": mode}) for mode in ("physical", "paper", "statistics", "model")),
    ("moire", {"preset": "mib"}),
    ("noise", {"preset": "realrestorer"}),
    ("rain", {"mode": "raindrop"}),
    ("rain", {"mode": "night"}),
    ("reflection", {"weight": "network_like"}),
    ("reflection", {"swap_share": 1.0, "auto_exposure": False}),
]
ALL_VARIANTS = pytest.mark.parametrize(
    ("name", "options"),
    VARIANTS,
    ids=["-".join([name, *(str(value) for value in options.values())]) for name, options in VARIANTS],
)


def walk(target: Scene, params: Any, name: str) -> Iterator[tuple[Stage, Frame]]:
    """Yield the stage of each part of `name` and the frame it returns, its input read-only."""
    light = frozen(light_of(target.image))
    frame = Frame(degraded=light, clean=light)
    for part in sorted(load(name).parts, key=lambda part: part.stage):
        if part.stage is Stage.CODEC and frame.degraded.dtype != np.uint8:
            frame = replace(frame, degraded=frozen(np.clip(np.rint(255 * frame.degraded), 0, 255).astype(np.uint8)))
        elif part.stage > Stage.EXPOSURE and part.stage < Stage.CODEC:
            frame = replace(frame, degraded=frozen(np.clip(frame.degraded, 0, 1)))
        before = frame.degraded.copy(), frame.clean.copy()
        result = part.apply(frame, params, target)
        assert np.array_equal(frame.degraded, before[0])
        assert np.array_equal(frame.clean, before[1])
        yield part.stage, result
        frame = Frame(degraded=frozen(result.degraded), clean=frozen(result.clean))
