"""`pairforge train`: a restorer from a settings file, with a forecast before it starts; run again, it goes on."""

import time
from pathlib import Path
from typing import Any

from flows.console import Console, duration
from flows.following import Moment
from storage.errors import PairForgeError, SettingsError


def train_command(file: Path, *, dry_run: bool, as_json: bool) -> int:
    """Train, or say what it would cost; returns the exit status."""
    try:
        from flows.train import leave, ranks_of_torchrun, train_rank
        from flows.training_settings import read_training
        from tasks.train import forecast_of
        from tasks.train import outcome as outcome_of
    except ImportError as error:
        raise SettingsError(f"train needs {error.name}: install PairForge with its `train` extra") from error

    console = Console(as_json=as_json)
    options = read_training(file)
    ranks = ranks_of_torchrun()
    cost = forecast_of(options, world=ranks.world if ranks else options.run.workers)
    if dry_run:
        console.result(
            {"steps": options.steps, "forecast": cost.data()}, "\n".join([*cost.lines(), _whole(options, cost)])
        )
        return 0
    if ranks is None or ranks.rank == 0:
        for line in cost.lines():
            console.say(line)
    began = time.monotonic()
    if ranks is not None:
        outcome = train_rank(options, ranks, [_Terminal(console).follow] if ranks.rank == 0 else [])
        if ranks.rank:
            leave()
    elif (outcome := outcome_of(options)).weights is None:
        outcome = _on_server(options, file, console)
    if outcome.weights is None:
        raise PairForgeError(f"stopped at step {outcome.step} of {options.steps}; run the same command again to go on")
    seconds = time.monotonic() - began
    data = {"step": outcome.step, "weights": str(outcome.weights), "seconds": round(seconds, 1)}
    console.result(data, f"{outcome.weights}\n{outcome.step} steps, {duration(seconds)}")
    if ranks is not None:
        leave()
    return 0


def _on_server(options: Any, file: Path, console: Console) -> Any:
    from flows.server import LocalServer
    from flows.train import train_on_server

    with LocalServer() as server, console.busy("starting Prefect"):
        return train_on_server(options, file, server, [_Terminal(console).follow])


class _Terminal:
    def __init__(self, console: Console) -> None:
        self._console = console

    def follow(self, moment: Moment) -> None:
        """Show where the training is, and for how much longer."""
        left = moment.seconds_left
        text = moment.text() + (f", {duration(left)} left" if left else "")
        self._console.doing(text)
        self._console.progress(text, final=moment.step >= moment.steps)


def _whole(options: Any, cost: Any) -> str:
    samples, flops = options.steps * options.batch, cost.flops * options.steps
    return f"in all       {options.steps} steps, {samples} samples, {flops:.3g} FLOP"
