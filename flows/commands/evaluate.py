"""`pairforge evaluate`: score restored pictures by RealIR-Bench's protocol or against the ground truth."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from flows.bench_result import evaluate_here, files_of, finished
from flows.bench_settings import BenchSettings, read_bench
from flows.console import Console, duration
from flows.evaluate import Evaluation
from training.benchmark.scores import Score

MOST_LISTED = 12  # pictures without a score that the terminal lists


def evaluate_command(file: Path, *, alone: bool, as_json: bool) -> int:
    """Run the benchmark in `file`, unless it was run already, and print it; returns the exit status.

    alone: without Prefect.
    """
    console = Console(as_json=as_json)
    settings = read_bench(file)
    with console.busy("looking for pictures"):
        found = finished(settings)
    if found is None:
        found = _alone(settings, console) if alone else _on_server(settings, file, console)
    files = files_of(settings)
    console.result(found.content() | {"files": files}, "\n".join([*_lines(found), "", *files.values()]))
    return 0


def _alone(settings: BenchSettings, console: Console) -> Evaluation:
    with console.busy("loading models"):
        return evaluate_here(settings, [_watcher(console)], owner="pairforge evaluate")


def _on_server(settings: BenchSettings, file: Path, console: Console) -> Evaluation:
    from flows.server import LocalServer

    with LocalServer() as server, console.busy("starting Prefect"):
        from flows.benchmark import evaluate_on_server

        return evaluate_on_server(settings, file, server, [_watcher(console)])


def _watcher(console: Console) -> Callable[[str, int, int], None]:
    began: dict[str, float] = {}

    def told(what: str, done: int, of: int) -> None:
        since = began.setdefault(what, time.monotonic())
        seconds = (time.monotonic() - since) / max(1, done - 1) * (of - done)
        text = f"{what} {done} of {of} pictures" + (f", {duration(seconds)} left" if 1 < done < of else "")
        console.doing(text if done < of else "writing the results")
        console.progress(text, final=done == of)

    return told


def _lines(found: Evaluation) -> list[str]:
    columns = list(found.titles)
    rows = [
        [name, str(part.pictures), f"{part.coverage:.0%}", *(_shown(part.scores.get(column)) for column in columns)]
        for name, part in found.scores.items()
    ]
    lines = [found.title, "", *_aligned([["task", "n", "scored", *found.titles.values()], *rows])]
    if found.unscored:
        counted = ", which count as no gain" if found.grader else ""
        lines += ["", f"{len(found.unscored)} pictures without a score{counted}:"]
        lines += [f"  {item.name}: {item.reason}" for item in found.unscored[:MOST_LISTED]]
        lines += [f"  and {len(found.unscored) - MOST_LISTED} more"] * (len(found.unscored) > MOST_LISTED)
    if found.unmatched:
        lines += ["", f"{len(found.unmatched)} restored pictures are nobody's, such as {found.unmatched[0]}"]
    return lines + (["", *_published_lines(found.published)] if found.published else [])


def _published_lines(published: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    rows = [[model, *(f"{value:.3f}" for value in row["average"])] for model, row in published.items()]
    names = ["LPS", "RS", "FS"] if len(rows[0]) == 4 else ["PSNR", "SSIM"]
    return _aligned([["published averages", *names], *rows])


def _shown(score: Score | None) -> str:
    if score is None or score.value is None:
        return "-"
    return f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
