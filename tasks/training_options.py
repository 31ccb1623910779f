"""The settings of a training: every option beside what reads it, and what of them the loop needs."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from filters._lpips import LEAST_SIDE
from tasks.starts import ModelOptions
from training.data.curriculum import Curriculum
from training.data.index import Index
from training.loop.levels import Levels
from training.loop.losses import Weighting
from training.loop.optimizers import Optimization
from training.loop.recipe import Recipe, Rhythm
from training.loop.validation import Validation


class ForeignOptions(BaseModel, frozen=True, extra="forbid"):
    """Shards of others in WebDataset form, all of one task, in an order that no restart repeats.

    clean and degraded: the suffixes of their members, such as "gt.png".
    """

    shards: Annotated[tuple[str, ...], Field(min_length=1)]
    clean: str
    degraded: str
    task: str
    instruction: str


class DataOptions(BaseModel, frozen=True, extra="forbid"):
    """What is trained on.

    train: folders of datasets, or `foreign` shards instead; validation: folders whose validation split is looked at,
    those of `train` unless said. tasks: all unless some are named. size: images have about this squared, at the ratios
    1:1 to 16:9 both ways, or `square`. window: a window of a pair, at least this share of each of its sides, stands for
    the whole, so that few photographs look like more. repeats: for how many steps in a row the pairs of a batch come,
    cut elsewhere each time. scale: "cover" scales both images of a pair so that as much as possible of them is seen,
    "native" cuts. dropout: share of empty prompts. chinese: share of Chinese prompts. augmented: share of degraded
    images that are degraded once more as the web would. readers: threads, or `processes`. ahead: batches made before
    they are needed.
    """

    train: tuple[str, ...] = ()
    foreign: ForeignOptions | None = None
    validation: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    size: Annotated[int, Field(ge=8, le=4096)] = 1024
    square: bool = False
    scale: Literal["cover", "native"] = "cover"
    mirrored: bool = False
    window: Annotated[float, Field(gt=0, le=1)] = 1.0
    repeats: Annotated[int, Field(ge=1, le=64)] = 1
    dropout: Annotated[float, Field(ge=0, le=1)] = 0.1
    chinese: Annotated[float, Field(ge=0, le=1)] = 0.0
    augmented: Annotated[float, Field(ge=0, le=1)] = 0.0
    readers: Annotated[int, Field(ge=1, le=256)] = 2
    ahead: Annotated[int, Field(ge=1, le=64)] = 2
    processes: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> "DataOptions":
        if bool(self.train) == bool(self.foreign):
            raise ValueError("name one of train and foreign")
        if self.processes and (self.foreign or self.repeats > 1):
            raise ValueError("what comes as a stream, or repeats, is read by threads; set processes to false")
        return self


class TrainRun(BaseModel, frozen=True, extra="forbid"):
    """How it is run; nothing here changes the weights that one rank comes to.

    workers: ranks that `pairforge train` starts with Ray Train; 1 trains in this process. restarts: of all ranks, when
    one dies. threads: of torch on each rank, 0 leaves it to torch. rhythm: how often, in steps, something is written.
    metrics_port: serve Prometheus metrics on this loopback port, 0 does not. lpips: torchvision's AlexNet as
    safetensors, with which validation scores LPIPS beside PSNR; empty leaves it out.
    """

    workers: Annotated[int, Field(ge=1, le=4096)] = 1
    restarts: Annotated[int, Field(ge=0)] = 3
    device: Literal["cpu", "cuda"] = "cpu"
    threads: Annotated[int, Field(ge=0, le=256)] = 0
    tensorboard: bool = True
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 0
    lpips: str = ""
    rhythm: Rhythm = Field(default_factory=Rhythm)


class Options(BaseModel, frozen=True, extra="forbid"):
    """A whole training. stage: keys the order of the data together with `seed`, so two stages of one seed differ.

    batch: samples a step, over all ranks; micro: at once on one rank, 0 takes all. weighting: "relative" counts an
    error in relation to that of the degraded image, "logarithmic" its logarithm, which is what PSNR counts.
    """

    seed: Annotated[int, Field(ge=0, lt=2**63)]
    stage: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
    output: str
    steps: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=1)]
    micro: Annotated[int, Field(ge=0)] = 0
    weighting: Weighting = "none"
    model: ModelOptions
    data: DataOptions
    optimizer: Optimization
    levels: Levels = Field(default_factory=Levels)
    curriculum: Curriculum = Field(default_factory=Curriculum)
    validation: Validation = Field(default_factory=Validation)
    run: TrainRun = TrainRun()

    @model_validator(mode="after")
    def _large_enough(self) -> "Options":
        if self.run.lpips and self.data.size < LEAST_SIDE:
            raise ValueError(f"run.lpips needs images of {LEAST_SIDE} pixels, data.size is {self.data.size}")
        return self

    def recipe(self) -> Recipe:
        """Return what the loop needs to know of this."""
        data = self.data
        return Recipe(
            seed=self.seed,
            stage=self.stage,
            steps=self.steps,
            batch=self.batch,
            micro=self.micro,
            size=data.size,
            square=data.square,
            scale=data.scale,
            dropout=data.dropout,
            augmented=data.augmented,
            mirrored=data.mirrored,
            window=data.window,
            repeats=data.repeats,
            weighting=self.weighting,
            levels=self.levels,
            curriculum=self.curriculum,
            optimization=self.optimizer,
            validation=self.validation,
        )

    def begun(self, index: Index) -> dict[str, Any]:
        """Return by name what must not change between a run and its continuation."""
        reading = {"train", "foreign", "validation", "readers", "ahead", "processes"}
        left_out: dict[str, Any] = {"output": True, "run": True, "validation": True, "data": reading}
        layout = {"checkpointed", "compiled", "weights", "encoders", "prefix"}
        content = self.model_dump(mode="json", exclude={**left_out, "model": layout})
        flat = {
            f"{table}.{key}" if isinstance(values, dict) else table: value
            for table, values in content.items()
            for key, value in (values.items() if isinstance(values, dict) else [("", values)])
        }
        return {**flat, "data": index.digest}
