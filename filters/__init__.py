"""Filters: every file here without a leading underscore is one; `names` lists them, `load` imports one."""

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filters._contract import Filter


@cache
def names() -> tuple[str, ...]:
    """Return the names of all filters, sorted: the files of this folder."""
    return tuple(sorted(file.stem for file in Path(__file__).parent.glob("[!_]*.py")))


def load(name: str) -> "type[Filter]":
    """Return the filter class called `name`; raises ValueError that lists the names if there is none."""
    if name not in names():
        raise ValueError(f"no filter is called {name!r}; there are {', '.join(names())}")
    found: type[Filter] = import_module(f"filters.{name}").FILTER
    return found
