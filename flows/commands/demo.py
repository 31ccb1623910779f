"""`pairforge demo`: a dataset and its report from photographs that are installed already, and what to try next."""

import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.commands.build import build, folder_settings, overridden
from flows.console import Console
from flows.dataset import Dataset
from flows.demo_photographs import write_photographs
from flows.publish import REPORT
from flows.quiet import data_folder
from flows.settings import Settings
from flows.source import check_source
from flows.summary import summarise

# The photographs are small; 22 pairs of each of the 7 leave room for one in six to be dropped above 126.
SMALL = 256
TABLES: Mapping[str, Mapping[str, Any]] = {
    "dataset": {"name": "demo"},
    "clean": {"min_side": SMALL},
    "mixture": {"variants": 22, "validation": 0.15},
}


def demo_command(out: Path, *, workers: int | None, as_json: bool) -> int:
    """Build the demo's dataset and print what came out; returns the exit status."""
    console = Console(as_json=as_json)
    began = time.monotonic()
    folder = data_folder() / "demo-photographs"
    write_photographs(folder)
    settings = demo_settings(folder, out, workers=workers)
    check_source(settings)
    console.say(f"building {out} from the seven photographs in {folder}")
    build(settings, console)
    root = Path(settings.output)
    summary, following = summarise(root), next_commands(root, out)
    seconds = time.monotonic() - began
    lines = ["", f"report: {root / REPORT}", f"{seconds:.0f} s", "", "try next:", *(f"  {line}" for line in following)]
    data = {**summary.data(), "report": str(root / REPORT), "seconds": round(seconds, 1), "next": following}
    console.result(data, "\n".join([summary.text(), *lines]))
    return 0


def demo_settings(folder: Path, out: Path, *, workers: int | None = None) -> Settings:
    """Return the settings of the demo: all nine degradations, both splits."""
    return overridden(folder_settings(folder, out, **TABLES), limit=None, workers=workers, seed=None)


def next_commands(root: Path, out: Path) -> list[str]:
    """Return three commands worth trying on the dataset at `root`, which the user calls `out`."""
    rows = list(Dataset(root).rows("pairs", ("key", "status")))
    dropped = sorted(row["key"] for row in rows if row["status"] == "dropped")
    kept = sorted(row["key"] for row in rows if row["status"] == "kept")
    key, place = (dropped or kept)[0], shlex.quote(str(out))
    return [
        f"pairforge explain {place} {key}",
        f"pairforge verify {place} --replay 9",
        "pairforge build ~/Pictures --out my-dataset",
    ]
