"""`pairforge doctor`: what is installed, reachable and writable, and how to fix what is not."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path

from flows import checks
from flows.checks_models import named
from flows.console import Console
from flows.findings import Finding
from flows.settings import read_settings


def doctor_command(what: Path | None, *, as_json: bool) -> int:
    """Print every finding; returns 1 if one fails.

    what: a dataset to look at too, or the place where it would go, or a settings file whose models to look at too.
    """
    console = Console(as_json=as_json)
    settings = read_settings(what) if what is not None and what.suffix == ".toml" else None
    dataset = Path(settings.output) if settings else what
    with console.busy("looking"):
        found = list(checks.machine(dataset or Path.cwd()))
        found += named(settings) if settings else []
        if dataset is not None and dataset.exists():
            found += checks.dataset(dataset)
    counts = Counter(check.state for check in found)
    data = {"checks": [asdict(check) for check in found], "counts": dict(counts)}
    total = ", ".join(f"{counts[state]} {state}" for state in ("ok", "info", "warn", "fail") if counts[state])
    console.result(data, "\n".join([*map(_line, found), total]))
    return 1 if counts["fail"] else 0


def _line(check: Finding) -> str:
    text = f"{check.state:<4}  {check.name:<25}  {' '.join(check.found.split())}"
    return f"{text}\n      {'':<25}  fix: {check.fix}" if check.fix else text
