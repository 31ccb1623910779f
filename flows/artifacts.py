"""What operators see in Prefect: a progress artifact per stage, the funnel as a table and a link to the report."""

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from flows.job import Outcome
from flows.observers import StageCount
from flows.publish import REPORT

SECONDS = 5.0  # between two updates of an artifact


class ProgressArtifacts:
    """A watcher that keeps one progress artifact for each stage, keyed so that the server shows its history."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._ids: dict[str, UUID] = {}
        self._told = 0.0

    def __call__(self, stage: str, count: StageCount, final: bool) -> None:
        """Bring the artifact of `stage` up to date, at most every few seconds unless `final`."""
        percent = 100.0 * count.done / count.total if count.total else 100.0
        now = time.monotonic()
        if stage not in self._ids:
            description = f"{stage} of {self._root.name}: {count.total} work shards"
            made = create_progress_artifact(progress=percent, key=_key(self._root, stage), description=description)
            self._ids[stage], self._told = made, now  # type: ignore[assignment]
        elif final or now - self._told >= SECONDS:
            update_progress_artifact(artifact_id=self._ids[stage], progress=percent)
            self._told = now


def publish_outcome(outcome: Outcome) -> None:
    """Publish the funnel of photographs and pairs, and where the report is."""
    root = outcome.root
    table = [*_rows("photographs", outcome.images), *_rows("pairs", outcome.pairs)]
    create_table_artifact(
        table=table, key=_key(root, "funnel"), description=f"what became of everything in {root.name}"
    )
    link = (root / REPORT).as_uri()
    create_link_artifact(link=link, link_text=f"report of {root.name}", key=_key(root, "report"), description="report")


def _rows(what: str, counts: Mapping[str, int]) -> list[dict[str, Any]]:
    rest = sorted(counts.items(), key=lambda item: (item[0] != "kept", -item[1]))
    return [{"what": what, "became": became, "count": count} for became, count in [("in", sum(counts.values())), *rest]]


def _key(root: Path, name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", f"{root.name}-{name}".lower()).strip("-")
