"""Answers kept in a folder by what was asked: one small file each, written whole or not at all."""

import json
from pathlib import Path

from storage.canonical import encode
from storage.files import publish_bytes

NOTES = "models.json"  # beside the answers: hashes of the weights that gave them


class Answers:
    """A folder of answers; several processes may share it, because the same name always means the same question."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, name: str) -> str | None:
        """Return the answer kept under `name`, a hash in hex; None when there is none, or none that can be read."""
        try:
            found = json.loads(self._path(name).read_bytes())["answer"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if isinstance(found, str) else None

    def write(self, name: str, answer: str) -> None:
        """Keep `answer` under `name`."""
        publish_bytes(self._path(name), encode({"answer": answer}))

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / f"{name}.json"
