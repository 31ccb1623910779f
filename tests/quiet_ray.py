"""The environment of a Ray that is started in the process of the tests."""

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from flows.quiet import silence

TOKEN = secrets.token_hex(32)  # one for all: Ray reads it once a process


@contextmanager
def quiet_ray() -> Iterator[None]:
    """Silence Ray for as long as this lasts; modules beside the tests can be imported here and on its workers."""
    tests = str(Path(__file__).parent)
    variables = {"PYTHONPATH": tests, "RAY_AUTH_TOKEN": TOKEN}
    with patch.dict(os.environ, variables), patch.object(sys, "path", [tests, *sys.path]):
        os.environ.pop("RAY_ADDRESS", None)
        silence(Path("/nonexistent"))
        yield
