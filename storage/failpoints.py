"""Named places where a test may cut a publication short.

PAIRFORGE_FAILPOINT="data.before_rename:kill@3" kills the process when it comes to that place for the third time. This
is the one environment variable read below `flows`: the places to cut lie in Ray workers and in killed children, to
which no settings object can be handed without every function in between carrying an argument for tests.
"""

import errno
import os
import signal
from collections import Counter

VARIABLE = "PAIRFORGE_FAILPOINT"
KINDS = ("data", "commit", "manifest")
PLACES = ("before_write", "before_fsync", "before_rename", "after_rename")
NAMES: tuple[str, ...] = tuple(f"{kind}.{place}" for kind in KINDS for place in PLACES)
ACTIONS = ("kill", "raise", "exit", "enospc")

_times: Counter[str] = Counter()  # how often this process came to each place, counted only while the variable is set


def reach(name: str) -> None:
    """Do what PAIRFORGE_FAILPOINT asks for at `name`: nothing, unless it names this place.

    kill: SIGKILL to this process. exit: end it with status 1, without clean-up. raise: OSError. enospc: the OSError
    of a full disk. "@n" waits for the n-th time in this process, 1 by default. Raises ValueError for an unknown name
    here or in the variable.
    """
    if name not in NAMES:
        raise ValueError(f"no failpoint is called {name!r}; there are {', '.join(NAMES)}")
    setting = os.environ.get(VARIABLE)
    if not setting:
        return
    wanted, action, at = _parse(setting)
    if wanted != name:
        return
    _times[name] += 1
    if _times[name] == at:
        _act(name, action)


def _parse(setting: str) -> tuple[str, str, int]:
    name, _, rest = setting.partition(":")
    action, _, at = rest.partition("@")
    if name not in NAMES or action not in ACTIONS or not (at or "1").isdecimal():
        raise ValueError(f"{VARIABLE} must be <name>:<{'|'.join(ACTIONS)}>[@n], got {setting!r}")
    return name, action, int(at or 1)


def _act(name: str, action: str) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "exit":
        os._exit(1)
    elif action == "enospc":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
    else:
        raise OSError(errno.EIO, os.strerror(errno.EIO), name)
