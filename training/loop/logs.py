"""What a run says of itself: one line of JSON at a time, and whatever else listens."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from storage.errors import SettingsError
from storage.files import publish_bytes


class Log(Protocol):
    """Takes the numbers and pictures of a run. The axis is the optimizer step."""

    def header(self, header: Mapping[str, Any]) -> None:
        """Take what the run is: settings, digest of the data, forecast."""

    def numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        """Take numbers by name, such as train/loss/haze."""

    def picture(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """Take a picture, uint8 (H, W, 3)."""

    def close(self) -> None:
        """Write what is not written yet."""


class JsonLines:
    """`metrics.jsonl`: a header, then a line a step; what a killed run wrote beyond its checkpoint is cut off first."""

    def __init__(self, file: Path, *, step: int) -> None:
        kept = _lines_before(file, step) if file.exists() else []
        publish_bytes(file, "".join(kept).encode())
        self._file = file.open("a", encoding="utf-8")

    def header(self, header: Mapping[str, Any]) -> None:
        """Write the header as a line of its own: each start of the run writes one."""
        self._write({"header": header})

    def numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write the numbers of a step."""
        self._write({"step": step, **numbers})

    def picture(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """Pictures are files of their own."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line, sort_keys=True) + "\n")
        self._file.flush()


def _lines_before(file: Path, step: int) -> list[str]:
    """Return the whole lines that belong to the steps done; a line that a kill cut short is dropped."""
    kept = []
    for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            number = json.loads(line).get("step", 0)
        except ValueError:
            break
        if number <= step and line.endswith("\n"):
            kept.append(line)
    return kept


class Pictures:
    """Pictures as PNG files below `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def header(self, header: Mapping[str, Any]) -> None:
        """Nothing to draw."""

    def numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        """Nothing to draw."""

    def picture(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """Write a picture."""
        from storage.samples import encode_image

        publish_bytes(self._folder / f"{name}-{step:06d}.png", encode_image(image, "png"))

    def close(self) -> None:
        """Nothing is left to write."""


class TensorBoard:
    """The same for TensorBoard. Raises SettingsError when it is not installed."""

    def __init__(self, folder: Path, *, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise SettingsError(
                "run.tensorboard needs the tensorboard package: install PairForge's `train` extra, or set it to false"
            ) from error
        # Steps from `purge_step` on, which a killed run wrote, are hidden.
        self._writer: Any = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def header(self, header: Mapping[str, Any]) -> None:
        """Write the header as text."""
        self._writer.add_text("run", f"```\n{json.dumps(header, indent=1, sort_keys=True)}\n```")

    def numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write scalars."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """Write an image."""
        self._writer.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        """Flush and close."""
        self._writer.close()


class Logs:
    """Several logs as one; a context manager that closes them."""

    def __init__(self, logs: Sequence[Log]) -> None:
        self._logs = list(logs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def header(self, header: Mapping[str, Any]) -> None:
        """Tell all."""
        for log in self._logs:
            log.header(header)

    def numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        """Tell all."""
        for log in self._logs:
            log.numbers(step, numbers)

    def picture(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """Show all."""
        for log in self._logs:
            log.picture(step, name, image)

    def close(self) -> None:
        """Close all."""
        for log in self._logs:
            log.close()
