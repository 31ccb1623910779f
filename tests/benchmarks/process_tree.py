"""What a command and everything it starts cost: CPU-seconds and peak memory by role, from /proc.

Every process of a run carries a mark in its environment, which all it starts inherit, whoever their parent becomes.
They are looked at every 50 ms; what counts is the last look at each: its user and system time, so at most 50 ms a
process are missed, and its high-water mark of resident memory, which misses nothing but growth after the last look.
Neither RUSAGE_CHILDREN nor a sum over parents would do: Ray's workers are nobody's waited-for children when they end.
"""

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOOK = 0.05  # seconds between two looks
TICK = os.sysconf("SC_CLK_TCK")
MARK = "PAIRFORGE_BENCHMARK"
ROLES = {  # role -> what tells it from the command line; the first that fits
    "server": ("prefect server", "prefect.server", "uvicorn"),
    "worker": ("ray::", "default_worker.py", "multiprocessing"),
    "ray": ("gcs_server", "raylet", "ray/dashboard", "ray/_private", "runtime_env"),
}


@dataclass(slots=True)
class Process:
    """The last look at one process."""

    role: str
    cpu: float = 0.0
    peak: int = 0


@dataclass(slots=True)
class Cost:
    """What a command came to. cpu: seconds by role; peak: bytes of the largest process of a role; wall: seconds."""

    cpu: dict[str, float]
    peak: dict[str, int]
    wall: float
    output: str = field(repr=False)

    @property
    def total(self) -> float:
        return sum(self.cpu.values())


def cost_of(command, **environment) -> Cost:
    """Run `command` to its end; raises AssertionError with what it said when it fails."""
    mark = f"{os.getpid()}-{time.monotonic_ns()}"
    known = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "RAY"))}
    seen: dict[tuple[int, int], Process] = {}
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(mark, seen, ended), daemon=True)
    began = time.monotonic()
    process = subprocess.Popen(
        [str(item) for item in command],
        cwd=ROOT,
        env={**known, "PYTHONPATH": str(ROOT), **environment, MARK: mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    watcher.start()
    output = process.communicate()[0]
    wall = time.monotonic() - began
    ended.set()
    watcher.join()
    assert process.returncode == 0, output
    roles = sorted({item.role for item in seen.values()})
    cpu = {role: sum(item.cpu for item in seen.values() if item.role == role) for role in roles}
    peak = {role: max(item.peak for item in seen.values() if item.role == role) for role in roles}
    return Cost(cpu=cpu, peak=peak, wall=wall, output=output)


def pairforge(*arguments):
    """Return the command that runs `pairforge` with `arguments`."""
    return [sys.executable, "-m", "flows", *arguments]


def _watch(mark, seen, ended):
    known: dict[int, tuple[int, bool]] = {}  # pid -> when it started and whether it is ours
    last = False
    while not last:
        last = ended.wait(LOOK)
        pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        known = {pid: known[pid] for pid in pids if pid in known}
        for pid in pids:
            _look(pid, mark, known, seen)


def _look(pid, mark, known, seen):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        started = int(stat[19])
        if pid not in known or known[pid][0] != started:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            if not environment:  # between fork and exec, or a process of the kernel
                return
            known[pid] = started, f"{MARK}={mark}".encode() in environment
        if not known[pid][1]:
            return
        process = seen.setdefault((pid, started), Process(role="driver"))
        process.role = _role(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()) or process.role
        process.cpu = (int(stat[11]) + int(stat[12])) / TICK
        process.peak = max(process.peak, _high_water(pid))
    except (OSError, IndexError):
        return  # it ended meanwhile


def _role(command):
    return next((role for role, words in ROLES.items() if any(word in command for word in words)), None)


def _high_water(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)
