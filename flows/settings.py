"""One TOML file, one frozen tree: every option beside its owner, unknown keys are errors that name the nearest one."""

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model

import degradations
import filters
from degradations.pairs.contract import Options as DegradationOptions
from filters._contract import Filter
from filters.clip import TYPES as REAL_TYPES
from flows.tables import fields_at, read_table, sentence
from storage.canonical import digest, plain
from storage.errors import SettingsError
from storage.weights import is_hub_reference
from tasks.annotate import Options as AnnotateOptions
from tasks.clean import Options as CleanOptions
from tasks.mixture import Options as MixtureOptions
from tasks.pack import Options as PackOptions


def _degradation(name: str) -> str:
    if name and name not in degradations.names():
        raise ValueError(f"no degradation is called {name!r}; there are {', '.join(degradations.names())}")
    return name


FROZEN = ConfigDict(frozen=True, extra="forbid")
PLACES = frozenset({"output", "folder", "patterns", "answers"})  # options that are paths
WEIGHTS = ("weights", "detector")  # what the name of an option ends in that names a path, or hub-id@revision

T = TypeVar("T", bound=BaseModel)


class SourceSettings(BaseModel, frozen=True, extra="forbid"):
    """Where the photographs are. limit: take only so many of them, chosen by hash; 0 takes all.

    shows: the degradation that they really show. The build is then a collection: it keeps the photographs that show it,
    severely enough, and makes no pairs. Empty: they are clean.
    """

    folder: str
    shows: Annotated[str, AfterValidator(_degradation)] = ""
    licence: str = "unknown"
    author: str = "unknown"
    limit: Annotated[int, Field(ge=0)] = 0


