"""`pairforge restore`: a photograph, or a folder of them, restored by the weights that are at hand."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flows.comparison import Comparison, Restored
from flows.console import Console
from storage.errors import SettingsError
from tasks.restore import Asked, asked, check_task, places

if TYPE_CHECKING:
    from training.restoring.tiles import Restorer, Sampling

WITHOUT_WEIGHTS = (
    "restore needs weights, named by --weights: train the small restorer in about ten minutes by `pairforge train "
    "deploy/runs/tiny.toml`, or name the folder of RealRestorer's bundle"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """How it is restored; what is None is left to the restorer's kind."""

    task: str
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    tile: int | None = None
    overlap: int | None = None
    batch: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What it runs on. memory: of the card, GB, None for what it has."""

    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["fp32", "bf16"] | None = None
    memory: int | None = None
    compiled: bool = False
    prefix: Path | None = None


def restore_command(
    source: Path,
    *,
    output: Path,
    weights: Path | None,
    wanted: Wanted,
    machine: Machine,
    compare: Path | None,
    as_json: bool,
) -> int:
    """Restore and say what was done; returns the exit status, 1 if a photograph of a folder could not be used."""
    from flows.commands.preview import check_output

    check_task(wanted.task)
    if not source.exists():
        raise SettingsError(f"{source} does not exist; name a photograph or a folder of them")
    if not source.is_dir():
        check_output(output)
    if compare is not None and compare.suffix.lower() not in (".html", ".htm"):
        raise SettingsError(f"--compare {compare} must end in .html")
    console = Console(as_json=as_json)
    files = list(places(source, output))
    restorer = _restorer(weights, machine, console)
    sampling = _sampling(restorer, wanted)
    comparison = Comparison(len(files))
    done, failed = _restore_all(files, restorer, sampling, wanted.task, comparison, console, one=not source.is_dir())
    assert weights is not None
    if compare is not None:
        facts = [("restored", str(len(done))), ("weights", weights.name), ("seed", str(sampling.seed))]
        comparison.write(compare, facts=[*facts, ("steps", str(sampling.steps))])
    data = {
        "restored": [asdict(item) | {"file": str(target)} for item, target in done],
        "failed": failed,
        "weights": str(weights),
        "sampling": asdict(sampling),
        "compare": None if compare is None else str(compare),
    }
    lines = [_line(item, target) for item, target in done] + [f"not restored: {reason}" for reason in failed.values()]
    console.result(data, "\n".join(lines if compare is None else [*lines, f"before and after: {compare}"]))
    return 1 if failed else 0


def _restore_all(
    files: Sequence[tuple[Path, Path]],
    restorer: "Restorer",
    sampling: "Sampling",
    task: str,
    comparison: Comparison,
    console: Console,
    *,
    one: bool,
) -> tuple[list[tuple[Restored, Path]], dict[str, str]]:
    """Return what was restored and, by file, why others were not; of a single photograph that is raised."""
    from flows.commands.preview import read_photograph, write_picture
    from training.restoring.tiles import restore

    done: list[tuple[Restored, Path]] = []
    failed: dict[str, str] = {}
    for number, (file, target) in enumerate(files, start=1):
        try:
            image = read_photograph(file)
        except SettingsError as error:
            if one:
                raise
            failed[str(file)] = str(error)
            continue
        began = time.monotonic()
        what = asked(image, task)
        label = f"{file.name}, {_named(what)}" if one else f"{number}/{len(files)} {file.name}, {_named(what)}"
        console.say(f"restoring {label}")
        with _tiles_told(console, label) as progress:
            restored = restore(restorer, image, what.prompt, sampling, progress)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_picture(target, restored)
        item = Restored(
            name=file.name,
            task=what.task,
            probability=what.probability,
            width=image.shape[1],
            height=image.shape[0],
            seconds=round(time.monotonic() - began, 2),
        )
        comparison.add(item, image, restored)
        done.append((item, target))
    return done, failed


@contextmanager
def _tiles_told(console: Console, label: str) -> Iterator[Any]:
    """Yield what is called after each group of tiles, and says how long the rest takes."""
    began = time.monotonic()

    def progress(done: int, of: int) -> None:
        left = (time.monotonic() - began) / done * (of - done)
        text = f"{label}: {done}/{of} tiles, {left:.0f} s left"
        console.doing(text)
        console.progress(text)

    with console.busy(label):
        yield progress


def _restorer(weights: Path | None, machine: Machine, console: Console) -> "Restorer":
    if weights is None:
        raise SettingsError(WITHOUT_WEIGHTS)
    if not weights.exists():
        raise SettingsError(f"--weights {weights} does not exist; {WITHOUT_WEIGHTS}")
    try:
        import torch

        from training.restoring import offload
        from training.restoring import restorer as restorers
    except ImportError as error:
        raise SettingsError(f"restore needs {error.name}: install PairForge with its `train` extra") from error
    if machine.device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("--device cuda: torch sees no card here; use --device cpu")
    memory = machine.memory
    if memory is None and machine.device == "cuda":
        memory = round(torch.cuda.mem_get_info()[1] / 1e9)
    placing = restorers.Placing(
        device=machine.device,
        dtype=machine.dtype,
        memory=offload.Memory() if memory is None else offload.memory_for(memory),
        compiled=machine.compiled,
        prefix=None if machine.prefix is None else _text(machine.prefix),
    )
    with console.busy(f"loading {weights}"):
        return restorers.load(weights, placing)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"--prefix {file} cannot be read ({error}); name a text file") from error


def _sampling(restorer: "Restorer", wanted: Wanted) -> "Sampling":
    from training.flow import Guidance
    from training.restoring.restorer import sampling_of

    usual = sampling_of(restorer.model.params)
    named = {name: getattr(wanted, name) for name in ("steps", "tile", "overlap", "batch")}
    named = {name: value for name, value in named.items() if value is not None}
    guidance = usual.guidance
    if wanted.guidance is not None:  # as in the released pipeline -1, here any scale up to 1, runs without
        guidance = Guidance(scale=wanted.guidance) if wanted.guidance > 1 else None
    try:
        return replace(usual, **named, seed=wanted.seed, guidance=guidance)
    except ValueError as error:
        raise SettingsError(f"--tile, --overlap: {error}") from error


def _named(what: Asked) -> str:
    return what.task if what.probability is None else f"{what.task} (proposed at {what.probability:.0%})"


def _line(item: Restored, target: Path) -> str:
    proposed = "" if item.probability is None else f", proposed at {item.probability:.0%}"
    return f"{target}: {item.task}{proposed}, {item.width} x {item.height}, {item.seconds:.1f} s"
