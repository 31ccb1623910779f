"""Is the machine fit for a build: folders, server, cluster, memory, limits? And is a dataset whole?

A check changes nothing that stays. Each is a function whose arguments, if any, have the defaults of this machine, so
that a test can make a fault and see it named.
"""

import contextlib
import fcntl
import locale
import os
import resource
import shutil
import socket
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

from flows.checks_installed import installed
from flows.checks_models import backends
from flows.findings import Finding, State, finding
from flows.quiet import data_folder

GIGABYTE = 10**9
LEAST_DISK, GOOD_DISK = 1 * GIGABYTE, 10 * GIGABYTE
MEMORY_PER_WORKER = 1 * GIGABYTE  # one that renders 12 Mpx stays below
SHARED_MEMORY = 150 * 2**20  # Ray's object store takes 100 MiB
SOCKET_PATH = 107  # bytes that Linux allows
SOCKET = "ray/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"
OPEN_FILES, PROCESSES = 1024, 512
REACH = 3.0  # seconds


def machine(output: Path) -> Iterator[Finding]:
    """Yield every finding about this machine; a dataset would be made in `output`."""
    yield from installed()
    yield from backends()
    for look in (data_writable, temporary, kernels, socket_path, server, profile, cluster, cores, memory):
        yield from look()
    for look in (open_files, processes, encoding, clock, umask, failpoint):
        yield from look()
    for look_at in (output_writable, disk, file_system):
        yield from look_at(output)


def data_writable() -> Iterator[Finding]:
    """The data folder, which holds Prefect's database, can be written."""
    yield _writable("data folder", data_folder(), "export XDG_DATA_HOME=<a folder you may write>")


def temporary() -> Iterator[Finding]:
    """The folder for temporary files can be written."""
    yield _writable("temporary folder", Path(tempfile.gettempdir()), "export TMPDIR=<a folder you may write>")


def kernels() -> Iterator[Finding]:
    """What numba compiles of the degradations is kept, so that processes need not do it again."""
    try:
        from degradations.kernels._compiled import kept_in
    except ImportError:  # told of already
        return
    folder = kept_in()
    found = "kept nowhere: every process compiles for some ten seconds" if folder is None else f"kept in {folder}"
    fix = "export NUMBA_CACHE_DIR=<a folder you may write>"
    yield finding("compiled loops", folder is not None, found, fix, otherwise="warn")


def output_writable(output: Path) -> Iterator[Finding]:
    """A dataset can be written where it would go."""
    yield _writable("output folder", output, "name another output, or change its rights")


def socket_path() -> Iterator[Finding]:
    """Ray's sockets have short enough names."""
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108
    length = len(os.fsencode(Path(folder) / SOCKET))
    found = f"{length} of {SOCKET_PATH} bytes below {folder}"
    yield finding("socket path", length <= SOCKET_PATH, found, "export RAY_TMPDIR=/tmp")


def server() -> Iterator[Finding]:
    """The Prefect server in PREFECT_API_URL answers, or a port is free for one of our own."""
    from flows.server import health

    if url := os.environ.get("PREFECT_API_URL", "").rstrip("/"):
        problem = health(url, seconds=REACH)
        fix = "start that server, or unset PREFECT_API_URL"
        yield finding("prefect server", problem is None, f"{url}: {problem or 'healthy'}", fix)
        return
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
        yield finding("prefect server", good=True, found="a local one is started for each run")
    except OSError as error:
        found = f"no port can be had on 127.0.0.1: {error}"
        yield finding("prefect server", good=False, found=found, fix="ip link set lo up")


def profile(folder: Path | None = None) -> Iterator[Finding]:
    """A Prefect profile that names a server is not used: only the environment variable counts."""
    file, url = (folder or Path.home() / ".prefect") / "profiles.toml", ""
    with contextlib.suppress(OSError, ValueError, KeyError, AttributeError):
        content = tomllib.loads(file.read_text(encoding="utf-8"))
        url = content["profiles"][content["active"]].get("PREFECT_API_URL", "")
    ignored = url and not os.environ.get("PREFECT_API_URL")
    found = f"{file} names {url}, which is not used" if ignored else "none is needed"
    yield finding("prefect profile", not ignored, found, f"export PREFECT_API_URL={url}", otherwise="warn")


def cluster() -> Iterator[Finding]:
    """The Ray cluster at RAY_ADDRESS can be reached, or there is shared memory for a local one."""
    address = os.environ.get("RAY_ADDRESS", "")
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        problem = ""
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=REACH).close()
        except (OSError, OverflowError) as error:
            problem = str(error)
        yield finding(
            "ray", not problem, f"{address}: {problem or 'answers'}", "start that cluster, or unset RAY_ADDRESS"
        )
        return
    free = shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_dir() else 0  # noqa: S108
    found = f"a local cluster is started; {free / 2**20:.0f} MiB of shared memory are free"
    fix = "mount -o remount,size=1G /dev/shm (a container: --shm-size=1g)"
    yield finding("ray", free >= SHARED_MEMORY, found, fix, otherwise="warn")


def cores() -> Iterator[Finding]:
    """There are cores to work with."""
    count = len(os.sched_getaffinity(0))
    yield finding("cores", count > 1, str(count), "more cores build faster", otherwise="info")


