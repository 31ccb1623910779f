"""What a degradation is: parameters, one function that draws them, and parts that apply them in physical order."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from storage.records import Scene

Light = NDArray[np.float32]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Stage(IntEnum):
    """Where in the life of a photograph a part acts; parts of all steps run in this order.

    HIGHLIGHTS to EXPOSURE receive linear, unclipped light (1 is the clean image's white). `render` clips to [0, 1]
    after EXPOSURE; SENSOR and ISP receive linear light and may leave [0, 1], ISP is clipped again. CODEC receives the
    encoded uint8 sRGB frame.
    """

    HIGHLIGHTS = 0
    ILLUMINATION = 1
    MEDIA = 2
    GLASS = 3
    SCREEN = 4
    OPTICS = 5
    EXPOSURE = 6
    SENSOR = 7
    ISP = 8
    CODEC = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The picture on its way through the parts.

    degraded: float32 (H, W, 3) linear light, unclipped; uint8 (H, W, 3) sRGB once a CODEC part sees it.
    clean: float32 (H, W, 3) linear light of the clean side. Most parts leave it alone; a lamp that a flare inserts
    stands in both, glass dims both.
    """

    degraded: NDArray[Any]
    clean: NDArray[Any]


class Apply(Protocol):
    """A part: a pure function of the frame, the drawn params and the scene; its arguments stay untouched.

    The light it returns is an argument's or of its own making, never one that it keeps: `render` goes on in its place.
    """

    def __call__(self, frame: Frame, params: Any, scene: Scene, /) -> Frame:
        """Return what the part makes of `frame`, which it leaves as it is."""
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that happens to the light, and when."""

    stage: Stage
    apply: Apply


class Options(BaseModel, frozen=True, extra="forbid"):
    """What a user may set for a degradation in TOML; the defaults are published or measured values."""

    def check(self) -> None:
        """Raise ValueError, one sentence that begins with the option, if a file that it names cannot be used."""


def any_weight(*weights: float) -> None:
    """Raise ValueError if all `weights`, of a choice, are 0."""
    if not any(weights):
        raise ValueError("every weight is 0: nothing could be drawn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Degradation:
    """A degradation.

    params: frozen, slots, keyword-only dataclass of JSON values (int, float, bool, str, tuples of them).
    sample(rng, severity, scene, options): the only place that draws; severity in [0, 1], 0 gives params that change no
    byte. parts: applied by stage. needs: annotations that must be there ("depth", "segments"). reads: what is used when
    it is there ("depth", "segments", "frames", "overlay"). overlay: what kind of overlay the builder hands in.
    backdrop: code of the grey, 0 to 255, on which a pattern's transparent parts are laid: what changes least.
    local: whether severity is told by the affected area too. keeps_geometry: False where motion or defocus spreads
    edges, so that alignment is judged with tolerance.
    """

    params: type
    sample: Callable[[np.random.Generator, float, Scene, Any], Any]
    parts: tuple[Part, ...]
    needs: frozenset[str] = frozenset()
    reads: frozenset[str] = frozenset()
    overlay: Literal["none", "photograph", "pattern"] = "none"
    backdrop: int = 0
    options: type[Options] = Options
    local: bool = False
    keeps_geometry: bool = True
