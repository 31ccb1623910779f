"""What must be true of the source folder, the output and the files that settings name before a build begins."""

import os
from pathlib import Path

from degradations.pairs.coupled import steps_of
from flows.settings import Settings
from storage.errors import SettingsError
from tasks.degrade import patterns_of

DATASET = (".work", "manifest.json")  # one of them is there from the first moment of a build to the last


def check_source(settings: Settings, *, origin: Path | None = None) -> None:
    """Raise SettingsError unless a build can read what it needs and the output holds nothing but a dataset.

    Of files for degradations only those are looked at whose degradation is made. origin: the file that the sentence
    names.
    """
    if problem := _problem(Path(settings.source.folder), Path(settings.output)) or _given(settings):
        raise SettingsError(f"{origin}: {problem}" if origin else problem)


def _problem(folder: Path, output: Path) -> str:
    if not folder.is_dir():
        state = "is not a folder" if folder.exists() else "does not exist"
        return f"source.folder: {folder} {state}; name a folder of photographs"
    if not os.access(folder, os.R_OK | os.X_OK):
        return f"source.folder: {folder} cannot be read; change its rights"
    if output == folder or folder in output.parents or output in folder.parents:
        return f"output: {output} and the source folder {folder} contain each other; choose another output"
    if output.exists() and not output.is_dir():
        return f"output: {output} is a file; name a folder"
    if output.exists() and any(output.iterdir()) and not any((output / name).exists() for name in DATASET):
        return f"output: {output} holds other files and no dataset; name a new folder"
    return ""


def _given(settings: Settings) -> str:
    """Return what is wrong with the patterns and weights that the user gives, before hours are spent; "" if nothing."""
    options = settings.degradation_options()
    made = () if settings.source.shows else settings.mixture.shares()
    for name in sorted({step for names in made for step in steps_of(names)}):
        try:
            options[name].check()
            if folder := getattr(options[name], "patterns", None):
                patterns_of(folder)
        except ValueError as error:
            return f"degradations.{name}.{error}"
        except SettingsError as error:
            return f"degradations.{name}.patterns: {error}"
    return ""
