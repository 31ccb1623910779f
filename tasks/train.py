"""Train a restorer on one rank: open what the options name, run the loop, export the weights.

A plain process, torchrun and Ray Train call `run` on every rank; it makes the process group unless there is one.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from storage.errors import SettingsError
from storage.weights import locate
from tasks.augment import WebStyle
from tasks.prompts import worded
from tasks.starts import open_start, params_of
from tasks.training_options import DataOptions, Options
from training.data.feed import Readers
from training.data.foreign import Foreign
from training.data.index import Index, read_index
from training.loop import forecast, states
from training.loop.feeding import Data
from training.loop.logs import JsonLines, Log, Logs, Pictures, TensorBoard
from training.loop.objective import Objective
from training.loop.sharding import Layout, laid_out
from training.loop.trainer import Hooks, Job, train
from training.loop.validation import Distance
from training.weights.export import export

WEIGHTS = "model.safetensors"
METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
GLOO_TIMEOUT = timedelta(seconds=75)  # instead of half an hour; on CPUs no rank computes for this long alone
TEXT_TOKENS = {False: 5, True: 640}  # by whether there is a connector, for the forecast


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """This process among those that train together.

    local: its number on its machine, and of its GPU. restarts: how often torchrun has started these ranks again.
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    restarts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Where a training ended. weights: the exported file, None when it was stopped before its last step."""

    step: int
    weights: Path | None


def run(
    options: Options,
    ranks: Ranks = Ranks(),
    *,
    logs: Sequence[Log] = (),
    hooks: Hooks = Hooks(),  # noqa: B008
) -> Outcome:
    """Train to the end, from the newest checkpoint when there is one, and export the weights.

    logs: more than the run's own, on rank 0. Raises SettingsError or ShardError, one sentence, when something named in
    the options is missing, broken, or other than when the run began.
    """
    import torch

    root = Path(options.output)
    if finished(options):
        return outcome(options)
    if options.run.threads:
        torch.set_num_threads(options.run.threads)
    device = "cpu" if options.run.device == "cpu" else f"cuda:{ranks.local}"
    compute = torch.bfloat16 if options.model.compute == "bf16" else torch.float32
    sharded = ranks.world > 1 or compute != options.optimizer.dtype
    _check_optimizer(options, sharded=sharded)
    with _group(ranks, options.run.device, wanted=sharded):
        start = open_start(options.model, seed=options.seed, dtype=options.optimizer.dtype, device=device)
        layout = Layout(checkpointed=options.model.checkpointed, compiled=options.model.compiled, compute=compute)
        trained = [name for name, weight in states.names(start.model).items() if weight.requires_grad]
        laid_out(start.model, layout, sharded=sharded)
        objective = Objective(
            params=start.model.params,
            latents=start.latents,
            prompts=start.prompts,
            weighting=options.weighting,
            device=device,
            dtype=compute,
            mixed=options.model.compute == "mixed",
        )
        data = data_of(options)
        cost = forecast_of(options, world=ranks.world, trained=trained)
        with _opened_logs(options, ranks, logs) as log:
            log.header(_header(options, data.train, cost, ranks))
            job = Job(
                model=start.model,
                objective=objective,
                data=data,
                recipe=options.recipe(),
                rhythm=options.run.rhythm,
                folder=root / CHECKPOINTS,
                log=log,
                hooks=hooks,
                begun=options.begun(data.train),
                distance=_lpips(options.run.lpips, device),
                flops=cost.useful,
                peak=_peak(device),
            )
            state = train(job)
        if state.step >= options.steps:
            export(start.model, state, root / WEIGHTS)
    return outcome(options)


def _check_optimizer(options: Options, *, sharded: bool) -> None:
    """Raise SettingsError for an optimizer that needs weights whole which are sharded."""
    if sharded and options.optimizer.kind == "muon":
        raise SettingsError("muon needs matrices whole: one rank that computes in fp32 or mixed; else choose adamw")
    if sharded and (options.optimizer.weights, options.optimizer.states) == ("bf16-stochastic", "8bit"):
        raise SettingsError(
            "torchao cannot round sharded bf16-stochastic weights with 8bit states; "
            "choose fp32 weights, fp32 states, or one rank that computes in bf16"
        )


def check(options: Options) -> None:
    """Raise what every rank would: SettingsError or ShardError when data are missing, broken or not those of before.

    Nor may the optimizer be one that cannot be shared out among several ranks.
    """
    _check_optimizer(options, sharded=options.run.workers > 1)
    data, checkpoints = data_of(options), states.found(Path(options.output) / CHECKPOINTS)
    if checkpoints:
        states.check_begun(checkpoints[-1], states.remembered(checkpoints[-1]), options.begun(data.train))


def finished(options: Options) -> bool:
    """Return whether the weights of the last step are there already."""
    return outcome(options).weights is not None


def outcome(options: Options) -> Outcome:
    """Return where the training in the options' output has come to."""
    root = Path(options.output)
    checkpoints = states.found(root / CHECKPOINTS)
    step = states.remembered(checkpoints[-1])["step"] if checkpoints else 0
    done = step >= options.steps and (root / WEIGHTS).is_file()
    return Outcome(step=step, weights=root / WEIGHTS if done else None)


