"""Examples ahead of the step that needs them, in order, by threads or processes, never more than `ahead` batches.

The order is that of positions; how many workers there are, and how fast, changes only how long a step waits.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from torch.utils.data import DataLoader, Dataset

from storage.errors import TransientError
from training.data.crops import Size
from training.data.examples import Example, Maker

Place = tuple[int, Size]  # a position and the size of its images


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """What one rank reads: of the `batch` positions of a step, the `rank`-th of `world` equal parts."""

    batch: int
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        """Raise ValueError when the batch cannot be divided."""
        if self.batch % self.world:
            raise ValueError(f"a batch of {self.batch} does not divide among {self.world} ranks")

    def positions(self, step: int) -> range:
        """Return the positions of this rank at `step`."""
        own = self.batch // self.world
        first = step * self.batch + self.rank * own
        return range(first, first + own)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readers:
    """Who makes the examples: `workers` threads, or processes, `ahead` batches before they are needed."""

    workers: int = 2
    ahead: int = 2
    processes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fed:
    """The examples of one step. waited: seconds the step stood still for them."""

    step: int
    examples: list[Example]
    waited: float


def feed(maker: Maker, steps: range, part: Slice, size_of: Callable[[int], Size], readers: Readers) -> Generator[Fed]:
    """Yield the batches of `steps`; size_of: the size of a step's images.

    Close the iterator to end its workers. What a worker raised is raised at the step it belongs to.
    """
    batches = [[(position, size_of(step)) for position in part.positions(step)] for step in steps]
    made = _by_processes(maker, batches, readers) if readers.processes else _by_threads(maker, batches, readers)
    for step in steps:
        began = time.perf_counter()
        examples = next(made)
        yield Fed(step=step, examples=examples, waited=time.perf_counter() - began)


def _by_threads(maker: Maker, batches: list[list[Place]], readers: Readers) -> Iterator[list[Example]]:
    waiting: deque[list[Future[Example]]] = deque()
    left = iter(batches)
    with ThreadPoolExecutor(readers.workers, thread_name_prefix="reader") as pool:
        try:
            for _ in batches:
                while len(waiting) <= readers.ahead and (batch := next(left, None)):
                    waiting.append([pool.submit(maker.example, *place) for place in batch])
                yield [future.result() for future in waiting.popleft()]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class _Examples(Dataset[Example | Exception]):
    """A maker as torch's loader wants it; exceptions are data, or the loader would bury them in tracebacks."""

    def __init__(self, maker: Maker) -> None:
        self._maker = maker

    def __getitem__(self, place: Place) -> Example | Exception:
        try:
            return self._maker.example(*place)
        except Exception as error:
            return error


def _by_processes(maker: Maker, batches: list[list[Place]], readers: Readers) -> Iterator[list[Example]]:
    loader = DataLoader(
        _Examples(maker),
        batch_sampler=batches,  # our indices are positions with sizes
        num_workers=readers.workers,
        prefetch_factor=max(1, -(-readers.ahead // readers.workers)),
        collate_fn=list,
        multiprocessing_context="forkserver",  # forking a process that has threads can deadlock
        worker_init_fn=_one_thread,
    )
    try:
        for made in loader:
            for example in made:
                if isinstance(example, Exception):
                    raise example
            yield made
    except RuntimeError as error:
        if "worker" in str(error):
            raise TransientError("a process that reads examples died; run the same command again") from error
        raise


def _one_thread(worker: int) -> None:
    import cv2

    cv2.setNumThreads(1)
