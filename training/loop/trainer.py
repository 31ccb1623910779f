"""The loop: steps of rectified flow from a checkpoint, or from the start, to the end of a stage.

One process, torchrun and Ray Train all run this function; what they differ in is handed in. All that is random is
keyed by (seed, stage, position), so weights, moments and the number of the step are all the state there is.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch import distributed as dist

from storage.errors import PairForgeError
from training.data.crops import bucket_sizes
from training.data.curriculum import equal_shares, moved_shares
from training.data.examples import Example
from training.data.feed import Fed, Slice
from training.data.plan import uniform
from training.loop import states, validation
from training.loop.averages import Average
from training.loop.feeding import Data, Feeding
from training.loop.logs import Log
from training.loop.objective import Objective
from training.loop.optimizers import clip, make_optimizer, rate, set_rate
from training.loop.recipe import Recipe, Rhythm
from training.loop.states import State
from training.loop.tally import Tally
from training.network.model import RestorationTransformer


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """Who is asked and told. stop: whether to end now, with a checkpoint."""

    saved: Callable[[Path, Mapping[str, float]], None] = lambda path, numbers: None
    stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A run: `model` is on its device, laid out and sharded already.

    begun: what must be as it was when a run goes on, by name. distance: a second score of validation. flops: useful
    ones of a step, and peak: of a device, for the log.
    """

    model: RestorationTransformer
    objective: Objective
    data: Data
    recipe: Recipe
    rhythm: Rhythm
    folder: Path
    log: Log
    hooks: Hooks = field(default_factory=Hooks)
    begun: Mapping[str, Any] = field(default_factory=dict)
    distance: validation.Distance | None = None
    flops: float = 0.0
    peak: float | None = None


def train(job: Job) -> State:
    """Train until the last step of the recipe and return where that ends; goes on from the newest checkpoint."""
    run = _Run(job)
    run.resume()
    while run.state.step < job.recipe.steps and not run.stopped:
        run.leg()
    run.finish()
    return run.state


