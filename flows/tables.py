"""TOML tables and what is wrong with them, in one sentence that names the file, the key and the fix."""

import dataclasses
import difflib
import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from storage.errors import SettingsError

_NO_TABLE = ("model_type", "model_attributes_type", "dict_type", "dataclass_type")
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


def read_table(file: Path, *, missing: str) -> dict[str, Any]:
    """Return what is in TOML (or JSON) `file`; missing: what to do when there is none. Raises SettingsError."""
    try:
        text = file.read_text(encoding="utf-8")
        content: dict[str, Any] = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except FileNotFoundError as error:
        raise SettingsError(f"{file} does not exist; {missing}") from error
    except IsADirectoryError as error:
        raise SettingsError(f"{file} is a folder; name a TOML file, or build it with --out DATASET") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file} is not UTF-8 text: {error}; name a TOML file") from error
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}; change its rights") from error
    except (tomllib.TOMLDecodeError, json.JSONDecodeError) as error:
        raise SettingsError(
            f"{file} is not valid {file.suffix[1:].upper() or 'TOML'}: {error}; mend that line"
        ) from error
    return content


def sentence(
    error: ValidationError,
    siblings: Callable[[list[str]], list[str]],
    *,
    table: str = "",
    instead: Mapping[str, str] | None = None,
) -> str:
    """Return what is wrong first, with the key's full name and, for an unknown one, the nearest that is known.

    siblings: the keys of a table. table: what stands before the places in `error`. instead: by the first table, what
    may stand in place of a table below it.
    """
    first = error.errors(include_url=False)[0]
    places = [table, *(str(part) for part in first["loc"] if not _is_union_label(part))]
    places = [part for part in places if part]
    key = ".".join(places)
    if first["type"] == "missing":
        return f"{key} is missing; add it"
    if first["type"] in _UNKNOWN:
        return f"{key} is not a setting; {_nearest(places, siblings)}"
    if first["type"] in _NO_TABLE:
        also = (instead or {}).get(places[0], "") if len(places) > 1 else ""
        return f"{key} must be a table of options{also}, got {_shown(first['input'])}; write [{key}] above its keys"
    message = first["msg"].removeprefix("Value error, ")
    told = f"{key or 'the file'}: {message[0].lower() + message[1:]}"
    return told if first["type"] == "value_error" and isinstance(first["input"], Mapping) else _got(told, first)


def fields_at(kind: Any, path: list[str]) -> list[str]:
    """Return the keys of the table at `path` below a model or record."""
    for part in path:
        kind = _table_in(_annotations(kind)[part])
    return list(_annotations(kind))


def _got(told: str, first: Any) -> str:
    return f"{told}, got {_shown(first['input'])}"


def _annotations(kind: Any) -> dict[str, Any]:
    if dataclasses.is_dataclass(kind):
        return {field.name: field.type for field in dataclasses.fields(kind)}
    return {name: field.annotation for name, field in kind.model_fields.items()}


def _table_in(annotation: Any) -> Any:
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    return next(
        item
        for item in candidates
        if isinstance(item, type) and (issubclass(item, BaseModel) or dataclasses.is_dataclass(item))
    )


def _is_union_label(part: object) -> bool:
    return isinstance(part, str) and (part[:1].isupper() or part.startswith("literal["))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _nearest(places: list[str], siblings: Callable[[list[str]], list[str]]) -> str:
    names = sorted(siblings(places[:-1])) or ["no setting"]
    close = difflib.get_close_matches(places[-1], names, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known there: {', '.join(names)}"
