"""Annotators make depth and segments of a clean image: a file here is a backend; `open_annotator` loads one."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from storage.records import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotator:
    """An opened backend.

    annotate: of a uint8 (H, W, 3) sRGB image, either inverse depth, float32 (H, W) in [0, 1], 1 nearest, 0 infinitely
    far; or segments, uint8 (H, W) labels 0 to 254 by falling area. backend: its name with version or revision, stored
    with every map it makes.
    """

    kind: Literal["depth", "segments"]
    backend: str
    annotate: Callable[[Image], NDArray[Any]]


def names() -> tuple[str, ...]:
    """Return the names of all backends, sorted: the files of this folder without a leading underscore."""
    return tuple(sorted(file.stem for file in Path(__file__).parent.glob("[!_]*.py")))


def check_name(name: str) -> str:
    """Return `name`; raises ValueError that lists the names if no backend is called so."""
    if name not in names():
        raise ValueError(f"no annotator is called {name!r}; there are {', '.join(names())}")
    return name


def libraries(name: str) -> tuple[str, ...]:
    """Return the modules beyond the core that backend `name` imports when it loads: LIBRARIES of its file, if any."""
    found: tuple[str, ...] = getattr(import_module(f"tasks.annotators.{check_name(name)}"), "LIBRARIES", ())
    return found


def open_annotator(name: str, device: str = "cpu", weights: str = "") -> Annotator:
    """Load backend `name` on `device` ("cpu", "cuda", "cuda:1").

    weights: of a model backend, a local folder or `hub-id@revision`; the embedded ones need none. Raises ValueError for
    an unknown name.
    """
    annotator: Annotator = import_module(f"tasks.annotators.{check_name(name)}").load(device, weights)
    return annotator
