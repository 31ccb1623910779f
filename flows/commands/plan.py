"""`pairforge plan`: what a build would come to, from a few photographs that are tried in memory; writes nothing."""

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2

from flows.commands.build import overridden, settings_of
from flows.console import Console
from flows.estimate import Estimate, Figure, estimate
from flows.named_models import check_models
from flows.settings import Settings
from flows.source import check_source
from flows.summary import size_text
from storage.canonical import digest
from storage.errors import SettingsError
from tasks.crawl import RIGHTS_TABLES, list_folder, path_of
from tasks.degrade import Options as DegradeOptions
from tasks.probe import Options, Probe, Prober

PHOTOGRAPHS = 12  # that are tried
PAIRS = 36  # that are tried, at least three of each photograph
LEAST, SECONDS = 4, 45.0  # after so many photographs it ends when so much time has passed


def plan_command(what: Path, *, out: Path | None, limit: int | None, workers: int | None, as_json: bool) -> int:
    """Print what the build would come to; returns the exit status."""
    console = Console(as_json=as_json)
    if what.is_dir() and out is None:
        out = what.absolute().with_name(f"{what.absolute().name}-dataset")
    settings = overridden(settings_of(what, out), limit=limit, workers=workers, seed=None)
    check_source(settings, origin=what)
    check_models(settings)
    with console.busy("listing the folder"):
        uris = [item.uri for item in list_folder(Path(settings.source.folder))]
    files = [uri for uri in sorted(uris, key=digest) if uri.rpartition("/")[2] not in RIGHTS_TABLES]
    files = files[: settings.source.limit or len(files)]
    if not files:
        raise SettingsError(f"source.folder: {settings.source.folder} holds no files; name a folder of photographs")
    with console.busy("loading"), one_thread():
        probes = probe(settings, files, console)
    processes = settings.run.workers or len(os.sched_getaffinity(0))
    mixture = None if settings.source.shows else settings.mixture
    found = estimate(probes, files=len(files), options=mixture, workers=processes)
    free = free_bytes(Path(settings.output))
    data = {**asdict(found), "files": len(files), "probed": len(probes), "workers": processes, "free_bytes": free}
    console.result(data, _text(found, data))
    return 0


def probe(settings: Settings, files: Sequence[str], console: Console) -> list[Probe]:
    """Return what became of the first photographs of `files`; a reflection mirrors the one before."""
    prober, began, probes = Prober(probe_options(settings)), time.monotonic(), list[Probe]()
    count = min(PHOTOGRAPHS, len(files))
    pairs = 0 if settings.source.shows else min(settings.mixture.variants, max(3, -(-PAIRS // count)))
    for uri in files[:count]:
        console.doing(f"probing photograph {len(probes) + 1} of {count}")
        second = next((item.image for item in reversed(probes) if item.image is not None), None)
        probes.append(prober.probe(path_of(Path(settings.source.folder), uri), pairs=pairs, second=second))
        if len(probes) >= LEAST and time.monotonic() - began > SECONDS:
            break
    return probes


def probe_options(settings: Settings) -> Options:
    """Return the options of every stage that a probe needs."""
    return Options(
        clean=settings.clean_options(),
        annotate=settings.annotate,
        mixture=settings.mixture,
        degrade=DegradeOptions(degradations=settings.degradation_options(), codec=settings.pack.codec),
        image_filters=settings.filters_of("image"),
        pair_filters=settings.filters_of("pair"),
        device=settings.run.device,
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep OpenCV to one thread in this block, as in a worker, so that a core's seconds are counted as they will be."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def free_bytes(path: Path) -> int:
    """Return the free space where `path` is or would be made."""
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    return shutil.disk_usage(there).free


def _text(found: Estimate, data: dict[str, Any]) -> str:
    lines = [
        f"photographs   {_band(found.images)} kept of {data['files']} files; near duplicates show only in the build",
        *([f"pairs         {_band(found.pairs)}"] if found.by_degradation else []),
        f"dataset       {_band(found.bytes, size_text)}",
        f"disk          {_band(found.disk_bytes, size_text)} with work files; {size_text(data['free_bytes'])} free",
        f"time          {_band(found.hours, _duration)} with {data['workers']} workers",
        f"from {data['probed']} photographs that were tried; each band holds the true value four times in five",
    ]
    if found.disk_bytes.high > data["free_bytes"]:
        lines.append("the disk may become full: free some space, name another output or set source.limit")
    width = max(map(len, found.by_degradation), default=0)
    return "\n".join([*lines, *(f"  {name:{width}}  {count:>8}" for name, count in found.by_degradation.items())])


def _band(figure: Figure, shown: Any = round) -> str:
    low, high = shown(figure.low), shown(figure.high)
    return f"{shown(figure.value)}" + (f" ({low} to {high})" if low != high else "")


def _duration(hours: float) -> str:
    minutes = hours * 60
    if minutes < 2:
        return f"{minutes * 60:.0f} s"
    return f"{minutes:.0f} min" if minutes < 120 else f"{hours:.3g} h"
