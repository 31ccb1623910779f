"""`pairforge preview`: a degradation on a photograph, or a grid of all, and the parameters that were drawn."""

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydantic import ValidationError

import degradations
from degradations.pairs.contract import Options
from degradations.pairs.coupled import check_name, members_of, steps_of
from flows.console import Console
from flows.tables import sentence
from storage.canonical import plain
from storage.errors import SettingsError, SourceError
from storage.files import publish_bytes
from storage.records import Image
from storage.samples import encode_image
from tasks import preview
from tasks.decode import decode
from tasks.degrade import pattern
from tasks.mixture import REALRESTORER


def preview_command(
    name: str | None,
    photograph: Path,
    *,
    output: Path,
    severity: float | None,
    seed: int,
    grid: bool,
    options: tuple[str, ...],
    second: Path | None,
    as_json: bool,
) -> int:
    """Write the picture and print the recipe; returns the exit status. severity: in [0, 1], None is 0.5."""
    console = Console(as_json=as_json)
    check_output(output, reads=[photograph, *([second] if second else [])])
    if name is None and not grid:
        raise SettingsError("name the degradation to preview, or ask for all of them with --grid")
    names = tuple(REALRESTORER) if name is None else (known(name),)
    _check_used(names, severity, grid=grid, second=second)
    chosen = read_options(names, options)
    image = read_photograph(photograph)
    overlays = read_patterns(chosen, seed) | ({} if second is None else {"reflection": read_photograph(second)})
    if name is None or grid:
        with console.busy("rendering the grid"):
            picture = preview.grid(image, names=names, seed=seed, options=chosen, overlays=overlays)
        write_picture(output, picture)
        console.result({"picture": str(output), "names": list(names)}, f"{output}: {', '.join(names)}")
        return 0
    strength = 0.5 if severity is None else severity
    with console.busy(f"rendering {name}"):
        scene = preview.scene_of(image, overlays=overlays)
        recipe, rendered = preview.preview(name, scene, severity=strength, seed=seed, options=chosen)
    write_picture(output, rendered.degraded)
    mse = float(np.mean((rendered.clean.astype(np.float32) - rendered.degraded) ** 2))
    psnr = float(10 * np.log10(255**2 / mse)) if mse else None
    data = {"picture": str(output), "psnr": psnr, "recipe": plain(recipe)}
    lines = [f"{step.degradation}.{key} = {value}" for step in recipe.steps for key, value in step.params.items()]
    quality = f"{psnr:.2f} dB against the clean image" if psnr else "identical to the clean image"
    console.result(data, "\n".join([*lines, f"{output}: {quality}"]))
    return 0


def known(name: str) -> str:
    """Return `name` if it is a degradation, a combination or a list joined by plus signs; else SettingsError."""
    try:
        check_name(name)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    return name


def _check_used(names: tuple[str, ...], severity: float | None, *, grid: bool, second: Path | None) -> None:
    """Raise SettingsError for what is asked but would have no effect, and for a severity that is no number."""
    if severity is not None and not 0 <= severity <= 1:
        raise SettingsError(f"--severity must be in [0, 1], got {severity}")
    if grid and severity is not None:
        raise SettingsError("a grid shows all levels; leave --severity or --grid out")
    steps = {step for name in names for step in steps_of(name)}
    if second and not any(degradations.load(step).overlay == "photograph" for step in steps):
        raise SettingsError(f"--second is for what mirrors a photograph, not for {', '.join(names)}; leave it out")


def read_options(names: tuple[str, ...], texts: tuple[str, ...]) -> Mapping[str, Options]:
    """Return the options that `key=value` texts set, by degradation; `haze.kind=fog` names its owner.

    One of several `names` has to be named. A list is written as JSON: `weights=[1, 0, 0]`.
    """
    tables: dict[str, dict[str, Any]] = {step: {} for name in names for step in steps_of(name)}
    default = next(iter(tables))
    for text in texts:
        key, equals, value = text.partition("=")
        owner, dot, option = key.rpartition(".")
        owner = owner if dot or len(names) > 1 else default
        if not equals or owner not in tables:
            form = f"{default}.KEY=VALUE" if len(names) > 1 else f"KEY=VALUE or {default}.KEY=VALUE"
            raise SettingsError(f"--option {text!r} is not {form}")
        tables[owner][option] = _value(value)
    for name in names:
        for owner, demanded in members_of(name):
            if both := sorted(tables[owner].keys() & demanded.keys()):
                raise SettingsError(f"--option {owner}.{both[0]}: the name {name} sets it; leave it out")
    return {owner: _options(owner, table) for owner, table in tables.items()}


def _options(owner: str, table: Mapping[str, Any]) -> Options:
    kind = degradations.load(owner).options
    try:
        found = kind.model_validate(table)
        found.check()
    except ValidationError as error:
        raise SettingsError(f"--option {sentence(error, lambda _: list(kind.model_fields), table=owner)}") from error
    except ValueError as error:
        raise SettingsError(f"--option {owner}.{error}") from error
    return found


def _value(text: str) -> Any:
    if text.startswith("["):
        with contextlib.suppress(ValueError):
            return json.loads(text)
    return text


def read_patterns(options: Mapping[str, Options], seed: int) -> dict[str, Image]:
    """Return, by degradation, the picture that `seed` chooses of a folder of patterns; SettingsError if it is none."""
    folders = {name: folder for name, given in options.items() if (folder := getattr(given, "patterns", None))}
    return {name: _read_pattern(name, folder, seed) for name, folder in folders.items()}


def _read_pattern(name: str, folder: str, seed: int) -> Image:
    try:
        return pattern(name, folder, seed)
    except SourceError as error:
        raise SettingsError(f"{error} ({error.reason}); take it out of the folder or name another seed") from error
    except SettingsError as error:
        raise SettingsError(f"--option {name}.patterns: {error}") from error


def read_photograph(file: Path) -> Image:
    """Return the pixels of a photograph; SettingsError, naming the file, when it has none."""
    try:
        return decode(file.read_bytes()).image
    except FileNotFoundError as error:
        raise SettingsError(f"{file} does not exist; name a photograph") from error
    except OSError as error:
        raise SettingsError(f"{file} cannot be read ({error.strerror}); name a photograph") from error
    except SourceError as error:
        raise SettingsError(f"{file} cannot be used ({error.reason}): {error}; name another photograph") from error


def check_output(file: Path, *, reads: Sequence[Path] = ()) -> None:
    """Raise SettingsError unless `file` can be written as a picture, over none of the photographs that are read."""
    if file.suffix.lower() not in (".png", ".webp", ".jpg", ".jpeg"):
        raise SettingsError(f"-o {file} must end in .png, .webp or .jpg")
    folder = file.absolute().parent
    if not folder.is_dir():
        raise SettingsError(f"-o {file}: the folder {folder} does not exist; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SettingsError(f"-o {file}: the folder {folder} cannot be written; change its rights or choose another")
    if file.is_dir():
        raise SettingsError(f"-o {file} is a folder; name a file")
    if file.resolve() in [each.resolve() for each in reads]:
        raise SettingsError(f"{file} would be overwritten; name another place with -o")


def write_picture(file: Path, image: Image) -> None:
    """Write `image` losslessly as PNG or WebP, or as JPEG of quality 95, by the suffix of `file`."""
    suffix = file.suffix.lower()
    if suffix in (".jpg", ".jpeg"):
        _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
        publish_bytes(file, data.tobytes())
        return
    publish_bytes(file, encode_image(image, "png" if suffix == ".png" else "webp"))
