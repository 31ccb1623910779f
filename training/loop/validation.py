"""How a restorer does on pairs it is not trained on: its loss by task and noise level, and pictures.

Pairs, boxes, noise and levels are the same every time, so two steps of a run, and two runs, can be compared.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import distributed as dist

from training import flow
from training.data.crops import Scale, Size, box, cut, middle
from training.data.examples import Example, Pair, distance, looked, read_pair
from training.data.index import Index
from training.data.plan import generator, permuted
from training.flow import Guidance
from training.loop.objective import Objective, predicted
from training.network.model import RestorationTransformer

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
Distance = Callable[[NDArray[np.uint8], NDArray[np.uint8]], float]  # of two images (H, W, 3), such as LPIPS
GAP = 4  # white pixels between the pictures of a strip


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """What is looked at. pairs: of each task, for the loss. samples: of each task, restored in `steps` steps.

    guidance: scale of the classifier-free guidance of those, 0 for none. batch: samples at once.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    pairs: int = 5
    samples: int = 1
    steps: int = 16
    guidance: float = 0.0
    batch: int = 4

    def __post_init__(self) -> None:
        """Raise ValueError when nothing would be looked at."""
        if min(self.pairs, self.samples, self.steps, self.batch) < 1 or self.guidance < 0:
            raise ValueError("pairs, samples, steps and batch must be at least 1 and guidance not negative")


def fixed_examples(
    index: Index, objective: Objective, *, count: int, size: Size, scale: Scale, seed: int
) -> list[Example]:
    """Return `count` examples of each task, or as many as there are, at noise level 1."""
    examples = []
    for number, task in enumerate(index.tasks):
        own = index.records[index.records["task"] == number]
        chosen = [own[permuted(place, len(own), f"{seed}/validation/{task}")] for place in range(min(count, len(own)))]
        for place, record in enumerate(chosen):
            pair = read_pair(index, record)
            examples.append(_fixed(pair, objective, size, scale, f"{seed}/validation/{task}/{place}"))
    return examples


def _fixed(pair: Pair, objective: Objective, size: Size, scale: Scale, key: str) -> Example:
    place = box(pair.clean.shape[:2], size, scale, key)
    clean, degraded = cut((pair.clean, pair.degraded), place, size)
    tokens = size[0] * size[1] // objective.latents.multiple**2
    look, where = objective.look(), middle(place, pair.clean.shape[:2])
    return Example(
        position=-1,
        key=pair.key,
        task=pair.task,
        prompt=pair.instruction,
        clean=clean,
        degraded=degraded,
        sigma=1.0,
        noise_TC=torch.randn(tokens, objective.params.channels, generator=generator(0, key, 0, "noise")),
        distance=distance(pair),
        rows=looked(look, pair.degraded, pair.instruction, where) if look else None,
    )


@torch.no_grad()
def losses(
    model: RestorationTransformer, objective: Objective, examples: Sequence[Example], *, batch: int
) -> dict[str, float]:
    """Return the mean squared error of the velocity: in all, by task, by noise level and by both."""
    todo = [replace(example, sigma=level) for example in examples for level in LEVELS]
    own = _shared_out(todo)
    errors: list[float] = []
    for start in range(0, len(own), batch):
        _, plain_B = objective.errors(model, objective.inputs(own[start : start + batch]))
        errors += plain_B.tolist()
    found = defaultdict[str, list[float]](list)
    for example, error in zip(todo, gathered(errors), strict=False):  # what fills up the last rank is left out
        level = f"{example.sigma:g}"
        for name in ("", f"/{example.task}", f"_t/{level}", f"_t/{level}/{example.task}"):
            found[f"val/loss{name}"].append(error)
    return {name: float(np.mean(values)) for name, values in found.items()}


@torch.no_grad()
def restored(
    model: RestorationTransformer, objective: Objective, examples: Sequence[Example], options: Validation
) -> list[NDArray[np.uint8]]:
    """Return the examples' degraded images restored, uint8 (H, W, 3), from the noise they carry."""
    own, found = _shared_out(examples), []
    for start in range(0, len(own), options.batch):
        found += _restored(model, objective, own[start : start + options.batch], options)
    return gathered(found)[: len(examples)]


