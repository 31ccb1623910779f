"""A stage of training in one record."""

from dataclasses import dataclass

from training.data.crops import Scale
from training.data.curriculum import Curriculum, Stage
from training.loop.levels import Levels
from training.loop.losses import Weighting
from training.loop.optimizers import Optimization
from training.loop.validation import Validation


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that decides which weights come out, but the data and the weights that go in.

    batch: samples a step, over all ranks. micro: samples at once on one rank. size: images have about this squared.
    square: only square ones. dropout: share of samples whose prompt is empty. augmented: share of degraded images that
    the augmentation is applied to. mirrored: half of the pairs are mirrored.
    window: share of each side that a window, taken for the whole pair, keeps at least; 1 takes the pair.
    repeats: for how many steps in a row the pairs of a batch come, cut elsewhere each time.
    """

    seed: int
    stage: str
    steps: int
    batch: int
    micro: int
    size: int
    square: bool
    scale: Scale
    dropout: float
    augmented: float
    mirrored: bool
    window: float
    repeats: int
    weighting: Weighting
    levels: Levels
    curriculum: Curriculum
    optimization: Optimization
    validation: Validation

    @property
    def whole(self) -> Stage:
        """Return the length of the stage and what it is keyed by."""
        return Stage(seed=self.seed, name=self.stage, steps=self.steps, batch=self.batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """How often, in steps, something is written; 0 is never, and nothing here changes a weight. keep: checkpoints."""

    log: int = 10
    checkpoint: int = 250
    validate: int = 250
    keep: int = 2

    def __post_init__(self) -> None:
        """Raise ValueError where a run that goes on would log other means than one that was never interrupted."""
        if self.log < 1 or self.keep < 1 or min(self.checkpoint, self.validate) < 0:
            raise ValueError("log and keep must be at least 1, checkpoint and validate not negative")
        if self.checkpoint % self.log:
            raise ValueError(f"checkpoint ({self.checkpoint}) must be a multiple of log ({self.log})")
