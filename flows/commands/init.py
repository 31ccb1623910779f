"""`pairforge init`: a settings file to start from, in which every option stands with its default and its meaning."""

import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

import degradations
import filters
from flows.console import Console
from storage.errors import SettingsError
from storage.files import publish_bytes

TEMPLATE = Path(__file__).parents[1] / "init.toml"


def init_command(file: Path, *, force: bool, as_json: bool) -> int:
    """Write the settings file; returns the exit status."""
    if file.is_dir():
        raise SettingsError(f"{file} is a folder; name a file, such as {file / 'build.toml'}")
    if file.exists() and not force:
        raise SettingsError(f"{file} exists; name another file, or replace it with --force")
    if not file.absolute().parent.is_dir():
        raise SettingsError(f"{file}: the folder {file.absolute().parent} does not exist; make it first")
    publish_bytes(file, template().encode())
    text = f"{file} is written: set output and source.folder in it, then run `pairforge build {file}`"
    Console(as_json=as_json).result({"settings": str(file)}, text)
    return 0


def template() -> str:
    """Return the settings file; degradations and filters of which it says nothing are added from their code."""
    text = TEMPLATE.read_text(encoding="utf-8")
    return "\n\n".join([text.rstrip("\n"), *_tables_missing_in(text)]) + "\n"


def _tables_missing_in(text: str) -> Iterator[str]:
    owners: dict[str, type[BaseModel]] = {}
    owners |= {f"degradations.{name}": degradations.load(name).options for name in degradations.names()}
    owners |= {f"filters.{name}": filters.load(name) for name in filters.names()}
    for name, options in owners.items():
        if f"[{name}]" not in text:
            values = options().model_dump(mode="json").items()
            yield "\n".join([f"[{name}]", *(_line(option, value) for option, value in values)])


def _line(option: str, value: object) -> str:
    return f"# {option} is not set" if value is None else f"#{option} = {json.dumps(value)}"
