"""Whoever watches a training reads its `metrics.jsonl` as it grows: the same way for one process and for many.

The driver of a training on Ray has nothing else to go by, so nothing else is used in this process either.
"""

import contextvars
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

SECONDS = 0.5  # between two looks


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Where a training is. numbers: the latest of every name. seconds_left: None until a step was timed."""

    step: int
    steps: int
    numbers: Mapping[str, float] = field(default_factory=dict)
    fresh: Mapping[str, float] = field(default_factory=dict)

    @property
    def seconds_left(self) -> float | None:
        """Return how long the rest takes at the pace of the last steps."""
        pace = self.numbers.get("perf/step_s")
        return None if pace is None else pace * (self.steps - self.step)

    def text(self) -> str:
        """Return one line for a person."""
        parts = [f"step {self.step}/{self.steps}"]
        parts += [
            f"{name.replace('train/', '').replace('val/', 'validation ')} {self.numbers[name]:.4g}"
            for name in ("train/loss", "val/loss")
            if name in self.numbers
        ]
        if "val/gain" in self.numbers:
            parts.append(f"gain {self.numbers['val/gain']:+.2f} dB")
        return ", ".join(parts)


Follower = Callable[[Moment], None]


class Following:
    """Tells followers about every new line of `file`, from a thread, for as long as the block."""

    def __init__(self, file: Path, steps: int, *followers: Follower) -> None:
        self._file, self._steps, self._followers = file, steps, followers
        self._read, self._step = 0, 0
        self._identity: tuple[int, int] | None = None
        self._numbers: dict[str, float] = {}
        self._ended = threading.Event()
        context = contextvars.copy_context()  # in which a Prefect flow run is known, for what followers tell it
        self._thread = threading.Thread(target=context.run, args=(self._follow,), name="following", daemon=True)

    def __enter__(self) -> Self:
        self._identity = self._found()
        self._read = self._file.stat().st_size if self._identity else 0  # what an earlier run wrote is no news
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._look()

    def _follow(self) -> None:
        while not self._ended.wait(SECONDS):
            self._look()

    def _look(self) -> None:
        found = self._found()
        if found is None:
            return
        if found != self._identity:  # a run that goes on writes the file anew
            self._identity, self._read = found, 0
        with self._file.open("rb") as file:
            file.seek(self._read)
            whole, _, _ = file.read().rpartition(b"\n")
        for line in whole.splitlines():
            self._take(json.loads(line))
        self._read += len(whole) + (1 if whole else 0)

    def _found(self) -> tuple[int, int] | None:
        try:
            stat = self._file.stat()
        except OSError:
            return None
        return stat.st_dev, stat.st_ino

    def _take(self, line: dict[str, Any]) -> None:
        if "header" in line:
            return
        step = line.pop("step")
        self._step = max(self._step, step)
        self._numbers |= line
        moment = Moment(step=step, steps=self._steps, numbers=dict(self._numbers), fresh=line)
        for follower in self._followers:
            follower(moment)
