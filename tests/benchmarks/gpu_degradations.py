"""Images per second of the batched degradations, and how far they are from the CPU; needs torch and NumPy only.

    python tests/benchmarks/gpu_degradations.py [--device cuda] [--side 1024] [--batches 1 8 32] [--repeat 5]

Run from the repository's root on a machine that has nothing but torch and NumPy. It prints one row for each operation
and batch size, and the largest difference in codes from the same operation on the CPU (over a batch of two at a side of
at most 256): 0 where all sums are exact, at most 1 elsewhere. Exits with status 1 if a difference is larger.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))

from degradations.batched.blur import Spread, spread
from degradations.batched.jpeg import jpeg, standard_steps
from degradations.batched.noise import noisy
from degradations.batched.web import wear
from degradations.coding.passes import Pass
from degradations.numerics.taps import gaussian_taps

Operation = Callable[[Tensor], Tensor]
WARM_UP = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorNoise:
    """What `batched.noise` reads of `degradations.noise.Noise`, which needs OpenCV: a sensor at high gain."""

    seed: int
    shot: float = 0.01
    read: float = 4e-4
    row: float = 0.004
    hot: float = 5e-5
    bits: int = 12
    red: float = 2.1
    blue: float = 1.7
    crosstalk: float = 0.5
    luma: float = 0.6
    chroma: float = 0.1
    blotch: float = 0.6
    toe: float = 0.01
    grain: float = 0.0
    grain_chroma: float = 0.0
    grain_radius: float = 0.0
    midtones: bool = False
    clump: int = 0
    white: float = 0.0
    poisson: float = 0.0
    grey: bool = False
    impulse: float = 0.0
    segment_gains: tuple[float, ...] = ()
    tail_quality: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    operation: str
    batch: int
    per_second: float
    difference: int
    unequal: float = field(default=0.0)


def operations(count: int) -> dict[str, Operation]:
    """Return what is timed, each with params that differ from sample to sample."""
    webs = [(_web(index),) for index in range(count)]
    whites = [SensorNoise(seed=index, shot=0.0, read=0.0, hot=0.0, row=0.0, white=0.06) for index in range(count)]
    sensors = [SensorNoise(seed=index) for index in range(count)]
    soft = [Spread(kernels=(_round(1.0 + 0.1 * (index % 6)),), highlights=3.0) for index in range(count)]
    wide = [Spread(kernels=(_round(1.5),), halvings=1 + index % 2, highlights=3.0) for index in range(count)]
    moved = [Spread(kernels=(_line(41, 0.3 * index),), highlights=3.0) for index in range(count)]
    return {
        "web-style (blur, resize, noise, JPEG, resize)": lambda images: wear(images, webs, ["bicubic"] * count),
        "JPEG 4:2:0, quality 30 to 95": lambda images: _saved(images, count),
        "noise, web": lambda images: noisy(images, whites),
        "noise, sensor": lambda images: noisy(images, sensors),
        "blur, Gaussian sigma 1.0 to 1.5": lambda images: spread(images, soft),
        "blur, Gaussian on halved copies": lambda images: spread(images, wide),
        "blur, motion of 41 pixels": lambda images: spread(images, moved),
    }


def measure(name: str, count: int, *, device: torch.device, side: int, repeat: int) -> Row:
    """Return the median speed of operation `name` on `count` pictures, and its difference from the CPU."""
    images = pictures(count, side).to(device)
    act = operations(count)[name]
    for _ in range(WARM_UP):
        act(images)
    seconds = [_timed(act, images, device) for _ in range(repeat)]
    small = pictures(2, min(side, 256))
    act = operations(2)[name]
    change = ((act(small.to(device)).cpu() - act(small)).abs() * 255).round()
    return Row(name, count, count / float(np.median(seconds)), int(change.max()), float((change > 0).float().mean()))


def pictures(count: int, side: int) -> Tensor:
    """Return pictures with edges, slopes and texture, float32 (B, 3, side, side) in [0, 1], on the codes of 255."""
    rows, columns = np.mgrid[:side, :side] / side
    rng = np.random.Generator(np.random.PCG64(1))
    made = []
    for index in range(count):
        waves = np.sin(40 * rows * (1 + index) + 9 * np.sin(12 * columns)) + (columns > rows) + 0.2 * rows
        texture = rng.random((3, side, side)) * 0.15
        made.append(np.clip(0.25 + 0.2 * waves + texture + 0.6 * (rows < 0.1), 0, 1))
    return torch.from_numpy(np.rint(np.stack(made) * 255).astype(np.float32) / 255)


def main() -> int:
    """Print the table; returns the exit status."""
    given = arguments()
    device = torch.device(given.device)
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{device.type}, {torch.get_num_threads()} threads"
    )
    say(f"{name}; torch {torch.__version__}; {given.side} x {given.side}; median of {given.repeat}")
    say(f"{'operation':48}{'batch':>6}{'images/s':>11}{'ms/image':>10}  difference from the CPU")
    worst = 0
    for operation in operations(1):
        for count in given.batches:
            row = measure(operation, count, device=device, side=given.side, repeat=given.repeat)
            told = f"{row.difference} codes, {row.unequal:.2%} of values"
            say(f"{operation:48}{count:>6}{row.per_second:>11.1f}{1000 / row.per_second:>10.2f}  {told}")
            worst = max(worst, row.difference)
    return 1 if worst > 1 else 0


def arguments() -> argparse.Namespace:
    """Return what was asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--repeat", type=int, default=5)
    return parser.parse_args()


def say(line: str) -> None:
    """Write a line of the table at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _timed(act: Operation, images: Tensor, device: torch.device) -> float:
    _finish(device)
    start = time.perf_counter()
    act(images)
    _finish(device)
    return time.perf_counter() - start


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _web(index: int) -> Pass:
    return Pass(
        sigma=0.4 + 0.2 * (index % 5),
        cutoff=0.0,
        scale=0.5 + 0.1 * (index % 5),
        interpolation=("area", "bilinear", "bicubic")[index % 3],
        noise=2.0 + index % 8,
        photons=0.0,
        grey=index % 3 == 0,
        quality=60 + index % 36,
        seed=index,
    )


def _saved(images: Tensor, count: int) -> Tensor:
    qualities = [30 + 13 * index % 66 for index in range(count)]
    sizes = [(images.shape[2], images.shape[3])] * count
    codes = jpeg((images * 255).round().int(), sizes, standard_steps(qualities, images.device), "4:2:0")
    return codes.float() / 255


def _round(sigma: float) -> np.ndarray:
    taps = gaussian_taps(sigma)
    return np.outer(taps, taps)


def _line(length: int, angle: float) -> np.ndarray:
    """Return an odd square kernel of a line of `length` pixels: points shared among the four nearest pixels."""
    reach = length // 2 + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    for place in np.linspace(-length / 2, length / 2, 8 * length):
        row, column = reach + place * np.cos(angle), reach + place * np.sin(angle)
        top, left = int(row), int(column)
        down, right = row - top, column - left
        kernel[top : top + 2, left : left + 2] += np.outer((1 - down, down), (1 - right, right))
    return (kernel / kernel.sum()).astype(np.float32)


if __name__ == "__main__":
    sys.exit(main())
