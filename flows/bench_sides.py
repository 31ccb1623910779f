"""The pictures of a benchmark: those that went in, the truth, and what was restored, wherever they lie."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from flows.bench_settings import BenchSettings
from flows.dataset import Dataset
from storage.canonical import digest
from storage.errors import SettingsError
from tasks.gallery import Gallery, folder_gallery, foundir_gallery, read_index, with_index
from tasks.gallery_tables import Columns, table_gallery
from tasks.table_files import SUFFIXES, table_files

_MOST_NAMED = 3  # pictures named in an error

Sides = Mapping[str, Gallery]  # "degraded", "clean" and "restored", as far as there are any


def open_sides(settings: BenchSettings) -> Sides:
    """Return the pictures that the settings name; raises SettingsError when a place holds none, or none that match."""
    places = {side: getattr(settings.pictures, side) for side in ("degraded", "clean", "restored")}
    found = {side: gallery(path, settings, side=side) for side, path in places.items() if path}
    if "restored" in found:
        check_match(inputs_of(settings, found), found["restored"])
    return found


def inputs_of(settings: BenchSettings, sides: Sides) -> Gallery:
    """Return the side that restored pictures are compared with; the settings say that it is there."""
    return sides["degraded" if settings.protocol == "realir" else "clean"]


def content_of(sides: Sides) -> str:
    """Return a hash of every picture's name, task and bytes; reads them all."""
    return digest({side: _content(part) for side, part in sides.items()})


def _content(part: Gallery) -> dict[str, tuple[str, str]]:
    return {name: (task, hashlib.sha256(part.read(name)).hexdigest()) for name, task in part.tasks.items()}


def gallery(path: str, settings: BenchSettings, *, side: str) -> Gallery:
    """Return the pictures at `path`; side: "degraded", "clean" or "restored", for what holds more than one of them.

    Raises SettingsError when there are none.
    """
    root, pictures = Path(path), settings.pictures
    if settings.protocol == "foundir":
        found = foundir_gallery(root, side={"degraded": "LQ", "clean": "GT"}.get(side, side))
    elif (root / "manifest.json").is_file():
        found = dataset_gallery(root, side=side, split=pictures.split)
    elif root.suffix in SUFFIXES or (root.is_dir() and table_files(root)):
        found = table_gallery(root, Columns(**pictures.columns.model_dump()))
    else:
        found = folder_gallery(root)
    if not found.tasks:
        what = "by FoundIR's ids, 0001 to 1500," if settings.protocol == "foundir" else ""
        raise SettingsError(f"pictures.{side}: {root} holds no picture {what}".rstrip() + "; name another place")
    index = read_index(Path(pictures.index)) if pictures.index else {}
    return with_index(found, index, otherwise=pictures.task)


def dataset_gallery(root: Path, *, side: str, split: str) -> Gallery:
    """Return one side of the pairs of a dataset of ours, named by their keys."""
    if side == "restored":
        raise SettingsError(f"pictures.restored: {root} is a dataset; name the folder of restored pictures, <key>.png")
    dataset = Dataset(root)
    rows = dataset.rows("pairs", ("key", "name", "shard", "split", "status"))
    kept = {row["key"]: row for row in rows if row["status"] == "kept" and row["split"] == split}

    def read(key: str) -> bytes:
        pixels = dataset.stored(key, kept[key]["shard"]).pixels
        return next(data for suffix, data in pixels.items() if suffix.split(".")[0] == side)

    return Gallery(title=str(root), tasks={key: row["name"] for key, row in kept.items()}, read=read)


def check_match(inputs: Gallery, restored: Gallery) -> None:
    """Raise SettingsError when no restored picture is named as one of the inputs."""
    if set(inputs.tasks) & set(restored.tasks):
        return
    wanted, there = (", ".join(sorted(item.tasks)[:_MOST_NAMED]) for item in (inputs, restored))
    raise SettingsError(
        f"no picture in {restored.title} is named as one of {inputs.title}: it holds {there}, wanted are {wanted}"
    )