def memory(total: int | None = None) -> Iterator[Finding]:
    """There is memory for a worker on every core."""
    total = _memory() if total is None else total
    count = len(os.sched_getaffinity(0))
    affordable = total // MEMORY_PER_WORKER - 1
    found = f"{total / GIGABYTE:.1f} GB for {count} workers"
    yield finding(
        "memory", affordable >= count, found, f"pairforge build ... --workers {max(1, affordable)}", otherwise="warn"
    )


def open_files() -> Iterator[Finding]:
    """Enough files may be open at once."""
    yield _limit("open files", resource.RLIMIT_NOFILE, OPEN_FILES, "ulimit -n 4096")


def processes() -> Iterator[Finding]:
    """Enough processes and threads may run."""
    yield _limit("processes", resource.RLIMIT_NPROC, PROCESSES, "ulimit -u 4096")


def encoding(names: str | None = None, text: str | None = None) -> Iterator[Finding]:
    """Names of files and texts are UTF-8."""
    names, text = names or sys.getfilesystemencoding(), text or locale.getpreferredencoding(False)
    both = {names.lower(), text.lower()} <= {"utf-8", "utf8"}
    state: State = "warn" if names.lower() == "utf-8" else "fail"
    yield finding("encoding", both, f"files {names}, text {text}", "export LC_ALL=C.UTF-8", otherwise=state)


def clock(now: float | None = None) -> Iterator[Finding]:
    """The clock is not behind the code."""
    now = time.time() if now is None else now
    written = Path(__file__).stat().st_mtime
    found = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    yield finding("clock", now > written - 86_400, found, "timedatectl set-ntp true", otherwise="warn")


def umask() -> Iterator[Finding]:
    """We may read what we write."""
    mask = os.umask(0o077)
    os.umask(mask)
    yield finding("umask", not mask & 0o700, f"{mask:04o}", "umask 022")


def failpoint() -> Iterator[Finding]:
    """No failpoint of a test is left in the environment."""
    left = os.environ.get("PAIRFORGE_FAILPOINT", "")
    yield finding("failpoint", not left, left or "none", "unset PAIRFORGE_FAILPOINT")


def disk(output: Path) -> Iterator[Finding]:
    """There is room for a dataset."""
    folder = _existing(output)
    free = shutil.disk_usage(folder).free
    fix = f"free some space at {folder}, or name another output"
    state: State = "warn" if free >= LEAST_DISK else "fail"
    yield finding("disk", free >= GOOD_DISK, f"{free / GIGABYTE:.1f} GB free at {folder}", fix, otherwise=state)


def file_system(output: Path) -> Iterator[Finding]:
    """The file system can lock, link and name files as a dataset needs."""
    folder = _existing(output)
    try:
        with tempfile.TemporaryDirectory(dir=folder) as there:
            lacking = list(_lacking(Path(there)))
    except OSError as error:
        yield finding("file system", good=False, found=f"{folder}: {error.strerror}", fix="name another output")
        return
    state: State = "warn" if lacking == ["hard links"] else "fail"  # without them shards are copied
    found = f"no {', no '.join(lacking)} at {folder}" if lacking else "locks, hard links, UTF-8 names"
    yield finding("file system", not lacking, found, "name an output on a local disk", otherwise=state)


def dataset(root: Path) -> Iterator[Finding]:
    """Yield every finding about the dataset at `root`."""
    from storage.errors import PairForgeError
    from storage.lease import holder
    from storage.manifest import read_manifest

    held = holder(root)
    yield finding("lease", not held, held or "free", "wait for that build, or end it", otherwise="warn")
    try:
        manifest = read_manifest(root)
    except (PairForgeError, OSError) as error:
        yield finding("manifest", good=False, found=str(error), fix="run pairforge build again: it resumes")
        return
    yield finding("manifest", good=True, found=f"version {manifest.dataset_version}")
    entries = (*manifest.shards, *manifest.files)
    odd = [entry.name for entry in entries if _size(root / entry.name) != entry.bytes]
    found = f"{len(odd)} missing or of another size: {odd[0]}" if odd else f"all {len(entries)} are there"
    yield finding("files", not odd, found, f"pairforge verify {root}; then pairforge build again")
    size = sum(_size(path) for path in (root / ".work").rglob("*") if path.is_file())
    fix = f"rm -r {root / '.work'} (when no build runs; the next one starts anew)"
    found = f"{size / GIGABYTE:.2f} GB that only a build needs"
    yield finding("work files", size < GIGABYTE, found, fix, otherwise="info")


def _existing(path: Path) -> Path:
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())


def _writable(name: str, folder: Path, fix: str) -> Finding:
    if folder.exists() and not folder.is_dir():
        return finding(name, good=False, found=f"{folder} is a file", fix=fix)
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)) as file:
            file.write(b"-")
    except OSError as error:
        return finding(name, good=False, found=f"{folder}: {error.strerror}", fix=fix)
    return finding(name, good=True, found=str(folder))


def _limit(name: str, kind: int, least: int, fix: str) -> Finding:
    soft, _ = resource.getrlimit(kind)
    endless = soft == resource.RLIM_INFINITY
    return finding(name, endless or soft >= least, "unlimited" if endless else str(soft), fix, otherwise="warn")


def _memory() -> int:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # of a container; "max" is no number
        return min(physical, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return physical


def _lacking(folder: Path) -> Iterator[str]:
    first, second = folder / "one", folder / "zw\u00f6lf"
    first.touch()
    try:
        with first.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        yield "locks"
    try:
        os.link(first, folder / "two")
    except OSError:
        yield "hard links"
    try:
        second.touch()
    except (OSError, UnicodeError):
        yield "UTF-8 names"


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1
