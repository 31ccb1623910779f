"""What a benchmark leaves, `bench.json` and `bench.html`, and the same found again when nothing has changed since."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flows.bench_page import NAME as PAGE
from flows.bench_page import write_page
from flows.bench_settings import BenchSettings
from flows.bench_sides import open_sides
from flows.evaluate import Evaluation, Told, evaluate, inputs_digest, published_of, scores_of
from storage.canonical import plain
from storage.files import publish_bytes
from storage.lease import Lease
from training.benchmark.scores import Outcome

RESULT = "bench.json"


def evaluate_here(settings: BenchSettings, watchers: Sequence[Told], *, owner: str) -> Evaluation:
    """Run the benchmark in this process and write what came out, one run at a time in one output."""

    def tell(what: str, done: int, of: int) -> None:
        for watcher in watchers:
            watcher(what, done, of)

    with Lease(Path(settings.output), owner=owner):
        found = evaluate(settings, tell)
        write_result(found)
    return found


def write_result(found: Evaluation) -> None:
    """Write the page, then the figures, by whose presence a benchmark is done."""
    output = Path(found.settings.output)
    write_page(found, output / PAGE)
    content = found.content() | {"outcomes": plain(found.outcomes)}
    publish_bytes(output / RESULT, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def files_of(settings: BenchSettings) -> dict[str, str]:
    """Return where figures and page are."""
    return {"json": str(Path(settings.output) / RESULT), "html": str(Path(settings.output) / PAGE)}


def finished(settings: BenchSettings) -> Evaluation | None:
    """Return the benchmark that was run already, None where a picture, a model, a setting or the code is another now.

    Raises SettingsError when the pictures are not there, whether it was run or not.
    """
    sides = open_sides(settings)
    content = _written(settings)
    if content is None or content.get("inputs") != inputs_digest(settings, sides):
        return None
    outcomes = tuple(Outcome(**row) for row in content["outcomes"])
    return Evaluation(
        settings=settings,
        sides=sides,
        inputs=content["inputs"],
        grader=content["grader"],
        distance=content["distance"],
        outcomes=outcomes,
        scores=scores_of(settings, outcomes),
        published=published_of(settings),
        unmatched=tuple(content["unmatched"]),
    )


def _written(settings: BenchSettings) -> Mapping[str, Any] | None:
    """Return what `bench.json` says, None where it or the page is missing or broken: then it is made again."""
    if not (Path(settings.output) / PAGE).is_file():
        return None
    try:
        return dict(json.loads((Path(settings.output) / RESULT).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
