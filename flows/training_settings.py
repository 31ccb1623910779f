"""The settings of a training: one TOML file, read like those of a build."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flows.tables import fields_at, read_table, sentence
from storage.errors import SettingsError
from tasks.training_options import Options


def read_training(file: Path) -> Options:
    """Return the settings in TOML `file`, paths made absolute; relative ones are relative to the file.

    Raises SettingsError, one sentence that names the file, the key and the fix.
    """
    content = read_table(file, missing="deploy/runs/tiny.toml is one to start from")
    return parse_training(content, origin=str(file), base=file.resolve().parent)


def parse_training(content: Mapping[str, Any], *, origin: str, base: Path) -> Options:
    """Return the settings of a parsed table; `origin` names it in errors, `base` is what paths are relative to."""
    try:
        options = Options.model_validate(content)
    except ValidationError as error:
        raise SettingsError(f"{origin}: {sentence(error, lambda path: fields_at(Options, path))}") from error
    return _absolute(options, base)


def _absolute(options: Options, base: Path) -> Options:
    def path(value: str) -> str:
        return os.path.normpath(base / Path(value).expanduser()) if value else ""

    model = options.model.model_copy(
        update={name: path(getattr(options.model, name)) for name in ("weights", "encoders", "prefix")}
    )
    data = options.data.model_copy(
        update={name: tuple(map(path, getattr(options.data, name))) for name in ("train", "validation")}
    )
    if data.foreign:
        shards = tuple(map(path, data.foreign.shards))
        data = data.model_copy(update={"foreign": data.foreign.model_copy(update={"shards": shards})})
    run, file = options.run, path(options.run.lpips)
    if Path(file).exists():  # else it is a reference to the hub
        run = run.model_copy(update={"lpips": file})
    return options.model_copy(update={"output": path(options.output), "model": model, "data": data, "run": run})
