"""A benchmark as a Prefect flow; storage is the truth here too.

A deployment runs `flows.benchmark.evaluate_restorer`; `pairforge evaluate` runs the same on a server of its own.
"""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import (
    create_link_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.runtime import flow_run

from flows.bench_page import NAME as PAGE
from flows.bench_result import evaluate_here, files_of, finished
from flows.bench_settings import BenchSettings, read_bench
from flows.evaluate import Evaluation, Told
from flows.server import LocalServer

log = logging.getLogger(__name__)

NAME = "evaluate-restorer"
SECONDS = 5.0  # between two updates of an artifact


@flow(name=NAME, retries=0)
def evaluate_restorer(settings: str) -> dict[str, Any]:
    """Run the benchmark that a settings file describes and return its scores.

    settings: path of a TOML file. What is graded and measured already is not asked for again; a benchmark that was run
    ends at once.
    """
    chosen = read_bench(Path(settings))
    found = finished(chosen) or evaluate_here(chosen, [Progress()], owner=f"Prefect flow run {flow_run.get_name()}")
    publish(found)
    return told(found)


def evaluate_on_server(
    settings: BenchSettings, file: Path, server: LocalServer, watchers: Sequence[Told]
) -> Evaluation:
    """Run the benchmark as a flow run on `server`; the caller's watchers are told how it goes."""
    results: list[Evaluation] = []
    server.wait()

    @flow(name=NAME, retries=0)
    def evaluate_this(settings_file: str) -> dict[str, Any]:
        results.append(evaluate_here(settings, [Progress(), *watchers], owner="pairforge evaluate"))
        publish(results[0])
        return told(results[0])

    evaluate_this(str(file))
    return results[0]


class Progress:
    """A watcher that keeps a progress artifact of what is restored and of what is measured."""

    def __init__(self) -> None:
        self._artifacts: dict[str, Any] = {}
        self._shown = 0.0

    def __call__(self, what: str, done: int, of: int) -> None:
        """Show how many pictures are done, every few seconds; a server that cannot be told ends nothing."""
        now = time.monotonic()
        if what in self._artifacts and done < of and now - self._shown < SECONDS:
            return
        self._shown = now
        try:
            self._show(what, done, of)
        except Exception as error:
            log.warning("Prefect was not told of picture %s of %s: %s", done, of, error)

    def _show(self, what: str, done: int, of: int) -> None:
        percent, text = 100 * done / of, f"{what} {done} of {of} pictures"
        if what in self._artifacts:
            update_progress_artifact(self._artifacts[what], percent, description=text)
        else:
            self._artifacts[what] = create_progress_artifact(percent, key=f"{NAME}-{what}", description=text)


def publish(found: Evaluation) -> None:
    """Publish the scores as a table, and where the page is."""
    rows = [
        {"task": name, "pictures": part.pictures, "scored": part.scored}
        | {title: _rounded(part.scores[key].value) for key, title in found.titles.items() if key in part.scores}
        for name, part in found.scores.items()
    ]
    create_table_artifact(rows, key=f"{NAME}-scores", description=found.title)
    link = Path(files_of(found.settings)["html"]).as_uri()
    create_link_artifact(link=link, link_text=f"{PAGE} of {found.settings.name}", key=f"{NAME}-page")


def told(found: Evaluation) -> dict[str, Any]:
    """Return the averages as JSON values, and where the rest stands."""
    scores = {name: score.value for name, score in found.scores["average"].scores.items()}
    return {"title": found.title, "average": scores, "unscored": len(found.unscored), **files_of(found.settings)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
