"""What restoring asks before a restorer runs: which files, and which task a photograph needs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filters.presence import propose
from storage.errors import SettingsError
from storage.records import Image
from tasks.prompts import PROMPTS, instruction

AUTO = "auto"
PHOTOGRAPHS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked of the restorer. probability: with which the task was proposed, None if it was named."""

    task: str
    prompt: str
    probability: float | None = None


def asked(image: Image, task: str) -> Asked:
    """Return what to ask for `image`, uint8 (H, W, 3): `task`, or with "auto" the degradation that is most probable."""
    if task != AUTO:
        return Asked(task=task, prompt=instruction(task))
    probabilities = propose(image)
    best = max(probabilities, key=lambda name: (probabilities[name], name))
    return Asked(task=best, prompt=instruction(best), probability=probabilities[best])


def check_task(task: str) -> None:
    """Raise SettingsError, naming the tasks, unless `task` is one."""
    if task != AUTO and task not in PROMPTS:
        raise SettingsError(f"--task {task!r} is none; there are {', '.join(PROMPTS)}, and auto")


def places(source: Path, output: Path) -> Iterator[tuple[Path, Path]]:
    """Yield each photograph with the file its restoration goes to: `output`, or a PNG of its name in that folder.

    Raises SettingsError when a photograph would be overwritten, two would go to one file, or a folder has none.
    """
    if not source.is_dir():
        yield source, _distinct(source, output)
        return
    files = [file for file in sorted(source.rglob("*")) if file.suffix.lower() in PHOTOGRAPHS and file.is_file()]
    if not files:
        raise SettingsError(f"{source} holds no photograph ({', '.join(sorted(PHOTOGRAPHS))})")
    taken: dict[Path, Path] = {}
    for file in files:
        target = _distinct(file, output / file.relative_to(source).with_suffix(".png"))
        if target in taken:
            raise SettingsError(f"{taken[target]} and {file} would both be restored to {target}; rename one of them")
        taken[target] = file
    yield from ((file, target) for target, file in taken.items())


def _distinct(file: Path, target: Path) -> Path:
    if target.resolve() == file.resolve():
        raise SettingsError(f"{file} would be overwritten; name another place with -o")
    return target
