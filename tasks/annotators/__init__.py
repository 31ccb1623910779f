"""Annotators make depth and segments of a clean image: a file here is a backend; `open_annotator` loads one.

An embedded backend has `load(device, weights)`. One with a model has `Options` beside it, a pydantic model with all
defaults, and `load(device, weights, options)`.
"""

from collections.abc import Callable, Sequence
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
    with every map it makes. annotate_batch: where a model gains by it, the same of up to `batch` images at a time.
    """

    kind: Literal["depth", "segments"]
    backend: str
    annotate: Callable[[Image], NDArray[Any]]
    annotate_batch: Callable[[Sequence[Image]], list[NDArray[Any]]] | None = None
    batch: int = 1

    def annotate_all(self, images: Sequence[Image]) -> list[NDArray[Any]]:
        """Return the annotation of each image, `batch` of them at a time."""
        if self.annotate_batch is None:
            return [self.annotate(image) for image in images]
        groups = (images[start : start + self.batch] for start in range(0, len(images), self.batch))
        return [annotation for group in groups for annotation in self.annotate_batch(group)]


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


def needs_weights(name: str) -> bool:
    """Return whether backend `name` has a model, whose weights and options the settings name."""
    return hasattr(import_module(f"tasks.annotators.{check_name(name)}"), "Options")


def open_annotator(name: str, device: str = "cpu", weights: str = "", options: Any = None) -> Annotator:
    """Load backend `name` on `device` ("cpu", "cuda", "cuda:1").

    weights: of a model backend, a local folder or file or `hub-id@revision`; the embedded ones need none. options: of a
    model backend, its `Options`; None takes the defaults. Raises ValueError for an unknown name, SettingsError and
    ShardError when the weights are not there or not those of the model.
    """
    module = import_module(f"tasks.annotators.{check_name(name)}")
    extra = (options or module.Options(),) if needs_weights(name) else ()
    annotator: Annotator = module.load(device, weights, *extra)
    return annotator
