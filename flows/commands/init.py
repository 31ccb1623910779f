"""`pairforge init`: a settings file to start from, in which every option stands with its default and its meaning."""

import json
from collections.abc import Mapping
from itertools import starmap
from pathlib import Path
from typing import Any

from flows.console import Console
from flows.settings import parse_settings
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
    """Return the settings file; tables of which the template says nothing are added from their defaults."""
    text = TEMPLATE.read_text(encoding="utf-8")
    missing = [table for name, table in _tables(defaults()).items() if f"[{name}]" not in text]
    return "\n\n".join([text.rstrip("\n"), *missing]) + "\n"


def defaults() -> dict[str, Any]:
    """Return the resolved settings of the smallest file."""
    least = {"seed": 0, "output": "dataset", "source": {"folder": "photographs"}}
    return parse_settings(least, origin="the defaults", base=Path.cwd()).resolved()


def _tables(content: Mapping[str, Any], at: str = "") -> dict[str, str]:
    """Return every table below `content` by its dotted name, as TOML with its keys commented."""
    found: dict[str, str] = {}
    for name, value in content.items():
        if isinstance(value, Mapping) and (value or at in ("degradations.", "filters.")):  # other empty ones are values
            plain = {key: inner for key, inner in value.items() if not isinstance(inner, Mapping)}
            if plain or not value:
                found[f"{at}{name}"] = "\n".join([f"[{at}{name}]", *starmap(_line, plain.items())])
            found |= _tables(value, f"{at}{name}.")
    return found


def _line(option: str, value: object) -> str:
    return f"# {option} is not set" if value is None else f"#{option} = {json.dumps(value)}"
