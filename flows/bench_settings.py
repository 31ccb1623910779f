"""What a benchmark is told: one TOML file, one frozen tree; the settings of `pairforge evaluate`."""

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from filters._vlm import Vlm
from flows.tables import fields_at, read_table, sentence
from storage.errors import SettingsError
from tasks.bench_restore import Prompts
from training.benchmark.scores import RESAMPLES, SEED

Protocol = Literal["realir", "reference", "foundir"]


class ColumnSettings(BaseModel, frozen=True, extra="forbid"):
    """Columns of Parquet or Arrow files, where they cannot be told from their names and what they hold."""

    image: str = ""
    name: str = ""
    task: str = ""


class PictureSettings(BaseModel, frozen=True, extra="forbid"):
    """Where the pictures are: each a folder, a table in Parquet or Arrow, or a dataset of ours.

    split: whose pairs of the dataset are taken. index: a table of name and task. task: that of pictures which neither
    folder nor index names.
    """

    restored: str = ""
    degraded: str = ""
    clean: str = ""
    index: str = ""
    task: str = ""
    split: Literal["train", "validation"] = "validation"
    columns: ColumnSettings = ColumnSettings()


class RestoreSettings(BaseModel, frozen=True, extra="forbid"):
    """A restorer to run on the degraded pictures first.

    weights: as `pairforge restore` takes them. prompts: one fixed instruction, as in the paper's protocol, or one per
    task. prefix: file with the text before the image that a bundle was trained with. steps: None for its usual ones.
    """

    weights: str
    prompts: Prompts = "fixed"
    seed: Annotated[int, Field(ge=0)] = 0
    steps: Annotated[int, Field(ge=1)] | None = None
    prefix: str = ""


class LpipsSettings(BaseModel, frozen=True, extra="forbid"):
    """weights: torchvision's AlexNet as safetensors."""

    weights: str = ""


class GraderSettings(Vlm, frozen=True):
    """Who grades: a vision-language model, or the embedded statistics that need no weights."""

    kind: Literal["vlm", "embedded"] = "vlm"


class BenchSettings(BaseModel, frozen=True, extra="forbid"):
    """A whole benchmark. `output` has no default, and what is scored is named: `pictures.restored`, or `restore`.

    seed, resamples: of the bootstrap intervals.
    """

    output: str
    pictures: PictureSettings
    restore: RestoreSettings | None = None
    protocol: Protocol = "realir"
    name: Annotated[str, Field(max_length=80)] = "restorer"
    grader: GraderSettings = GraderSettings()
    lpips: LpipsSettings = LpipsSettings()
    device: Literal["cpu", "cuda"] = "cpu"
    resamples: Annotated[int, Field(ge=0, le=100_000)] = RESAMPLES
    seed: Annotated[int, Field(ge=0)] = SEED

    @model_validator(mode="after")
    def _whole(self) -> Self:
        needed = "degraded" if self.protocol == "realir" else "clean"
        if not getattr(self.pictures, needed):
            raise ValueError(f"protocol {self.protocol} needs pictures.{needed}, which is not set")
        if bool(self.pictures.restored) == bool(self.restore):
            raise ValueError("name either pictures.restored, the outputs, or a [restore] table with the weights to run")
        if self.restore and not self.pictures.degraded:
            raise ValueError("[restore] needs pictures.degraded, which is not set")
        if self.protocol == "realir" and self.grader.kind == "vlm":
            if not (self.grader.url or self.grader.weights):
                raise ValueError('no grader is named: set grader.url or grader.weights, or grader.kind = "embedded"')
            if not self.lpips.weights:
                raise ValueError("lpips.weights is not set: name torchvision's AlexNet as safetensors")
        return self


def read_bench(file: Path) -> BenchSettings:
    """Return the settings in TOML `file`, paths made absolute; relative ones are relative to the file.

    Raises SettingsError, one sentence that names the file, the key and the fix.
    """
    content = read_table(file, missing="deploy/runs/bench.toml is one to start from")
    try:
        settings = BenchSettings.model_validate(content)
    except ValidationError as error:
        told = sentence(error, lambda path: fields_at(BenchSettings, path))
        raise SettingsError(f"{file}: {told}") from error
    return _absolute(settings, file.resolve().parent)


def _absolute(settings: BenchSettings, base: Path) -> BenchSettings:
    def path(value: str) -> str:
        return os.path.normpath(base / Path(value).expanduser()) if value else ""

    def reference(value: str) -> str:  # a hub reference stays as it is
        return path(value) if value and (base / Path(value).expanduser()).exists() else value

    pictures = {name: path(getattr(settings.pictures, name)) for name in ("restored", "degraded", "clean", "index")}
    output = path(settings.output)
    answers = path(settings.grader.answers) or str(Path(output) / ".answers")
    grader = {"weights": reference(settings.grader.weights), "answers": answers}
    restore = settings.restore and settings.restore.model_copy(
        update={name: path(getattr(settings.restore, name)) for name in ("weights", "prefix")}
    )
    return settings.model_copy(
        update={
            "output": output,
            "restore": restore,
            "pictures": settings.pictures.model_copy(update=pictures),
            "grader": settings.grader.model_copy(update=grader),
            "lpips": settings.lpips.model_copy(update={"weights": reference(settings.lpips.weights)}),
        }
    )
