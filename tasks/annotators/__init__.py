"""Annotators make depth and segments of a clean image: a file here is a backend; `open_annotator` loads one.

An embedded backend has `load(device, weights)`. One with a model has `Options` beside it, a pydantic model with all
defaults, `load(device, weights, options)`, and two functions that need no weights, so that they can run beside the
model: `open_prepare(weights, options)` returns what makes of an image what the network is given, and
`finish(found, image)` makes the annotation of what the network found.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from storage.records import Image

Kind = Literal["depth", "segments"]
Prepare = Callable[[Image], Any]  # Any: whatever the backend's own `predict` takes
Finish = Callable[[Any, Image], NDArray[Any]]


def as_found(found: NDArray[Any], image: Image) -> NDArray[Any]:
    """Return `found`, which is the annotation."""
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotator:
    """An opened backend: three steps, of which only `predict` needs weights.

    prepare: of a uint8 (H, W, 3) sRGB image what goes through the network; of an embedded backend the annotation.
    predict: of up to `batch` prepared images what the network finds, in order. finish: of that and the image either
    inverse depth, float32 (H, W) in [0, 1], 1 nearest, 0 infinitely far; or segments, uint8 (H, W) labels 0 to 254 by
    falling area. backend: its name with version or revision, stored with every map it makes.
    """

    kind: Kind
    backend: str
    prepare: Prepare
    predict: Callable[[Sequence[Any]], list[Any]] = list
    finish: Finish = as_found
    batch: int = 1

    def predict_all(self, prepared: Sequence[Any]) -> list[Any]:
        """Return what is found of each prepared image, `batch` of them at a time."""
        groups = (prepared[start : start + self.batch] for start in range(0, len(prepared), self.batch))
        return [found for group in groups for found in self.predict(group)]

    def annotate(self, image: Image) -> NDArray[Any]:
        """Return the annotation of `image`."""
        return self.annotate_all([image])[0]

    def annotate_all(self, images: Sequence[Image]) -> list[NDArray[Any]]:
        """Return the annotation of each image."""
        found = self.predict_all([self.prepare(image) for image in images])
        return [self.finish(*both) for both in zip(found, images, strict=True)]


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


def open_prepare(name: str, weights: str = "", options: Any = None) -> Prepare:
    """Return the first step of backend `name`, without loading its weights; raises as `open_annotator` does."""
    module = import_module(f"tasks.annotators.{check_name(name)}")
    if not needs_weights(name):
        prepare: Prepare = module.load("cpu", weights).prepare
        return prepare
    opened: Prepare = module.open_prepare(weights, options or module.Options())
    return opened


def finish_of(name: str) -> Finish:
    """Return the last step of backend `name`."""
    finish: Finish = getattr(import_module(f"tasks.annotators.{check_name(name)}"), "finish", as_found)
    return finish


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