def forecast_of(options: Options, *, world: int, trained: Sequence[str] | None = None) -> forecast.Forecast:
    """Return what the training would cost; reads no weights, only their names and shapes."""
    params = params_of(options.model)
    multiple = params.patch if params.connector is None else 16
    tokens = forecast.Tokens(
        text=TEXT_TOKENS[params.connector is not None], target=(options.data.size // multiple) ** 2
    )
    own = options.batch // world
    return forecast.forecast(
        params,
        options.optimizer,
        tokens,
        batch=options.batch,
        micro=min(options.micro or own, own),
        world=world,
        checkpointed=options.model.checkpointed,
        width=2 if options.model.compute == "bf16" else 4,
        trained=trained,
    )


def data_of(options: Options) -> Data:
    """Return what is trained on and looked at; raises SettingsError or ShardError where it is missing or broken."""
    data, shards, looked_at = options.data, _foreign(options.data), None
    index = shards.index() if shards else _index(data.train, "train", data)
    if unknown := sorted(options.curriculum.shares.keys() - set(index.tasks)):
        raise SettingsError(f"curriculum.shares: no pair is of task {unknown[0]}; there are {', '.join(index.tasks)}")
    if options.run.rhythm.validate and (data.validation or data.train):
        looked_at = _index(data.validation or data.train, "validation", data)
    return Data(
        train=index,
        foreign=shards,
        validation=looked_at,
        augment=WebStyle(probability=1) if data.augmented else None,
        wording=worded(data.chinese),
        readers=Readers(workers=data.readers, ahead=data.ahead, processes=data.processes),
    )


def _foreign(data: DataOptions) -> Foreign | None:
    if data.foreign is None:
        return None
    rest = data.foreign.model_dump(exclude={"shards"})
    return Foreign(shards=tuple(map(Path, data.foreign.shards)), **rest)


def _index(folders: Sequence[str], split: str, data: DataOptions) -> Index:
    return read_index([Path(name) for name in folders], split, data.tasks)


def _lpips(weights: str, device: str) -> Distance | None:
    if not weights:
        return None
    from filters._lpips import open_lpips

    return open_lpips(locate(weights), device)


def _opened_logs(options: Options, ranks: Ranks, more: Sequence[Log]) -> Logs:
    if ranks.rank:
        return Logs([])
    root = Path(options.output)
    checkpoints = states.found(root / CHECKPOINTS)
    step = states.remembered(checkpoints[-1])["step"] if checkpoints else 0
    own: list[Log] = [JsonLines(root / METRICS, step=step if checkpoints else -1), Pictures(root / "samples")]
    if options.run.tensorboard:
        own.append(TensorBoard(root / "tensorboard", step=step))
    return Logs([*own, *more])


def _peak(device: str) -> float | None:
    import torch

    return forecast.peak(torch.cuda.get_device_name(device)) if device != "cpu" else None


def _header(options: Options, index: Index, cost: forecast.Forecast, ranks: Ranks) -> dict[str, Any]:
    import torch

    return {
        "settings": options.model_dump(mode="json"),
        "data": index.digest,
        "pairs": len(index.records),
        "reference_ids": params_of(options.model).reference_ids,
        "forecast": cost.data(),
        "world": ranks.world,
        "torch": torch.__version__,
    }


@contextmanager
def _group(ranks: Ranks, device: str, *, wanted: bool) -> Iterator[None]:
    """Have a process group for as long as the block, if one is wanted and none is there yet."""
    from torch import distributed as dist
    from torch.distributed import HashStore  # type: ignore[attr-defined]

    if dist.is_initialized() or not wanted:
        yield
        return
    backend = "nccl" if device == "cuda" else "gloo"
    if ranks.world > 1:  # where the others are stands in the environment, as torchrun sets it
        store, rank, world = next(iter(dist.rendezvous("env://")))  # type: ignore[attr-defined]
        # torchrun's store outlives a restart: without a name of its own a rank would meet the addresses of dead ones.
        fresh = dist.PrefixStore(f"restart-{ranks.restarts}", store)  # type: ignore[attr-defined]
        timeout = GLOO_TIMEOUT if backend == "gloo" else None
        dist.init_process_group(backend, store=fresh, rank=rank, world_size=world, timeout=timeout)
    else:
        dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()
