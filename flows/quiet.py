"""The environment in which Prefect and Ray stay silent, set before either is imported: standard library only."""

import os
import secrets
from pathlib import Path

# What the user has set stays: somebody who asks for Prefect's log, or names a server, means it.
PREFECT = {
    "DO_NOT_TRACK": "1",  # Prefect's SDK sends telemetry otherwise
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}
RAY = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # actors see the GPUs they did not ask for; else a FutureWarning
    "RAY_DEDUP_LOGS": "1",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # else a paragraph per dead worker on stdout, whatever log_to_driver says
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # of calls that were given up with their wave
    "RAY_USAGE_STATS_ENABLED": "0",
}


def silence(data_folder: Path) -> None:
    """Set what keeps the terminal ours. PREFECT_HOME moves to `data_folder`, which hides the user's Prefect profile."""
    for name, value in PREFECT.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's, as on workers: products end in other digits with more
    os.environ.setdefault("PREFECT_HOME", str(data_folder / "prefect"))
    silence_ray()


def silence_ray() -> None:
    """Set Ray's part alone: all there is to do where a Prefect worker starts the flow, whose log belongs to it."""
    for name, value in RAY.items():
        os.environ.setdefault(name, value)
    if not os.environ.get("RAY_ADDRESS"):
        # A local Ray listens on every interface: only who knows the token may send it work.
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def data_folder() -> Path:
    """Return the user's data folder for PairForge, which holds Prefect's database and the server's log."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "pairforge"
