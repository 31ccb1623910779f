"""`pairforge doctor`: what is installed, reachable and writable, and how to fix what is not."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path

from flows import checks
from flows.console import Console
from flows.findings import Finding


def doctor_command(dataset: Path | None, *, as_json: bool) -> int:
    """Print every finding; returns 1 if one fails. dataset: one to look at too, or the place where it would go."""
    console = Console(as_json=as_json)
    with console.busy("looking"):
        found = list(checks.machine(dataset or Path.cwd()))
        if dataset is not None and dataset.exists():
            found += checks.dataset(dataset)
    counts = Counter(check.state for check in found)
    data = {"checks": [asdict(check) for check in found], "counts": dict(counts)}
    total = ", ".join(f"{counts[state]} {state}" for state in ("ok", "info", "warn", "fail") if counts[state])
    console.result(data, "\n".join([*map(_line, found), total]))
    return 1 if counts["fail"] else 0


def _line(check: Finding) -> str:
    text = f"{check.state:<4}  {check.name:<22}  {' '.join(check.found.split())}"
    return f"{text}\n      {'':<22}  fix: {check.fix}" if check.fix else text
