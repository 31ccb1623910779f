"""`pairforge judge`: other thresholds on stored scores; nothing is measured again."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.commands.build import build
from flows.console import Console
from flows.dataset import Dataset
from flows.publish import REPORT
from flows.rejudge import Change, Rejudgement, planned_alike
from flows.settings import Settings, read_settings
from flows.source import check_source
from flows.summary import Summary, summarise
from storage.errors import SettingsError
from storage.lease import Lease


def judge_command(root: Path, file: Path, *, what_if: bool, as_json: bool) -> int:
    """Cut the dataset again with the filters of a settings file, or say what that would do; returns the status."""
    console = Console(as_json=as_json)
    dataset = Dataset(root)
    _ = dataset.manifest  # one clear error when there is no dataset
    settings = read_settings(file).model_copy(update={"output": str(root.resolve())})
    _check_alike(dataset, settings, file)
    rejudgement = Rejudgement(root, settings)
    change = rejudgement.change()
    if what_if:
        before = summarise(root)
        console.result(_data(before, change), _text(before, change))
        return 0
    if change.needs_build or settings.source.shows:  # a collection is photographs, which a build has at hand
        if change.needs_build:
            console.say(f"{change.unstored + change.unplanned} photographs or pairs must be rendered: building")
        check_source(settings)
        build(settings, console)
    else:
        with Lease(root, owner="pairforge judge"):
            rejudgement.publish()
    summary = summarise(root)
    console.result({**summary.data(), "report": str(root / REPORT)}, f"{summary.text()}\n\nreport: {root / REPORT}")
    return 0


def _check_alike(dataset: Dataset, settings: Settings, file: Path) -> None:
    old: Mapping[str, Any] = json.loads((dataset.root / "settings.json").read_bytes())
    if table := planned_alike(old, settings):
        raise SettingsError(
            f"{file}: {table} is not what {dataset.root} was built with, and `judge` changes thresholds only; "
            f"put it back, or run `pairforge build {file}`"
        )


def _data(before: Summary, change: Change) -> dict[str, Any]:
    return {
        "pairs": {"before": before.pairs, "after": change.pairs.get("kept", 0)},
        "added": change.added,
        "removed": change.removed,
        "rejected": {name: count for name, count in change.pairs.items() if name != "kept"},
        "images": dict(change.images),
        "needs_build": change.needs_build,
    }


def _text(before: Summary, change: Change) -> str:
    after = {name: count for name, count in change.pairs.items() if name != "kept"}
    reasons = sorted(set(after) | set(before.rejected))
    kept = change.pairs.get("kept", 0)
    lines = [
        f"pairs         {before.pairs} -> {kept} ({change.added} added, {change.removed} removed)",
        *(f"  {name:<18} {before.rejected.get(name, 0):>6} -> {after.get(name, 0)}" for name in reasons),
    ]
    if change.needs_build:
        lines.append(f"{change.unstored + change.unplanned} of these must be rendered: `judge` would run the build")
    return "\n".join([*lines, "nothing was written"])
