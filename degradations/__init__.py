"""Degradations: every other file of this folder is one; `names` lists them, `load` imports one.

What they are made of lies in folders. `pairs`: recipes, severity, rendering, calibration. `numerics`: light and codes,
filters, random numbers, regions. `optics`, `pane`, `camera`, `weather`, `coding`: parts of the physics, each used by
one degradation or several. `kernels`: compiled inner loops. `batched`: the same on tensors.
"""

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from degradations.pairs.contract import Degradation


@cache
def names() -> tuple[str, ...]:
    """Return the names of all degradations, sorted: the files of this folder."""
    return tuple(sorted(file.stem for file in Path(__file__).parent.glob("[!_]*.py")))


def load(name: str) -> "Degradation":
    """Return the degradation called `name`; raises ValueError that lists the names if there is none."""
    if name not in names():
        raise ValueError(f"no degradation is called {name!r}; there are {', '.join(names())}")
    degradation: Degradation = import_module(f"degradations.{name}").DEGRADATION
    return degradation
