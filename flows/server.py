"""The Prefect server of a run: the one in PREFECT_API_URL, else one of our own for as long as the run.

Our own keeps its database in the user's data folder, listens on loopback only and logs to a file. It dies with this
process, even after kill -9, and is started again on the same port when it dies before. Nothing here imports prefect at
module level: the server is launched first, so that it starts while prefect and ray are imported.
"""

import contextlib
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Self

from flows import quiet
from storage.errors import PairForgeError
from tasks.units import Interrupted

log = logging.getLogger(__name__)

Progress = Callable[[str, float], None]  # what is waited for, and the seconds so far

PORTS = (20_000, 32_000)  # below those that the system hands out, so that nobody gets ours before the server has it
GIVEN_SERVER = 5.0  # seconds a given server has to answer
START = 120.0  # seconds our own may take; 5 are usual, 10 with a new database
GRACE = 5.0  # seconds from SIGTERM to SIGKILL
LOOK = 0.1  # seconds between two looks
RESTARTS = 3
LOG_BYTES = 2**20

# The server gets SIGTERM when the thread that starts it ends. A wrapper asks for that, not preexec_fn, which would run
# Python between fork and exec of a process with Ray's threads.
# Where this process died before the wrapper could ask, its parent is another one.
LEASH = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


class LocalServer:
    """A context manager: launches the server on entry without waiting for it; call `wait` before the first flow."""

    def __init__(self, data_folder: Path | None = None, *, progress: Progress = lambda what, seconds: None) -> None:
        self._folder = data_folder or quiet.data_folder()
        self._progress = progress
        self._keeper: _Keeper | None = None
        self.url = ""

    def __enter__(self) -> Self:
        self.launch()
        return self

    def __exit__(self, *error: object) -> None:
        if error and error[0] is Interrupted:
            return  # this process ends now and its server with it, without anybody waiting for that
        if self._keeper is not None:
            self._keeper.stop()
            os.environ.pop("PREFECT_API_URL", None)

    def launch(self) -> None:
        """Check the server in PREFECT_API_URL, or begin to start one and set that variable for this process.

        Raises PairForgeError when the given server does not answer.
        """
        self.url = os.environ.get("PREFECT_API_URL", "").rstrip("/")
        if self.url:
            _check_given(self.url)
            return
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}/api"
        os.environ["PREFECT_API_URL"] = self.url
        _bypass_proxies()
        self._keeper = _Keeper(self._folder, port)
        self._keeper.start()

    def wait(self) -> str:
        """Return the server's URL once it is healthy; raises PairForgeError naming its log when it does not start."""
        begun = told = time.monotonic()
        while self._keeper is not None and not self.alive():
            seconds = time.monotonic() - begun
            if self._keeper.gave_up or seconds > START:
                raise PairForgeError(f"the local Prefect server did not start; {self._keeper.log} says why")
            if time.monotonic() - told > 1:
                told = time.monotonic()
                self._progress("starting the local Prefect server", seconds)
            time.sleep(LOOK)
        _refresh_prefect()
        return self.url

    def alive(self) -> bool:
        """Tell whether the server answers now."""
        return health(self.url, seconds=1.0) is None


class _Keeper(threading.Thread):
    """Runs the server as its child and starts it again when it dies; the thread lives as long as the server may."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(name="prefect-server", daemon=True)
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "prefect-server.log"
        self.gave_up = False
        self._environment = _server_environment(folder)
        self._command = _server_command(port)
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._launching = threading.Lock()

    def run(self) -> None:
        for start in range(1 + RESTARTS):
            with self._launching:
                if self._stopping.is_set():
                    return
                self._process = self._launch()
            status = self._process.wait()
            if self._stopping.is_set():
                return
            log.warning("the local Prefect server ended with status %d, start %d; see %s", status, start + 1, self.log)
        self.gave_up = True

    def stop(self) -> None:
        """End the server and everything it started, by force when it does not go."""
        self._stopping.set()
        with self._launching:
            process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        self.join(GRACE)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        self.join()

    def _launch(self) -> subprocess.Popen[bytes]:
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as output:
            return subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def _check_given(url: str) -> None:
    if problem := health(url, seconds=GIVEN_SERVER):
        fix = "start that server, correct PREFECT_API_URL or unset it to use a local one"
        raise PairForgeError(f"no Prefect server answers at {url} ({problem}): {fix}")


def health(url: str, *, seconds: float) -> str | None:
    """Return what is wrong with the server at `url`, None if it is healthy."""
    try:
        request = urllib.request.Request(f"{url}/health", headers=_credentials())  # noqa: S310
        with urllib.request.urlopen(request, timeout=seconds):  # noqa: S310
            return None
    except urllib.error.HTTPError as error:
        error.close()
        return f"HTTP {error.code}"
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))


def _credentials() -> dict[str, str]:
    from base64 import b64encode

    if key := os.environ.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    if auth := os.environ.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {b64encode(auth.encode()).decode()}"}
    return {}


def _bypass_proxies() -> None:
    """Keep Prefect's client from asking a proxy for the loopback address."""
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1"]))


def _server_environment(folder: Path) -> dict[str, str]:
    own = {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_LOGGING_LEVEL": "WARNING",  # to the log file
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",  # the default loses most of a burst at the end
        "DO_NOT_TRACK": "1",
    }
    return {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"} | own


def _server_command(port: int) -> list[str]:
    server = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    return [sys.executable, "-I", "-S", "-c", LEASH, str(os.getpid()), *server]


def _free_port() -> int:
    for _ in range(100):
        port = PORTS[0] + secrets.randbelow(PORTS[1] - PORTS[0])
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise PairForgeError(f"no free port between {PORTS[0]} and {PORTS[1]} for the local Prefect server")


def _refresh_prefect() -> None:
    """Let a prefect that was imported before the server was launched see PREFECT_API_URL."""
    if "prefect" in sys.modules:
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()