class _Run:
    """One run under way."""

    def __init__(self, job: Job) -> None:
        recipe = job.recipe
        self.job = job
        weights = states.names(job.model)
        trained = {name: weight for name, weight in weights.items() if weight.requires_grad}
        self.state = State(
            weights=weights,
            optimizer=make_optimizer(trained.values(), recipe.optimization, seed=recipe.seed),
            average=Average(trained.items(), recipe.optimization.average) if recipe.optimization.average else None,
            step=0,
            memory={"begun": dict(job.begun), "shares": equal_shares(job.data.train), "scores": {}},
        )
        self.stopped = False
        world, rank = (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)
        part = Slice(batch=recipe.batch, rank=rank, world=world)
        self._feeding = Feeding(job.data, recipe, job.objective, part)
        self._fixed: list[Example] = []
        self._tally = Tally(flops=job.flops, peak=job.peak * world if job.peak else None)

    def resume(self) -> None:
        """Go on from the newest checkpoint; without one look at what the run begins with."""
        self._prepare_validation()
        checkpoints = states.found(self.job.folder)
        if checkpoints:
            held = states.remembered(checkpoints[-1])
            states.check_begun(checkpoints[-1], held, self.job.begun)
            states.restore(self.state, checkpoints[-1])
        elif self.job.rhythm.validate:
            self._validate()

    def leg(self) -> None:
        """Do the steps that share one plan, then let the shares of tasks follow what was learnt."""
        steps, fed = self._feeding.leg(self.state.step, self.state.memory["shares"])
        self._tally.restart()
        try:
            for batch in fed:
                self._step(batch, last=batch.step + 1 == steps.stop)
                if self.stopped:
                    return
        finally:
            fed.close()

    def finish(self) -> None:
        """Leave a checkpoint of the last step."""
        self._save()

    def _step(self, batch: Fed, *, last: bool) -> None:
        job, state = self.job, self.state
        if state.step == 0:
            job.log.picture(0, "batch", validation.strip(batch.examples[:9]))
        numbers = self._update(batch)
        state.step += 1
        self._tally.stepped(batch.waited)
        self.stopped = self._agreed(job.hooks.stop())
        if state.step % job.rhythm.log == 0 or state.step == job.recipe.steps:
            self._log(numbers)
        with self._tally.aside():
            self._look_around(last=last)

    def _look_around(self, *, last: bool) -> None:
        """Do what is due after a step beside training: validate, move shares, save."""
        job, state = self.job, self.state
        if job.rhythm.validate and (state.step % job.rhythm.validate == 0 or state.step == job.recipe.steps):
            self._validate()
        if last and job.recipe.curriculum.kind == "equilibrium" and state.step < job.recipe.steps:
            self._move_shares()
        due = job.rhythm.checkpoint and state.step % job.rhythm.checkpoint == 0
        if due and state.step < job.recipe.steps:
            self._save()

    def _update(self, batch: Fed) -> dict[str, Tensor]:
        """Do one optimizer step; the numbers are tensors still, so that nothing waits for the device."""
        job, state, recipe = self.job, self.state, self.job.recipe
        learning_rate = rate(recipe.optimization, state.step, recipe.steps)
        set_rate(state.optimizer, learning_rate)
        own, micro = batch.examples, min(recipe.micro or len(batch.examples), len(batch.examples))
        for start in range(0, len(own), micro):
            examples = own[start : start + micro]
            self._sync_gradients(start + micro >= len(own))
            counted_B, plain_B = job.objective.errors(job.model, job.objective.inputs(examples))
            (counted_B.sum() / len(own)).backward()  # type: ignore[no-untyped-call]
            self._tally.add(examples, counted_B, plain_B)
        norm = clip(state.weights.values(), recipe.optimization.clip)
        with _seeded(f"{recipe.seed}/{recipe.stage}/{state.step}", recipe):
            state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        if state.average:
            state.average.update(state.weights, state.step)
        return {"train/lr": torch.tensor(learning_rate), "train/grad_norm": norm}

    def _sync_gradients(self, last: bool) -> None:
        """Reduce the gradients of a sharded model: in float32 each time, which shards their sum.

        Those of bfloat16 weights add up in float32 before they are reduced, and take the memory of whole gradients.
        """
        from torch.distributed.fsdp import FSDPModule

        if isinstance(self.job.model, FSDPModule):
            whole = self.job.recipe.optimization.dtype != torch.float32
            self.job.model.set_requires_gradient_sync(last or not whole)

    def _log(self, numbers: Mapping[str, Tensor]) -> None:
        found = self._tally.numbers()
        if not math.isfinite(found["train/loss"]):
            raise PairForgeError(
                f"the loss is {found['train/loss']} at step {self.state.step}; the checkpoint before is whole: "
                "go on from it with a lower optimizer.learning_rate, in an output of its own"
            )
        self.job.log.numbers(self.state.step, found | {name: float(value) for name, value in numbers.items()})

    def _prepare_validation(self) -> None:
        index, recipe = self.job.data.validation, self.job.recipe
        if index is None or not self.job.rhythm.validate:
            return
        size = bucket_sizes(recipe.size, self.job.objective.latents.multiple, square=True)[0]
        count = max(recipe.validation.pairs, recipe.validation.samples)
        self._fixed = validation.fixed_examples(
            index, self.job.objective, count=count, size=size, scale=recipe.scale, seed=recipe.seed
        )

    def _validate(self) -> None:
        if not self._fixed:
            return
        job, options = self.job, self.job.recipe.validation
        job.model.eval()
        with self.state.average.swapped(self.state.weights) if self.state.average else nullcontext():
            numbers = validation.losses(
                job.model, job.objective, _first_of_each(self._fixed, options.pairs), batch=options.batch
            )
            shown = _first_of_each(self._fixed, options.samples)
            images = validation.restored(job.model, job.objective, shown, options)
        job.model.train()
        found = validation.scores(shown, images, job.distance)
        for kind in next(iter(found.values())):
            numbers |= {f"val/{kind}/{task}": values[kind] for task, values in found.items()}
            numbers[f"val/{kind}"] = float(np.mean([values[kind] for values in found.values()]))
        job.log.numbers(self.state.step, numbers)
        job.log.picture(self.state.step, "samples", validation.strip(shown, images))
        self.state.memory["latest"] = {task: values["psnr"] for task, values in found.items()}

    def _move_shares(self) -> None:
        memory = self.state.memory
        now = memory.get("latest", {})
        memory["shares"] = moved_shares(self.job.recipe.curriculum, memory["shares"], memory["scores"], now)
        memory["scores"] = now
        self.job.log.numbers(
            self.state.step, {f"train/share/{task}": share for task, share in memory["shares"].items()}
        )

    def _save(self) -> None:
        path = states.save(self.state, self.job.folder, keep=self.job.rhythm.keep)
        self.job.hooks.saved(path, {"step": self.state.step})

    def _agreed(self, stop: bool) -> bool:
        """Return whether any rank wants to stop: all must, at the same step, and asking makes them wait."""
        if not dist.is_initialized():
            return stop
        if self.state.step % self.job.rhythm.log:
            return False
        wanted = torch.tensor(int(bool(stop)), device=self.job.objective.device)
        dist.all_reduce(wanted, op=dist.ReduceOp.MAX)
        return bool(wanted)


def _first_of_each(examples: list[Example], count: int) -> list[Example]:
    seen = defaultdict[str, int](int)
    chosen = []
    for example in examples:
        seen[example.task] += 1
        if seen[example.task] <= count:
            chosen.append(example)
    return chosen


@contextmanager
def _seeded(key: str, recipe: Recipe) -> Iterator[None]:
    """Fix torch's own generators for a library that draws from them: the stochastic rounding of the 8-bit optimizer."""
    if recipe.optimization.states == "fp32":
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(int(uniform(key) * 2**53))
        yield
