"""The central types: frozen, keyword-only, and nothing in them reads a clock.

All but `Scene` cross process boundaries as canonical JSON (`storage.canonical`). A scene holds decoded pixels and lives
inside one process: workers are sent URIs and read the pixels themselves.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

FORMAT_VERSION = 1

Image = NDArray[np.uint8]
Plane = NDArray[np.float32]
Origin = Literal["synthetic", "generated", "captured"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a photograph comes from. `uri` is relative to the crawled folder, `sha256` that of the file's bytes."""

    uri: str
    licence: str
    author: str
    sha256: str
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One clean image with its annotations, decoded.

    image: uint8 (H, W, 3) sRGB. depth: float32 (H, W) *inverse* depth in [0, 1], 1 nearest, 0 infinitely far.
    segments: uint8 (H, W) labels, 0 to 254 by falling area. overlays: uint8 (h, w, 3) sRGB images (a second
    photograph, a pattern), by the name of the degradation that reads them. frames: uint8 (K, H, W, 3), the clip around
    `image`, K odd. backends: which backend made each annotation.
    """

    key: str
    image: Image
    source: Source | None = None
    depth: Plane | None = None
    segments: Image | None = None
    frames: Image | None = None
    overlays: Mapping[str, Image] = field(default_factory=dict)
    caption: str = ""
    backends: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One degradation with the parameters really used and the sha256 of each annotation or overlay it read."""

    degradation: str
    params: Mapping[str, Any]
    inputs: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that is needed, with the clean image and the inputs, to make the degraded image again.

    name: what was asked for: a degradation or a combination such as rain_haze. severity: in [0, 1]. digest: sha256 of
    the rest. used: the severity that the steps were drawn at, where calibration moved it.
    """

    name: str
    severity: float
    steps: tuple[Step, ...]
    digest: str
    used: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A clean and a degraded image (the sha256 of their RGB bytes), how they were made and where from.

    key: "<sha256[:24]>-<variant:03d>", no dots: a WebDataset key ends at the first dot. second: the photograph that a
    reflection mirrors; where the roles are swapped it is the clean side, and `source` is what is mirrored.
    """

    key: str
    clean: str
    degraded: str
    width: int
    height: int
    recipe: Recipe
    source: Source
    instruction: str
    caption: str
    origin: Origin
    second: Source | None = None
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one filter says of one image or pair. reason: a slug, empty when kept."""

    filter: str
    keep: bool
    reason: str
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkShard:
    """What a worker is sent: URIs only. `bucket` is the unit's name, `output` the stem of the files it publishes."""

    stage: str
    bucket: str
    inputs: tuple[str, ...]
    output: str
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardReport:
    """The commit of one work shard: written last, so its presence is "done". `sha256` covers all it published."""

    shard: WorkShard
    kept: int
    rejected: Mapping[str, int]
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFile:
    """One file of a dataset. counts: pairs by degradation, empty for what holds no pairs."""

    name: str
    pairs: int
    bytes: int
    sha256: str
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a dataset version consists of; written once, very last. Every file but the report is hashed in it.

    layout: what is fixed for the life of the dataset: the number of buckets. models: setting -> identity of each model
    that looked at it.
    """

    format_version: int
    dataset_version: int
    settings_digest: str
    code_version: str
    shards: tuple[PublishedFile, ...]
    files: tuple[PublishedFile, ...]
    layout: Mapping[str, int] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)


def level(severity: float) -> int:
    """Return the severity level, 1 to 5: level n is the interval (0.2 (n - 1), 0.2 n]."""
    return min(5, max(1, int(np.ceil(round(severity * 5, 9)))))
