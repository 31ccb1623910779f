"""A training on several ranks with Ray Train: the other code that imports Ray, because its trainers are no work shards.

Ray starts the ranks, makes their process group, and starts all of them again when one dies. It keeps no checkpoint of
ours: those in the training's folder are the truth, and what another launcher left is gone on from in the same way.
"""

import tempfile
from pathlib import Path
from typing import Any

import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from storage.errors import PairForgeError
from tasks.remote import Cluster
from tasks.train import Outcome, Ranks, outcome, run
from tasks.training_options import Options
from training.loop.trainer import Hooks

try:
    from ray.train import TrainingFailedError
except ImportError:  # it moved between versions
    from ray.train.base_trainer import TrainingFailedError


def run_on_ray(options: Options, address: str | None) -> Outcome:
    """Train on the Ray cluster at `address`, or on a local one, with `options.run.workers` ranks.

    Call it in the main thread. Raises what a rank raised when it fails more often than `options.run.restarts` allows.
    """
    gpu = options.run.device == "cuda"
    with Cluster(options.run.workers, address, device=options.run.device), tempfile.TemporaryDirectory() as books:
        trainer = TorchTrainer(
            _rank,
            train_loop_config={"options": options.model_dump(mode="json")},
            scaling_config=ScalingConfig(num_workers=options.run.workers, use_gpu=gpu),
            # On a cluster of several machines Ray wants a folder that all of them see; for what is reported here, a
            # number a checkpoint, any will do on one.
            run_config=RunConfig(
                name=options.stage,
                storage_path=books if address is None else str(Path(options.output) / ".ray"),
                failure_config=FailureConfig(max_failures=options.run.restarts),
            ),
            torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        )
        try:
            trainer.fit()
        except TrainingFailedError as error:
            raise _as_itself(error) from error
    return outcome(options)


def _rank(config: dict[str, Any]) -> None:
    """On a worker: one rank, in the process group that Ray has made."""
    context = ray.train.get_context()
    ranks = Ranks(rank=context.get_world_rank(), world=context.get_world_size(), local=context.get_local_rank())
    options = Options.model_validate(config["options"])
    hooks = Hooks(saved=lambda path, numbers: ray.train.report(dict(numbers)))
    run(options, ranks, hooks=hooks)


def _as_itself(error: Exception) -> Exception:
    """Return what one of the ranks raised, as itself where it is ours."""
    failures = getattr(error, "worker_failures", {}) or {}
    raised = [getattr(failure, "cause", None) or failure for failure in failures.values()]
    ours = [failure for failure in raised if isinstance(failure, PairForgeError)]
    if ours:
        return ours[0]
    reason = str(raised[0] if raised else error).strip().rpartition("\n")[2]
    return PairForgeError(f"a rank failed more often than run.restarts allows: {reason}")
