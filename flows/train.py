"""A training as a Prefect flow, in this process, under torchrun, or on Ray Train; storage is the truth here too.

A deployment runs `flows.train.train_restorer`; `pairforge train` runs the same on a server of its own. Under torchrun
every rank runs the command, and there is no server: torchrun is the one that starts and restarts.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from prefect import flow
from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.runtime import flow_run

from flows.following import Follower, Following, Moment
from flows.server import LocalServer
from flows.training_metrics import TrainingMetrics
from storage.errors import SettingsError
from storage.lease import Lease

if TYPE_CHECKING:  # `prefect deploy` reads this file where the `train` extra may be missing
    from tasks.train import Outcome, Ranks
    from tasks.training_options import Options

log = logging.getLogger(__name__)

NAME = "train-restorer"


@flow(name=NAME, retries=0)
def train_restorer(settings: str) -> dict[str, Any]:
    """Train the restorer that a settings file describes and return what it came to.

    settings: path of a TOML file. The run goes on from the newest checkpoint, and ends at once when it is done.
    """
    from flows.training_settings import read_training

    options = read_training(Path(settings))
    return told(train_here(options, [Progress(options).follow], owner=f"Prefect flow run {flow_run.get_name()}"))


def train_on_server(options: "Options", file: Path, server: LocalServer, followers: Sequence[Follower]) -> "Outcome":
    """Train as a flow run on `server`; the caller's followers are told how it goes."""
    outcomes: list[Outcome] = []
    server.wait()

    @flow(name=NAME, retries=0)
    def train_this(settings: str) -> dict[str, Any]:
        outcomes.append(train_here(options, [Progress(options).follow, *followers], owner="pairforge train"))
        return told(outcomes[0])

    train_this(str(file))
    return outcomes[0]


def train_here(options: "Options", followers: Sequence[Follower], *, owner: str) -> "Outcome":
    """Train on the ranks that the options ask for, one run at a time in one output."""
    from tasks.train import METRICS, check, finished, run
    from training.loop.trainer import Hooks

    root = Path(options.output)
    with (
        Lease(root, owner=owner),
        TrainingMetrics(root, port=options.run.metrics_port) as metrics,
        Following(root / METRICS, options.steps, metrics.follow, *followers),
    ):
        if finished(options):
            return run(options)
        if options.run.workers > 1:
            check(options)  # here, once, instead of on all ranks after every restart
            from flows.quiet import silence_ray

            silence_ray()
            try:
                from tasks.ray_train import run_on_ray
            except ImportError as error:
                raise SettingsError(
                    "run.workers above 1 needs Ray Train: install ray[train], or use torchrun"
                ) from error

            return run_on_ray(options, os.environ.get("RAY_ADDRESS"))
        with stopped_by_signals() as stopped:
            return run(options, hooks=Hooks(stop=stopped))


def train_rank(options: "Options", ranks: "Ranks", followers: Sequence[Follower]) -> "Outcome":
    """Train as one of the ranks that torchrun started; rank 0 tells the followers."""
    from tasks.train import METRICS, run
    from training.loop.trainer import Hooks

    root = Path(options.output)
    with stopped_by_signals() as stopped:
        if ranks.rank:
            return run(options, ranks, hooks=Hooks(stop=stopped))
        with (
            TrainingMetrics(root, port=options.run.metrics_port) as metrics,
            Following(root / METRICS, options.steps, metrics.follow, *followers),
        ):
            return run(options, ranks, hooks=Hooks(stop=stopped))


def ranks_of_torchrun() -> "Ranks | None":
    """Return which rank this process is, if torchrun started it."""
    from tasks.train import Ranks

    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    rank, world, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    return Ranks(rank=rank, world=world, local=local, restarts=int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)))


def leave() -> NoReturn:
    """End this rank of torchrun at once, its work done.

    Threads of gloo may still hold tensors. If they ask for the interpreter's lock while it shuts down, the process
    aborts (pytorch/pytorch#179291), and torchrun ends all other ranks, whatever they are doing.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


class Progress:
    """A progress artifact of the flow run, and at the end of the steps a table of the gains."""

    def __init__(self, options: "Options") -> None:
        self._steps = options.steps
        self._artifact: Any = None
        self._output = options.output

    def follow(self, moment: Moment) -> None:
        """Show where the training is; a server that cannot be told does not end it."""
        try:
            self._show(moment)
        except Exception as error:
            log.warning("Prefect was not told of step %s: %s", moment.step, error)

    def _show(self, moment: Moment) -> None:
        percent = 100 * moment.step / self._steps
        if self._artifact is None:
            self._artifact = create_progress_artifact(percent, key=NAME, description=moment.text())
        else:
            update_progress_artifact(self._artifact, percent, description=moment.text())
        gains = {name: value for name, value in moment.fresh.items() if name.startswith("val/gain/")}
        if gains and moment.step >= self._steps:
            rows = [{"task": name.rpartition("/")[2], "gain in dB": round(value, 2)} for name, value in gains.items()]
            create_table_artifact(rows, key=f"{NAME}-gains", description=f"Gains of {self._output}")


def told(outcome: "Outcome") -> dict[str, Any]:
    """Return an outcome as JSON values."""
    return {"step": outcome.step, "weights": str(outcome.weights) if outcome.weights else None}


@contextmanager
def stopped_by_signals() -> Iterator[Callable[[], bool]]:
    """Yield whether SIGINT or SIGTERM came: then the loop leaves a checkpoint and ends. A second one ends at once."""
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield came.is_set
        return

    def take(number: int, _: FrameType | None) -> None:
        if came.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        came.set()

    before = {number: signal.signal(number, take) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
