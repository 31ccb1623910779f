"""What is trained on at one position: a pair, cut and augmented, its prompt, its noise level and its noise.

Everything is a function of (seed, stage, position): which process makes it, and when, changes nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from storage.errors import ShardError
from storage.samples import decode_image
from storage.shards import read_member
from training.data.crops import Scale, Size, box, cut, middle
from training.data.index import Index
from training.data.plan import Origin, Plan, generator, uniform
from training.encoders.prompts import placed
from training.loop.levels import Levels

Image = NDArray[np.uint8]
Augment = Callable[[Image, int], Image]  # (degraded, seed) -> degraded, of the same shape
Wording = Callable[[str, str, float], str]  # (task, the pair's instruction, a draw within [0, 1)) -> prompt
Rows = tuple[Tensor, Tensor]  # of one prompt, (1, S, E), and their mask, (1, S)
Look = Callable[[Image, str], Rows]  # (whole degraded image, prompt) -> rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two images, uint8 (H, W, 3) sRGB, of one size, and what is asked of a restorer."""

    key: str
    task: str
    instruction: str
    clean: Image
    degraded: Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A pair made ready. sigma: the noise level. noise_TC: over the target tokens.

    distance: mean squared difference of the whole images, within -1 and 1, that this was cut from.
    rows: of the prompt, where its encoder looks at more than is cut; else it is encoded with the batch.
    """

    position: int
    key: str
    task: str
    prompt: str
    clean: Image
    degraded: Image
    sigma: float
    noise_TC: Tensor
    distance: float
    rows: Rows | None = None


class Source(Protocol):
    """Where pairs come from."""

    def pair(self, position: int) -> Pair:
        """Return the pair of a position."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shards:
    """Our own datasets, in the order of a plan."""

    index: Index
    plan: Plan
    pools: Mapping[tuple[str, Origin], NDArray[Any]]

    def pair(self, position: int) -> Pair:
        """Return the pair of a position; ShardError, naming the file, when its bytes are no images of one size."""
        pick = self.plan.pick(position)
        return read_pair(self.index, self.pools[pick.task, pick.origin][pick.index])


def read_pair(index: Index, record: Any) -> Pair:
    """Return the pair of one record of an index; raises ShardError like `Shards.pair`."""
    shard = index.shards[record["shard"]]
    places = [(int(record[f"{side}_at"]), int(record[f"{side}_size"])) for side in ("clean", "degraded")]
    key = record["key"].decode()
    try:
        clean, degraded = (decode_image(read_member(shard, *place)) for place in places)
    except OSError as error:
        raise ShardError(f"{shard} cannot be read: {error.strerror}") from error
    except ShardError as error:
        raise ShardError(f"{shard}: {key}: {error}") from error
    if clean.shape != degraded.shape:
        raise ShardError(f"{shard}: {key}: the clean image is {clean.shape}, the degraded one {degraded.shape}")
    task, instruction = index.tasks[record["task"]], index.instructions[record["instruction"]]
    return Pair(key=key, task=task, instruction=instruction, clean=clean, degraded=degraded)


def distance(pair: Pair) -> float:
    """Return the mean squared difference of both images, within -1 and 1, at every fourth row and column."""
    clean, degraded = (image[::4, ::4].astype(np.float32) for image in (pair.clean, pair.degraded))
    return float(np.square(degraded - clean).mean()) / 127.5**2


def looked(look: Look, image: Image, prompt: str, place: tuple[float, float]) -> Rows:
    """Return the prompt's rows for what is cut out of the whole `image` around `place`, (row, column), each 0 to 1."""
    rows, mask = look(image, prompt)
    return placed(rows, [place]), mask


def as_instructed(task: str, instruction: str, draw: float) -> str:
    """Return the pair's own instruction: the wording when none is handed in."""
    return instruction


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """Makes the example of a position.

    multiple and channels: pixels a side and channels of a token. dropout: share of the examples whose prompt is empty,
    image and reference kept: what guidance measures from. augment: applied to a share `augmented` of the degraded
    images, after they are cut. mirrored: half of the pairs are mirrored left to right. look: encodes the prompt with
    the whole image, and rows end with a glance at it, which is told the place of the cut.
    """

    source: Source
    seed: int
    stage: str
    levels: Levels
    multiple: int
    channels: int
    dropout: float = 0.1
    scale: Scale = "cover"
    augment: Augment | None = None
    augmented: float = 0.0
    mirrored: bool = False
    wording: Wording = as_instructed
    look: Look | None = None

    def example(self, position: int, size: Size) -> Example:
        """Return the example of `position`, its images of `size`."""
        pair = self.source.pair(position)
        key = f"{self.seed}/{self.stage}/{position}"
        place = box(pair.clean.shape[:2], size, self.scale, f"{key}/crop")
        clean, degraded = cut((pair.clean, pair.degraded), place, size)
        row, column = middle(place, pair.clean.shape[:2])
        if self.mirrored and uniform(f"{key}/mirror") < 0.5:
            column = 1 - column
            clean, degraded = (np.ascontiguousarray(image[:, ::-1]) for image in (clean, degraded))
        tokens = size[0] // self.multiple * (size[1] // self.multiple)
        prompt = self._prompt(pair, key)
        return Example(
            position=position,
            key=pair.key,
            task=pair.task,
            prompt=prompt,
            clean=clean,
            degraded=self._augmented(degraded, key),
            sigma=self.levels.draw(tokens, self._generator(position, "level")),
            noise_TC=torch.randn(tokens, self.channels, generator=self._generator(position, "noise")),
            distance=distance(pair),
            rows=looked(self.look, pair.degraded, prompt, (row, column)) if self.look else None,
        )

    def _prompt(self, pair: Pair, key: str) -> str:
        if uniform(f"{key}/dropout") < self.dropout:
            return ""
        return self.wording(pair.task, pair.instruction, uniform(f"{key}/wording"))

    def _augmented(self, degraded: Image, key: str) -> Image:
        if self.augment is None or uniform(f"{key}/augmented") >= self.augmented:
            return degraded
        changed = self.augment(degraded, int(uniform(f"{key}/augment") * 2**32))
        kept = (changed.shape, changed.dtype) == (degraded.shape, degraded.dtype)
        assert kept, "an augmentation keeps shape and type"
        return changed

    def _generator(self, position: int, purpose: str) -> torch.Generator:
        return generator(self.seed, self.stage, position, purpose)
