"""What a check finds: a name, a state, what was there, and the command that mends it."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "info", "warn", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """fix: the command, or the few words, that mends it; empty if nothing need be mended."""

    name: str
    state: State
    found: str
    fix: str = ""


def finding(name: str, good: bool, found: str, fix: str = "", *, otherwise: State = "fail") -> Finding:
    """Return "ok" if `good`, else a finding of state `otherwise` with its fix."""
    return Finding(name=name, state="ok" if good else otherwise, found=found, fix="" if good else fix)
