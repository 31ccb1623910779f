"""What the terminal shows: progress on standard error, the result on standard output.

On a terminal one line is rewritten in place; in a pipe or a log there are plain lines, one at least every few seconds
while something is under way.
"""

import json
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from flows.observers import StageCount

QUIET_SECONDS = 4.0  # a plain line at least this often
FRAME_SECONDS = 0.1


class Console:
    """Where a command speaks. as_json: the result is printed as JSON; progress is the same."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self._live = sys.stderr.isatty()
        self._shown, self._line, self._last, self._doing = 0.0, "", "", ""

    def say(self, text: str) -> None:
        """Say one thing that stays."""
        self._clear()
        click.echo(text, err=True)
        self._shown, self._last = time.monotonic(), text

    def progress(self, text: str, *, final: bool = False) -> None:
        """Show where the work is; `final` lets the line stay."""
        if self._live:
            self._show(text, final=final)
        elif time.monotonic() - self._shown >= QUIET_SECONDS or (final and text != self._last):
            self.say(text)

    def waiting(self, what: str, seconds: float) -> None:
        """Show that `what` takes a while."""
        self.progress(f"{what} ... {seconds:.0f} s")

    def doing(self, what: str) -> None:
        """Say from now on that `what` goes on, while the terminal is busy."""
        self._doing = what

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Never be silent in this block: a thread beside it says what goes on whenever nothing else was shown."""
        self._doing = what
        ended = threading.Event()

        def tick() -> None:
            began = time.monotonic()
            while not ended.wait(0.5):
                if time.monotonic() - self._shown > 1:
                    self.waiting(self._doing, time.monotonic() - began)

        thread = threading.Thread(target=tick, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def watch(self, stage: str, count: StageCount, final: bool) -> None:
        """Show how far a stage is, and for how much longer."""
        if not count.total:
            return
        fresh, left = count.done - count.resumed, ""
        if fresh and not final:
            left = f", {duration(count.seconds / fresh * (count.total - count.done))} left"
        text = f"{stage:<15} {count.done}/{count.total} work shards, {count.items} items{left}"
        self._doing = f"{stage} is done" if final else text
        self.progress(text, final=final)

    def result(self, data: Mapping[str, Any], text: str) -> None:
        """Print the result of the command, as text or as JSON."""
        self._clear()
        click.echo(json.dumps(data, indent=1, ensure_ascii=False) if self.as_json else text)

    def _show(self, text: str, *, final: bool) -> None:
        if not final and time.monotonic() - self._shown < FRAME_SECONDS:
            return
        columns = shutil.get_terminal_size().columns
        line = text if len(text) < columns else text[: columns - 1]
        click.echo(f"\r\x1b[2K{line}" + ("\n" if final else ""), err=True, nl=False)
        self._shown, self._line = time.monotonic(), "" if final else line

    def _clear(self) -> None:
        if self._live and self._line:
            click.echo("\r\x1b[2K", err=True, nl=False)
            self._line = ""


def duration(seconds: float) -> str:
    """Return seconds as a person says them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
