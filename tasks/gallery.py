"""Pictures of a benchmark by name: those of a folder, or whatever else can list and read them.

A name is the path below the folder without its suffix, so that `rain/0001.JPG` and `rain/0001.png` are two sides of
one picture. Its task is the first folder that names one: `rain`, `LowLight`, `01Blur_Noise`. In FoundIR's test set a
name is the four digits of the file, whose range is the task.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from degradations.pairs.coupled import COUPLED
from storage.errors import SettingsError
from tasks.crawl import list_folder, path_of

T = TypeVar("T")

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})

# FoundIR's 20 subsets by the last of its ids: `Testset_meta_info.txt` of the repository House-Leo/FoundIR.
FOUNDIR = (
    (150, "blur"),
    (200, "blur_noise"),
    (250, "blur_compression"),
    (300, "blur_noise_compression"),
    (400, "noise"),
    (450, "compression"),
    (500, "noise_compression"),
    (700, "haze"),
    (800, "low_light_haze"),
    (900, "rain"),
    (1000, "raindrop"),
    (1050, "low_light_rain"),
    (1100, "rain_haze"),
    (1150, "low_light"),
    (1250, "low_light_blur"),
    (1300, "low_light_noise"),
    (1350, "low_light_compression"),
    (1400, "low_light_blur_noise"),
    (1450, "low_light_blur_compression"),
    (1500, "low_light_noise_compression"),
)

_NAMES = ("blur", "compression", "flare", "haze", "low_light", "moire", "noise", "rain", "raindrop", "reflection")
_WORDS = {
    "lowlight": "low_light",
    "low light": "low_light",
    "dark": "low_light",
    "jpeg": "compression",
    "compress": "compression",
    "moir\u00e9": "moire",
    "nightrain": "low_light_rain",
    "deblur": "blur",
    "dehaze": "haze",
    "denoise": "noise",
    "derain": "rain",
    "demoire": "moire",
}
_KNOWN = {frozenset(steps): name for name, steps in COUPLED.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """Pictures by name. tasks: what each is a test of, empty where nothing says so. read: the bytes of a file."""

    title: str
    tasks: Mapping[str, str]
    read: Callable[[str], bytes]


def task_of(text: str) -> str:
    """Return the degradation or combination that a folder's or a column's text names, empty when it names none."""
    plain = re.sub(r"^\d+", "", text.strip().casefold())
    plain = re.sub(r"[\s_\-+]+", " ", plain).strip()
    if plain in _WORDS:
        return _WORDS[plain]
    words = [_WORDS.get(word, word) for word in plain.replace("low light", "low_light").split(" ")]
    if not words or not set(words) <= set(_NAMES):
        return ""
    return words[0] if len(words) == 1 else _KNOWN.get(frozenset(words), "")


def task_in(folders: Sequence[str]) -> str:
    """Return the task that the first of `folders` to name one names, empty when none does."""
    return next((task for folder in folders if (task := task_of(folder))), "")


def foundir_task(name: str) -> str:
    """Return the subset of FoundIR's test set that the id `name` belongs to, empty for what is no id of it."""
    if not re.fullmatch(r"\d{4}", name) or name == "0000":
        return ""
    return next((task for last, task in FOUNDIR if int(name) <= last), "")


def folder_gallery(root: Path) -> Gallery:
    """Return the pictures below `root`, whatever the case of their suffix; SettingsError when two share a name."""
    found = unambiguous(root, ((stem(uri), uri) for uri in _uris(root)))
    tasks = {name: task_in(PurePosixPath(name).parts[:-1]) for name in found}
    return Gallery(title=str(root), tasks=tasks, read=lambda name: path_of(root, found[name]).read_bytes())


def foundir_gallery(root: Path, *, side: str) -> Gallery:
    """Return the pictures below `root` by FoundIR's ids; side: "LQ" or "GT", where the folder holds both."""
    uris = _uris(root)
    sided = [uri for uri in uris if side in PurePosixPath(uri).parts]
    named = ((PurePosixPath(uri).stem, uri) for uri in sided or uris)
    found = unambiguous(root, ((name, uri) for name, uri in named if foundir_task(name)))
    tasks = {name: foundir_task(name) for name in found}
    return Gallery(title=str(root), tasks=tasks, read=lambda name: path_of(root, found[name]).read_bytes())


def stem(uri: str) -> str:
    """Return a relative path without the suffix of a picture, whatever its case."""
    path = PurePosixPath(uri)
    return (path.with_suffix("") if path.suffix.lower() in SUFFIXES else path).as_posix()


def unambiguous(where: Path, named: Iterable[tuple[str, T]]) -> dict[str, T]:
    """Return what is named by its name; SettingsError when two have one name."""
    found: dict[str, T] = {}
    for name, item in named:
        if name in found:
            raise SettingsError(
                f"{where} holds two pictures named {name} ({found[name]}, {item}); remove or rename one"
            )
        found[name] = item
    return found


def with_index(gallery: Gallery, index: Mapping[str, str], *, otherwise: str = "") -> Gallery:
    """Return the gallery with the tasks of an index before its own; `otherwise` is that of pictures without one."""
    tasks = {name: index.get(name) or task or otherwise for name, task in gallery.tasks.items()}
    return Gallery(title=gallery.title, tasks=tasks, read=gallery.read)


def read_index(file: Path) -> dict[str, str]:
    """Return name -> task of a table of two columns, name and task, split by a tab or a comma."""
    found: dict[str, str] = {}
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"the index {file} cannot be read: {error}; write one line of name and task each"
        ) from error
    for number, line in enumerate(lines, start=1):
        name, task = _index_line(file, number, line)
        if name:
            found[stem(name)] = task
    return found


def _index_line(file: Path, number: int, line: str) -> tuple[str, str]:
    if not line.strip():
        return "", ""
    parts = [part.strip() for part in re.split(r"[\t,]", line)]
    if len(parts) != 2 or not parts[0] or not parts[1]:
        raise SettingsError(f"{file}, line {number}: expected a name and a task split by a tab, got {line[:60]!r}")
    if number == 1 and parts == ["name", "task"]:
        return "", ""
    return parts[0], task_of(parts[1]) or parts[1]


def _uris(root: Path) -> list[str]:
    if not root.is_dir():
        raise SettingsError(
            f"{root} is no folder; name the folder, the Parquet or Arrow file, or the dataset that holds them"
        )
    return [item.uri for item in list_folder(root) if PurePosixPath(item.uri).suffix.lower() in SUFFIXES]
