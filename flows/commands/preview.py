"""`pairforge preview`: a degradation on a photograph, or a grid of all, and the parameters that were drawn."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from pydantic import ValidationError

import degradations
from degradations._contract import Options
from degradations._coupled import COUPLED, NAMED, steps_of
from flows.console import Console
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
    severity: float,
    seed: int,
    grid: bool,
    options: tuple[str, ...],
    second: Path | None,
    as_json: bool,
) -> int:
    """Write the picture and print the recipe; returns the exit status."""
    console = Console(as_json=as_json)
    check_output(output)
    if name is None and not grid:
        raise SettingsError("name the degradation to preview, or ask for all of them with --grid")
    names = (known(name),) if name else tuple(REALRESTORER)
    chosen = read_options(names, options)
    image = read_photograph(photograph)
    overlays = read_patterns(chosen, seed) | ({} if second is None else {"reflection": read_photograph(second)})
    if name is None or grid:
        with console.busy("rendering the grid"):
            picture = preview.grid(image, names=names, seed=seed, options=chosen, overlays=overlays)
        write_picture(output, picture)
        console.result({"picture": str(output), "names": list(names)}, f"{output}: {', '.join(names)}")
        return 0
    with console.busy(f"rendering {name}"):
        scene = preview.scene_of(image, overlays=overlays)
        recipe, rendered = preview.preview(name, scene, severity=severity, seed=seed, options=chosen)
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
    unknown = [step for step in steps_of(name) if step not in degradations.names()]
    if unknown:
        there = ", ".join([*degradations.names(), *NAMED, *COUPLED])
        raise SettingsError(f"{unknown[0]!r} is no degradation; there are {there}")
    return name


def read_options(names: tuple[str, ...], texts: tuple[str, ...]) -> Mapping[str, Options]:
    """Return the options that `key=value` texts set, by degradation; `haze.kind=fog` names its owner.

    One of several `names` has to be named.
    """
    tables: dict[str, dict[str, str]] = {step: {} for name in names for step in steps_of(name)}
    default = next(iter(tables))
    for text in texts:
        key, equals, value = text.partition("=")
        owner, dot, option = key.rpartition(".")
        owner = owner if dot or len(names) > 1 else default
        if not equals or owner not in tables:
            form = f"{default}.KEY=VALUE" if len(names) > 1 else f"KEY=VALUE or {default}.KEY=VALUE"
            raise SettingsError(f"--option {text!r} is not {form}")
        tables[owner][option] = value
    found = {}
    for owner, table in tables.items():
        try:
            found[owner] = degradations.load(owner).options.model_validate(table)
            found[owner].check()
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            there = ", ".join(degradations.load(owner).options.model_fields) or "none"
            where = ".".join(str(part) for part in first["loc"])
            raise SettingsError(f"--option {owner}.{where}: {first['msg']}; options of {owner}: {there}") from error
        except ValueError as error:
            raise SettingsError(f"an option of {owner}: {error}") from error
    return found


def read_patterns(options: Mapping[str, Options], seed: int) -> dict[str, Image]:
    """Return, by degradation, the picture that `seed` chooses of a folder of patterns; SettingsError if it is none."""
    folders = {name: folder for name, given in options.items() if (folder := getattr(given, "patterns", None))}
    try:
        return {name: pattern(name, folder, seed) for name, folder in folders.items()}
    except SourceError as error:
        raise SettingsError(f"{error} ({error.reason}); take it out of the folder or name another seed") from error


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


def check_output(file: Path) -> None:
    """Raise SettingsError unless `file` can be written as a picture."""
    if file.suffix.lower() not in (".png", ".webp", ".jpg", ".jpeg"):
        raise SettingsError(f"-o {file} must end in .png, .webp or .jpg")
    if not file.absolute().parent.is_dir():
        raise SettingsError(f"-o {file}: the folder {file.absolute().parent} does not exist; make it first")


def write_picture(file: Path, image: Image) -> None:
    """Write `image` losslessly as PNG or WebP, or as JPEG of quality 95, by the suffix of `file`."""
    suffix = file.suffix.lower()
    if suffix in (".jpg", ".jpeg"):
        _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
        publish_bytes(file, data.tobytes())
        return
    publish_bytes(file, encode_image(image, "png" if suffix == ".png" else "webp"))
