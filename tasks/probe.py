"""One photograph through every stage, in memory and timed: what `pairforge plan` extrapolates from."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from degradations.pairs.coupled import steps_of
from filters._contract import Filter, Sample, scores_in
from storage import samples
from storage.canonical import encode
from storage.errors import SourceError
from storage.records import Image, Pair, Scene, Source
from tasks import annotate, clean, degrade, mixture
from tasks.image_statistics import statistics
from tasks.judge import first_reason, judge

Subject = Literal["image", "pair"]

_BLOCK = 512  # of a tar: one for a member's header, its content in whole ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Those of every stage that a photograph passes."""

    clean: clean.Options
    annotate: annotate.Options
    mixture: mixture.Options
    degrade: degrade.Options
    image_filters: Mapping[str, Filter]
    pair_filters: Mapping[str, Filter]
    device: str = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbedPair:
    """A pair that was tried. reason: empty if it would be kept. seconds: of one core. published, work: bytes."""

    name: str
    reason: str
    seconds: float
    published: int = 0
    work: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A photograph that was tried; seconds and work bytes are its own, those of its pairs stand with them."""

    reason: str
    seconds: float
    work: int = 0
    image: Image | None = None
    pairs: tuple[ProbedPair, ...] = ()


class Prober:
    """Annotators and filters opened once; probes photographs until it is dropped."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._depth = options.annotate.open("depth", options.device)
        self._segments = options.annotate.open("segments", options.device)
        # On a GPU the time of this process is not that of the work.
        self._clock = time.process_time if options.device == "cpu" else time.perf_counter
        self._filters: dict[Subject, Mapping[str, Filter]] = {
            "image": options.image_filters,
            "pair": options.pair_filters,
        }
        self._measures = {
            subject: {name: item.measuring().open(options.device) for name, item in filters.items()}
            for subject, filters in self._filters.items()
        }

    def probe(self, path: Path, *, pairs: int, second: Image | None = None) -> Probe:
        """Try the photograph at `path` and `pairs` of its pairs, none in a collection. second: what is mirrored."""
        began = self._clock()
        try:
            data = path.read_bytes()
            image = clean.photograph(data, self._options.clean).image
        except (SourceError, OSError) as error:
            reason = error.reason if isinstance(error, SourceError) else "unreadable"
            return Probe(reason=reason, seconds=self._clock() - began)
        stored = samples.encode_image(image, self._options.degrade.codec)
        sha256 = hashlib.sha256(data).hexdigest()
        scores = {f"clean.{name}": value for name, value in statistics(image).items()}
        scores, reason = self._judged("image", Sample(key=clean.key_of(sha256), clean=image), scores)
        if reason:
            return Probe(reason=reason, seconds=self._clock() - began, work=_in_tar(stored))
        if not pairs:
            return Probe(reason="", seconds=self._clock() - began, work=_in_tar(stored), image=image)
        made = {"depth": self._depth.annotate(image), "segments": self._segments.annotate(image)}
        beside = {"depth": samples.encode_depth(made["depth"]), "segments": samples.encode_labels(made["segments"])}
        seconds = self._clock() - began
        scene = _scene(path.name, sha256, image, beside)
        work = sum(map(_in_tar, [stored, *beside.values()]))
        tried = tuple(self._pair(row, scene, stored, beside, second) for row in self._planned(scene.key, pairs))
        return Probe(reason="", seconds=seconds, work=work, image=image, pairs=tried)

    def _planned(self, key: str, pairs: int) -> list[dict[str, Any]]:
        """Return `pairs` that the mixture might plan: names by their shares, evenly spread, and levels at random."""
        shares, levels = self._options.mixture.shares(), self._options.mixture.levels
        start = mixture.number("probe", key) / 2**63
        rows = []
        for variant in range(pairs):
            drawn = mixture.number("level", key, variant)
            level, within = levels[drawn % len(levels)], (drawn >> 8) % 1000 / 1000
            rows.append(
                {
                    "key": f"{key}-{variant:03d}",
                    "name": _at(shares, (start + variant / pairs) % 1),
                    "severity": 0.2 * (level - 1) + 0.05 + 0.15 * within,
                    "seed": drawn >> 31,
                }
            )
        return rows

    def _pair(
        self, planned: Mapping[str, Any], scene: Scene, stored: bytes, beside: Mapping[str, bytes], second: Image | None
    ) -> ProbedPair:
        began, name = self._clock(), planned["name"]
        mirrored = second is not None and "reflection" in steps_of(name)
        try:
            image = samples.decode_image(stored)  # as the stage does, which finds it in the work folder
            overlays = {"reflection": degrade.fit(second, image.shape)} if mirrored and second is not None else {}
            shown = replace(scene, image=image, overlays=overlays)
            pair, members = degrade.make_pair(planned, shown, self._options.degrade)
        except SourceError as error:
            return ProbedPair(name=name, reason=error.reason, seconds=self._clock() - began)
        sides = {"clean": stored} | {suffix.split(".")[0]: data for suffix, data in members.items()}
        scores, reason = self._judged("pair", _sample(pair, sides), {})
        read = {item for step in pair.recipe.steps for item in step.inputs}
        packed = sides | {kind: data for kind, data in beside.items() if kind in read}
        records = (encode(pair) + encode(scores), encode({step.degradation: step.inputs for step in pair.recipe.steps}))
        return ProbedPair(
            name=name,
            reason=reason,
            seconds=self._clock() - began,
            published=sum(map(_in_tar, [*packed.values(), *records])),
            work=sum(map(_in_tar, members.values())),
        )

    def _judged(self, subject: Subject, sample: Sample, known: Mapping[str, float]) -> tuple[dict[str, float], str]:
        """Return the scores and the reason to drop; the dearest filters look only at what the others keep, as built."""
        filters, scores, reason = self._filters[subject], dict(known), ""
        for last in (False, True):
            if reason:
                break
            names = [name for name, item in filters.items() if item.is_last() is last]
            for name in names:
                found = scores_in(self._measures[subject][name]([sample])[0])
                scores |= {f"{name}.{score}": float(value) for score, value in found.items()}
            _, reason = first_reason(judge(filters, scores, sample.recipe))
        return scores, reason


def _scene(uri: str, sha256: str, image: Image, beside: Mapping[str, bytes]) -> Scene:
    height, width = image.shape[:2]
    source = Source(uri=uri, licence="unknown", author="unknown", sha256=sha256, width=width, height=height)
    depth: NDArray[Any] = samples.decode_depth(beside["depth"])
    labels = samples.decode_labels(beside["segments"])
    return Scene(key=clean.key_of(sha256), image=image, source=source, depth=depth, segments=labels)


def _sample(pair: Pair, sides: Mapping[str, bytes]) -> Sample:
    images = {side: samples.decode_image(sides[side]) for side in ("clean", "degraded")}
    return Sample(key=pair.key, clean=images["clean"], degraded=images["degraded"], recipe=pair.recipe)


def _at(shares: Mapping[str, float], place: float) -> str:
    """Return the name whose share of [0, 1) holds `place`."""
    for name, share in sorted(shares.items()):
        place -= share
        if place < 0:
            return name
    return max(shares)


def _in_tar(data: bytes) -> int:
    return _BLOCK + -(-len(data) // _BLOCK) * _BLOCK
