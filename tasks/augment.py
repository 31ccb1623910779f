"""The web-style degradation that training adds to the degraded side, as a callable for the trainer.

RealRestorer (arXiv 2603.25502) trains both stages with it: blur, shrink, noise, JPEG, enlarge (`web`, form `sr`). How
often is not published, so `probability` has no default. What happens to a sample is a function of its seed,
its size and these options alone: ranks, workers, batch sizes and devices change nothing but at most one code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np

from degradations.coding.passes import Interpolation, Pass
from degradations.coding.web import draw_enlargement, draw_passes
from degradations.coding.web import wear as wear_one
from degradations.numerics.random import chance, generator, uniform
from storage.records import Image

if TYPE_CHECKING:
    from torch import Tensor

STREAM = 5  # of a sample's seed: the trainer may draw other things from the same seed


@dataclass(frozen=True, slots=True, kw_only=True)
class WebStyle:
    """What the trainer calls on degraded pictures, never on clean ones; it can be sent to a worker.

    It wears each picture with `probability`, at a severity drawn evenly from the interval `severity`; at 1 the
    published ranges are reached. Raises ValueError for values outside [0, 1].
    """

    probability: float
    severity: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        """Raise ValueError for a probability or an interval that is none."""
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability must be in [0, 1], got {self.probability}")
        if not 0 <= self.severity[0] <= self.severity[1] <= 1:
            raise ValueError(f"severity must be an interval within [0, 1], got {self.severity}")

    @overload
    def __call__(self, images: Image, seeds: int, /) -> Image: ...

    @overload
    def __call__(self, images: "Tensor", seeds: Sequence[int], /) -> "Tensor": ...

    def __call__(self, images: "Image | Tensor", seeds: int | Sequence[int], /) -> "Image | Tensor":
        """Return the like of `images`: uint8 (H, W, 3) sRGB with one seed, or a batch with a seed for each sample.

        A batch is float32 (B, 3, H, W) sRGB in [0, 1], on any device; on a CPU the NumPy path, faster there, does the
        work. Raises ValueError for another shape, or another number of seeds.
        """
        if isinstance(images, np.ndarray):
            assert isinstance(seeds, int)
            return wear_one(images, *self.draw(seeds, images.shape))
        assert not isinstance(seeds, int)
        if images.ndim != 4 or images.shape[1] != 3 or len(seeds) != len(images):
            raise ValueError(
                f"expected (B, 3, H, W) and a seed for each, got {tuple(images.shape)}, {len(seeds)} seeds"
            )
        drawn = [self.draw(int(seed), tuple(images.shape[2:])) for seed in seeds]
        return _batch_worn(images, [passes for passes, _ in drawn], [enlargement for _, enlargement in drawn])

    def draw(self, seed: int, shape: tuple[int, ...]) -> tuple[tuple[Pass, ...], Interpolation]:
        """Return what `seed` does to a picture of `shape` (H, W, ...): its passes, or none, and the enlargement."""
        rng = generator(seed, STREAM)
        worn, strength = chance(rng, self.probability), uniform(rng, *self.severity)
        passes, enlargement = draw_passes(rng, strength, "sr", shape), draw_enlargement(rng)
        return (passes if worn else ()), enlargement


def _batch_worn(
    images: "Tensor", passes: Sequence[tuple[Pass, ...]], enlargements: Sequence[Interpolation]
) -> "Tensor":
    import torch

    from degradations.batched.web import wear

    if images.device.type != "cpu":
        return wear(images, passes, enlargements)
    codes = (images * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    worn = np.stack([wear_one(*sample) for sample in zip(codes, passes, enlargements, strict=True)])
    return torch.from_numpy(worn).permute(0, 3, 1, 2).float().contiguous() * (1 / 255)
