"""`pairforge build`: settings from a file or a folder, a server and a cluster for the run, progress, a summary."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.console import Console
from flows.publish import REPORT
from flows.settings import Settings, parse_settings, read_settings
from flows.source import check_source
from flows.summary import summarise
from storage.canonical import encode
from storage.errors import SettingsError
from storage.files import publish_bytes


def build_command(
    what: Path, *, out: Path | None, limit: int | None, workers: int | None, seed: int | None, as_json: bool
) -> int:
    """Build and print what came out; returns the exit status."""
    console = Console(as_json=as_json)
    settings = overridden(settings_of(what, out), limit=limit, workers=workers, seed=seed)
    check_source(settings, origin=what)
    began = time.monotonic()
    build(settings, console)
    root = Path(settings.output)
    summary = summarise(root)
    seconds = time.monotonic() - began
    text = f"{summary.text()}\n\nreport: {root / REPORT}\n{seconds:.0f} s"
    console.result({**summary.data(), "report": str(root / REPORT), "seconds": round(seconds, 1)}, text)
    return 0


def build(settings: Settings, console: Console) -> None:
    """Bring the dataset of `settings` up to date; starts nothing when it is."""
    from flows.job import finished
    from storage.lease import Lease

    root = Path(settings.output)
    with Lease(root, owner=f"pairforge build by {os.environ.get('USER', 'somebody')}"):
        if done := finished(settings):
            console.say(f"version {done.dataset_version} is up to date: nothing to do")
            return
    resolved = root / ".work" / "settings.json"
    publish_bytes(resolved, encode(settings.resolved()))
    run_flow(resolved, settings, console)


def run_flow(resolved: Path, settings: Settings, console: Console) -> None:
    """Run the build flow on the Prefect server in PREFECT_API_URL, else on one of our own for as long as it takes."""
    from flows.server import LocalServer

    with LocalServer() as server, console.busy("starting Prefect and Ray"):
        from flows.build import build_on_server

        build_on_server(resolved, settings, server, [console.watch])


def settings_of(what: Path, out: Path | None) -> Settings:
    """Return the settings in a file, or those of a folder whose dataset goes to `out`."""
    if what.is_dir():
        if out is None:
            raise SettingsError(f"{what} is a folder: say where the dataset goes, with --out DATASET")
        return folder_settings(what, out)
    if out is not None and not what.exists():
        raise SettingsError(f"there is no folder {what}; name one that holds photographs")
    if out is not None:
        raise SettingsError(f"--out goes with a folder; {what} is a settings file and names its own output")
    return read_settings(what)


def overridden(settings: Settings, *, limit: int | None, workers: int | None, seed: int | None) -> Settings:
    """Return the settings with what the command line says otherwise."""
    changes: dict[str, Any] = {}
    if limit:
        changes["source"] = settings.source.model_copy(update={"limit": limit})
    if workers:
        changes["run"] = settings.run.model_copy(update={"workers": workers})
    if seed is not None:
        changes["seed"] = seed
    return settings.model_copy(update=changes)


def folder_settings(folder: Path, out: Path, **tables: Mapping[str, Any]) -> Settings:
    """Return the settings of a build that names only a folder and where the dataset goes."""
    content = {"seed": 0, "output": str(out.resolve()), "source": {"folder": str(folder.resolve())}, **tables}
    return parse_settings(content, origin="the command line", base=Path.cwd())
