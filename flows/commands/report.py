"""`pairforge report`: the HTML report of a dataset again."""

from pathlib import Path

from flows.console import Console
from flows.report import write_report


def report_command(root: Path, *, as_json: bool) -> int:
    """Write the report and print where it is; returns the exit status."""
    console = Console(as_json=as_json)
    with console.busy("writing the report"):
        path = write_report(root)
    size = path.stat().st_size
    console.result({"report": str(path), "bytes": size}, f"{path}: {size / 1e6:.3g} MB")
    return 0