def _restored(
    model: RestorationTransformer, objective: Objective, examples: Sequence[Example], options: Validation
) -> list[NDArray[np.uint8]]:
    guided = options.guidance > 0
    without = [replace(example, prompt="", rows=None) for example in examples] if guided else []
    inputs = objective.inputs([*examples, *without])

    def velocity(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return predicted(model, inputs, x, sigma, objective.dtype)

    steered = flow.classifier_free(velocity, Guidance(scale=options.guidance)) if guided else velocity
    noise_BTC = inputs.noise_BTC[: len(examples)]
    tokens = flow.sample(steered, noise_BTC, flow.schedule(options.steps, noise_BTC.shape[1]))
    images = objective.latents.decode(tokens, height=examples[0].clean.shape[0]).float().clamp(-1, 1)
    pixels: NDArray[np.uint8] = rearrange((images + 1) * 127.5, "B C H W -> B H W C").round().byte().cpu().numpy()
    return list(pixels)


def psnr(image: NDArray[np.uint8], reference: NDArray[np.uint8]) -> float:
    """Return the peak signal-to-noise ratio in dB; 100 for equal images."""
    error = float(np.mean((image.astype(np.float64) - reference) ** 2))
    return min(100.0, 10 * math.log10(255**2 / error)) if error else 100.0


def scores(
    examples: Sequence[Example], images: Sequence[NDArray[np.uint8]], distance: Distance | None = None
) -> dict[str, dict[str, float]]:
    """Return by task the means of what is scored of restored images.

    `psnr` in dB to the clean ones, `gain` over that of the degraded ones, and with a distance `lpips`, that to the
    clean ones, and `lpips_gain`, by how much it is less than that of the degraded ones.
    """
    found = defaultdict[str, list[dict[str, float]]](list)
    for example, image in zip(examples, images, strict=True):
        found[example.task].append(_scores(example, image, distance))
    return {
        task: {kind: float(np.mean([row[kind] for row in rows])) for kind in rows[0]} for task, rows in found.items()
    }


def _scores(example: Example, image: NDArray[np.uint8], distance: Distance | None) -> dict[str, float]:
    reached = psnr(image, example.clean)
    scored = {"psnr": reached, "gain": reached - psnr(example.degraded, example.clean)}
    if distance is not None:
        left = distance(image, example.clean)
        scored |= {"lpips": left, "lpips_gain": distance(example.degraded, example.clean) - left}
    return scored


def strip(examples: Sequence[Example], images: Sequence[NDArray[np.uint8]] = ()) -> NDArray[np.uint8]:
    """Return one picture: a row for each example, degraded, restored where there are `images`, and clean."""
    columns = [[example.degraded for example in examples], [example.clean for example in examples]]
    if images:
        columns.insert(1, list(images))
    rows = [_joined(row, axis=1) for row in zip(*columns, strict=True)]
    return _joined(rows, axis=0)


def _joined(images: Sequence[NDArray[np.uint8]], axis: int) -> NDArray[np.uint8]:
    shape = list(images[0].shape)
    shape[axis] = GAP
    gap = np.full(shape, 255, np.uint8)
    parts = [part for image in images for part in (gap, image)][1:]
    return np.concatenate(parts, axis=axis)


def _shared_out(items: Sequence[Example]) -> list[Example]:
    """Return what this rank does of `items`: equally many on each, or a sharded model would wait for ever."""
    if not dist.is_initialized():
        return list(items)
    own = -(-len(items) // dist.get_world_size())
    start = dist.get_rank() * own
    filled = [*items, *[items[-1]] * (own * dist.get_world_size() - len(items))]
    return filled[start : start + own]


def gathered(own: list[Any]) -> list[Any]:
    """Return what all ranks have, in the order of ranks."""
    if not dist.is_initialized():
        return own
    parts: list[list[Any]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(parts, own)
    return [item for part in parts for item in part]
