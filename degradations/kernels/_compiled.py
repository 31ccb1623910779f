"""Compile inner loops to machine code by numba, once for a machine, and to the same bytes on every machine.

Without `fastmath` LLVM neither reorders sums nor contracts a product and a sum into one rounding, and kernels call no
function of the C library (`kernels/_exponential.py` has the one they need): each result is what IEEE 754 says of the
operations as they are written, whatever the width of the machine's vectors.

Code is kept on disk in a folder that is named after the source of all kernels, since numba looks at one file only and
kernels use each other. One process compiles at a time and others wait for it, so that the workers of a build, which
start together, do it once.
"""

import contextlib
import fcntl
import hashlib
import inspect
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

import numba

P = ParamSpec("P")
R = TypeVar("R")

KERNELS = Path(__file__).parent
_PIECE = {"error_model": "numpy", "_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
KEPT_DAYS = 30  # after its last use, machine code of another version


def compiled(signature: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return the decorator that compiles a function for arguments of the types in `signature`, as numba writes them.

    One signature only: a float64 that slips in is an error, not a second, slower kernel. Arrays that are not called
    `out` may be read-only, and a kernel that writes to one does not compile.
    """

    def compile_now(function: Callable[P, R]) -> Callable[P, R]:
        folder = kept_in()
        if folder is None:  # nowhere to write: each process compiles for itself
            return _machine_code(function, signature)
        with _alone(folder):
            try:
                return _machine_code(function, signature, folder)
            except numba.core.errors.NumbaError:
                raise  # the kernel is at fault
            except Exception:  # a damaged file fails in any way, and a full disk: the next process tries again
                for file in folder.rglob(f"*.{function.__name__}-*"):
                    file.unlink(missing_ok=True)
                return _machine_code(function, signature)

    return compile_now


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` as a piece of kernels: compiled into each that calls it.

    Pieces neither make arrays nor return any: memory is their kernel's, and a slice is not counted as one more
    reference to it, which takes two locked instructions, or 12 ns: 40 values of a blur. Nobody but kernels calls them:
    what Python or C needs for that is left out, a sixth of the time that all kernels take to compile.
    """
    piece: Callable[P, R] = numba.njit(function, **_PIECE)
    return piece


def inlined_in(kind: Literal["int32", "uint16"]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return the decorator that makes a function of whole numbers a piece of kernels whose variables are all `kind`.

    numba alone widens a sum of two int32 to int64, of which a vector holds half as many.
    """

    def inline(function: Callable[P, R]) -> Callable[P, R]:
        code = function.__code__
        kinds = dict.fromkeys(code.co_varnames[code.co_argcount :], getattr(numba, kind))
        piece: Callable[P, R] = numba.njit(function, locals=kinds, **_PIECE)
        return piece

    return inline


def kept_in() -> Path | None:
    """Return the folder for compiled kernels, or None if none can be written.

    It is in NUMBA_CACHE_DIR if that is set; else in the user's cache, else beside the source.
    """
    named = numba.config.CACHE_DIR
    for place in (named,) if named else ("~/.cache/pairforge", KERNELS / "__pycache__"):
        with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: a user without a home
            folder = Path(place).expanduser() / f"kernels-{_digest()}"
            is_new = not folder.exists()
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "lock").touch()
            if is_new:
                _remove_old(folder.parent)
            return folder
    return None


def _remove_old(place: Path) -> None:
    """Remove the folders of other versions' kernels in `place` that no process has used for KEPT_DAYS.

    Who uses a folder touches its lock. One is renamed before it is emptied, so that none is ever found half empty.
    """
    oldest = time.time() - KEPT_DAYS * 86400
    for lock in place.glob("kernels-*/lock"):
        with contextlib.suppress(OSError):  # another process was first, or it is not ours to remove
            if lock.stat().st_mtime < oldest:
                shutil.rmtree(lock.parent.rename(place / f"removed-{os.getpid()}-{lock.parent.name}"))


def _digest() -> str:
    """Return what tells the source of the kernels from any other."""
    files = sorted(KERNELS.glob("*.py"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _machine_code(function: Callable[P, R], signature: str, folder: Path | None = None) -> Callable[P, R]:
    types, result = numba.core.sigutils.normalize_signature(signature)
    names = inspect.signature(function).parameters
    read = [_read_only(kind) if not name.startswith("out") else kind for name, kind in zip(names, types, strict=True)]
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder or before)
    try:
        compile_for = numba.njit(result(*read), nogil=True, error_model="numpy", cache=folder is not None)
        code: Callable[P, R] = compile_for(function)
    finally:
        numba.config.CACHE_DIR = before
    return code


def _read_only(kind: Any) -> Any:  # numba has no types for its types
    return kind.copy(readonly=True) if isinstance(kind, numba.types.Array) else kind


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder`; where there is none, or no locks at all, several may compile the same."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            fcntl.flock(held.enter_context((folder / "lock").open("rb")), fcntl.LOCK_EX)
        yield
