"""What a run is fed: the batches of one plan, from a step on, as one rank reads them."""

from collections.abc import Generator
from dataclasses import dataclass, field

from training.data.crops import bucket_of, bucket_shares, bucket_sizes
from training.data.curriculum import leg
from training.data.examples import Augment, Maker, Shards, Source, Wording, as_instructed
from training.data.feed import Fed, Readers, Slice, feed
from training.data.foreign import Foreign, ForeignPairs
from training.data.index import Index
from training.data.repeats import Repeated, remembering
from training.data.windows import Windowed
from training.loop.objective import Objective
from training.loop.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What is trained on and looked at. foreign: shards of others that replace those of the index."""

    train: Index
    validation: Index | None = None
    foreign: Foreign | None = None
    augment: Augment | None = None
    wording: Wording = as_instructed
    readers: Readers = field(default_factory=Readers)


class Feeding:
    """Feeds one rank; which other ranks there are changes only which part of a batch it makes."""

    def __init__(self, data: Data, recipe: Recipe, objective: Objective, part: Slice) -> None:
        self._data, self._recipe, self._objective, self._part = data, recipe, objective, part
        self._sizes = bucket_sizes(recipe.size, objective.latents.multiple, square=recipe.square)
        self._shares = bucket_shares(self._sizes, data.train.sizes())

    def leg(self, step: int, shares: dict[str, float]) -> tuple[range, Generator[Fed]]:
        """Return the steps from `step` on that share one plan, and their batches; close those to end the readers.

        shares: of the tasks, where a schedule moves them.
        """
        steps, source = self._source(step, shares)
        key = f"{self._recipe.seed}/{self._recipe.stage}"
        batches = feed(
            self._maker(source),
            steps,
            self._part,
            lambda step: bucket_of(step, self._sizes, self._shares, key),
            self._data.readers,
        )
        return steps, batches

    def _source(self, step: int, shares: dict[str, float]) -> tuple[range, Source]:
        """Return the steps up to which one plan holds, and the pairs of their positions."""
        recipe, data = self._recipe, self._data
        if data.foreign:
            pairs = ForeignPairs(data.foreign, seed=recipe.seed, rank=self._part.rank, begun=step)
            return range(step, recipe.steps), pairs
        now = leg(recipe.curriculum, data.train, recipe.whole, step, shares)
        return now.steps, Shards(index=data.train, plan=now.plan, pools=now.pools)

    def _maker(self, source: Source) -> Maker:
        recipe, data, objective = self._recipe, self._data, self._objective
        look = objective.look()
        if recipe.window < 1:
            key = f"{recipe.seed}/{recipe.stage}"
            source = Windowed(source=source, least=recipe.window, side=max(map(max, self._sizes)), key=key)
        if recipe.repeats > 1:
            source = Repeated(source, batch=recipe.batch, repeats=recipe.repeats)
            look = remembering(look, 2 * recipe.batch) if look else None
        return Maker(
            source=source,
            seed=recipe.seed,
            stage=recipe.stage,
            levels=recipe.levels,
            multiple=objective.latents.multiple,
            channels=objective.params.channels,
            dropout=recipe.dropout,
            scale=recipe.scale,
            augment=data.augment,
            augmented=recipe.augmented,
            mirrored=recipe.mirrored,
            wording=data.wording,
            look=look,
        )