class DatasetSettings(BaseModel, frozen=True, extra="forbid"):
    """What the dataset is called. images_per_bucket fixes the number of buckets when the dataset is made."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")] = "pairforge"
    images_per_bucket: Annotated[int, Field(ge=1, le=10_000)] = 64


class RunSettings(BaseModel, frozen=True, extra="forbid"):
    """How it is run; nothing here changes a byte of the result.

    workers: processes, 0 means one per core. wave_seconds: work in one Prefect task run, about. device: of the model
    backends. gpus_per_actor: share of a GPU that each worker of a model takes: at a half two share one, so that it
    computes while the other writes. preparers: CPU workers that decode and resize ahead for each of those, and as many
    that finish and code what it found; with 0, and on the CPU, it does so itself. metrics_port: serve Prometheus
    metrics on this loopback port while building, 0 does not.
    """

    workers: Annotated[int, Field(ge=0, le=4096)] = 0
    wave_seconds: Annotated[int, Field(ge=1)] = 60
    device: Literal["cpu", "cuda"] = "cpu"
    gpus_per_actor: Annotated[float, Field(gt=0, le=8)] = 0.5
    preparers: Annotated[int, Field(ge=0, le=64)] = 2
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 0


@cache
def _degradation_tables() -> type[BaseModel]:
    kinds = {name: degradations.load(name).options for name in degradations.names()}
    fields: dict[str, Any] = {name: (kind, kind()) for name, kind in kinds.items()}
    return create_model("Degradations", __config__=FROZEN, **fields)


@cache
def _filter_tables() -> type[BaseModel]:
    kinds = {name: filters.load(name) for name in filters.names()}
    fields: dict[str, Any] = {
        name: (kind | Literal[False], kind() if kind.by_default and not kind.needs_weights else False)
        for name, kind in kinds.items()
    }
    return create_model("Filters", __config__=FROZEN, **fields)


class Settings(BaseModel, frozen=True, extra="forbid"):
    """A whole build. `seed`, `output` and `source.folder` have no default; everything else has."""

    seed: Annotated[int, Field(ge=0, lt=2**63)]
    output: str
    source: SourceSettings
    dataset: DatasetSettings = DatasetSettings()
    clean: CleanOptions = CleanOptions()
    annotate: AnnotateOptions = AnnotateOptions()
    mixture: MixtureOptions = MixtureOptions()
    degradations: Any = None
    filters: Any = None
    pack: PackOptions = PackOptions()
    run: RunSettings = RunSettings()

    def degradation_options(self) -> dict[str, DegradationOptions]:
        """Return the options of every degradation by name."""
        return {name: getattr(self.degradations, name) for name in degradations.names()}

    def filters_of(self, subject: Literal["image", "pair"]) -> dict[str, Filter]:
        """Return the filters that look at `subject` and are not switched off, by name."""
        found = {name: getattr(self.filters, name) for name in filters.names()}
        return {name: item for name, item in found.items() if item and item.looks_at == subject}

    def published(self) -> dict[str, Any]:
        """Return all that decides the result as JSON values: not where anything lies, nor how it is run."""
        content: dict[str, Any] = _unplaced(self._content())
        return content

    def _content(self) -> dict[str, Any]:
        content = self.model_dump(mode="json", exclude={"output": True, "run": True, "source": {"folder": True}})
        content["degradations"] = self.degradations.model_dump(mode="json")
        content["filters"] = self.filters.model_dump(mode="json")
        return content

    def resolved(self) -> dict[str, Any]:
        """Return all of it as JSON values, which `read_settings` reads again."""
        rest = self.model_dump(mode="json", include={"output", "run", "source"})
        return {
            **self._content(),
            **rest,
            "filters": {name: _whole(getattr(self.filters, name)) for name in filters.names()},
        }

    def digest(self) -> str:
        """Return the digest of `published`."""
        return digest(self.published())

    def clean_options(self) -> CleanOptions:
        """Return the options of the clean stage, with the codec all pixels are stored in."""
        return self.clean.model_copy(update={"codec": self.pack.codec})


def read_settings(file: Path) -> Settings:
    """Return the settings in TOML `file`, paths made absolute; relative ones are relative to the file.

    Raises SettingsError, one sentence that names the file, the key and the fix.
    """
    content = read_table(file, missing=f"`pairforge init {file}` writes one to start from")
    return parse_settings(content, origin=str(file), base=file.resolve().parent)


def parse_settings(content: Mapping[str, Any], *, origin: str, base: Path) -> Settings:
    """Return the settings of a parsed table; `origin` names it in errors, `base` is what paths are relative to."""
    tables = dict(content)
    try:
        checked = {
            "degradations": _part(_degradation_tables(), tables.pop("degradations", {}), "degradations"),
            "filters": _part(_filter_tables(), tables.pop("filters", {}), "filters"),
        }
        settings = Settings.model_validate({**tables, **checked})
    except ValidationError as error:
        raise SettingsError(f"{origin}: {_sentence(error)}") from error
    except _PartError as error:
        raise SettingsError(f"{origin}: {_sentence(error.cause, error.table)}") from error
    duplicate = settings.filters.duplicate
    if duplicate and duplicate.similarity is not None and not settings.filters.clip:
        raise SettingsError(f"{origin}: filters.duplicate.similarity is of CLIP's embeddings; add [filters.clip]")
    settings = _collecting(settings, content.get("filters", {}), origin)
    settings = _anchored(settings, base)
    answers = str(Path(settings.output) / ".work" / "answers")
    return settings.model_copy(update={"filters": _answering(settings.filters, answers)})


class _PartError(Exception):
    def __init__(self, table: str, cause: ValidationError) -> None:
        self.table, self.cause = table, cause


def _part(kind: type[BaseModel], content: Any, table: str) -> BaseModel:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise _PartError(table, error) from error


def _anchored(item: T, base: Path) -> T:
    """Return options whose local paths are absolute, those of the tables within too; relative ones are below `base`."""
    changes: dict[str, Any] = {}
    for name in type(item).model_fields:
        value = getattr(item, name)
        if isinstance(value, BaseModel):
            changes[name] = _anchored(value, base)
        elif isinstance(value, str) and value and (name in PLACES or _is_local(name, value)):
            changes[name] = os.path.normpath(base / Path(value).expanduser())
    return item.model_copy(update=changes)


def _collecting(settings: Settings, tables: Mapping[str, Any], origin: str) -> Settings:
    """Return settings whose filters look for what the photographs show.

    tables: of the filters, as they stand in the file. What drops bad photographs is off unless it is asked for.
    """
    shows, chosen = settings.source.shows, settings.filters
    asked = chosen.severity_vlm and chosen.severity_vlm.asked
    if asked and asked != shows:
        raise SettingsError(
            f"{origin}: filters.severity_vlm.asked grades photographs that really show {asked}; "
            f'set source.shows = "{asked}"'
        )
    if not shows:
        return settings
    changes: dict[str, Any] = {} if "clean_quality" in tables else {"clean_quality": False}
    if chosen.severity_vlm:
        changes["severity_vlm"] = chosen.severity_vlm.model_copy(update={"asked": shows})
    if chosen.clip and not chosen.clip.wanted and shows in REAL_TYPES:
        changes["clip"] = chosen.clip.model_copy(update={"wanted": shows})
    return settings.model_copy(update={"filters": chosen.model_copy(update=changes)})


def _answering(item: T, folder: str) -> T:
    """Return options whose models keep their answers in `folder` unless they name another.

    What a filter before them drops changes which work shards they see; it shall not cost the same questions again.
    """
    changes: dict[str, Any] = {}
    for name in type(item).model_fields:
        value = getattr(item, name)
        if isinstance(value, BaseModel):
            changes[name] = _answering(value, folder)
        elif name == "answers" and not value:
            changes[name] = folder
    return item.model_copy(update=changes)


def _unplaced(content: Any) -> Any:
    """Return JSON values in which weights are named without the folder they lie in on this machine."""
    if isinstance(content, list):
        return [_unplaced(value) for value in content]
    if not isinstance(content, dict):
        return content
    return {name: Path(value).name if _is_local(name, value) else _unplaced(value) for name, value in content.items()}


def _is_local(name: str, value: Any) -> bool:
    """Tell whether an option names weights on this machine; `weights` of a mixture are numbers."""
    return name.endswith(WEIGHTS) and isinstance(value, str) and not is_hub_reference(value)


def _whole(item: Any) -> Any:
    """Return options with those that decide no score, such as a server's address: `published` lacks them."""
    if isinstance(item, BaseModel):
        return {name: _whole(getattr(item, name)) for name in type(item).model_fields}
    return plain(item)


def _sentence(error: ValidationError, table: str = "") -> str:
    return sentence(error, _siblings, table=table, instead={"filters": " or false"})


def _siblings(path: list[str]) -> list[str]:
    if path[:1] == ["degradations"]:
        return fields_at(_degradation_tables(), path[1:])
    if path[:1] == ["filters"]:
        return fields_at(_filter_tables(), path[1:])
    return fields_at(Settings, path)
