"""Step time, use of the device and peak memory of the restorer, over the ways to run it; needs no dataset, no weights.

    python tests/benchmarks/gpu_training.py                     # base() at 1024 squared on the first GPU
    python tests/benchmarks/gpu_training.py --tiny --device cpu # the same grid on a small model, here

It imports torch, einops and safetensors, and of PairForge only the core of `training` and `storage`, so a checkout on a
bare GPU machine is enough. Weights are random: speed does not depend on them. Every line is a JSON object; the first
says what it was measured on. FLOPs are counted as facts and forecast count them, the useful ones: recomputation is
time, but no use. A configuration that does not fit is reported as such and the grid goes on.
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

sys.path.insert(0, str(Path(__file__).parents[2]))

from training import flow
from training.loop.forecast import Tokens, forward_flops, peak, useful_flops
from training.loop.optimizers import Optimization, clip, make_optimizer
from training.loop.sharding import Layout, laid_out
from training.network import packing
from training.network.model import RestorationTransformer, build
from training.network.params import Params, base, tiny

BACKENDS = {
    "default": None,
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
STATES = {  # bytes a parameter with float32 gradients: 16, 10, 14, 8
    "fp32": Optimization(learning_rate=1e-5),
    "fp32+8bit": Optimization(learning_rate=1e-5, states="8bit"),
    "bf16": Optimization(learning_rate=1e-5, weights="bf16-stochastic"),
    "bf16+8bit": Optimization(learning_rate=1e-5, weights="bf16-stochastic", states="8bit"),
}
BATCH = 16  # of RealRestorer's first stage; a step is so many samples one after the other
STEPS = 28
LIMITS = {"step_s": 8.2, "step_recomputed_s": 11.0, "image_s": 9.6}  # of one H200, computed at 989 TFLOP/s


def main() -> None:
    """Measure the whole grid, or what is asked for of it."""
    options = _options()
    params = tiny() if options.tiny else base()
    rows = options.size // (params.patch if options.tiny else 16)
    tokens = Tokens(text=5 if options.tiny else 640, target=rows**2)
    _tell(_device(options, params, tokens))
    blocks = params.double_blocks + params.single_blocks
    grid = itertools.product(options.compile, options.attention, options.checkpointed, options.states)
    for compiled, backend, share, states in grid:
        row = {"compile": compiled, "attention": backend, "checkpointed": round(share * blocks), "states": states}
        _tell(row | _tried(lambda r=row: _training(params, tokens, rows, r, options)))
    for compiled, backend in itertools.product(options.compile, options.attention):
        row = {"compile": compiled, "attention": backend}
        _tell(row | _tried(lambda r=row: _inference(params, tokens, rows, r, options)))


def _training(params: Params, tokens: Tokens, rows: int, row: dict[str, Any], options: Any) -> dict[str, Any]:
    device, optimization = options.device, STATES[row["states"]]
    compute = torch.bfloat16 if device != "cpu" else torch.float32
    with _one_rank(device, wanted=optimization.dtype != compute) as sharded:
        model = _model(params, device, optimization.dtype)
        laid_out(
            model,
            Layout(checkpointed=row["checkpointed"], compiled=row["compile"], compute=compute),
            sharded=sharded,
        )
        optimizer = make_optimizer(model.parameters(), optimization, seed=0)
        inputs, noise = _inputs(params, tokens, rows, device, compute, 1)

        def sample() -> None:
            velocity = model(*inputs)
            flow.loss(velocity, inputs[0], noise).backward()

        def update() -> None:
            clip(model.parameters(), optimization.clip)
            optimizer.step()

        with _attention(row["attention"]):
            sample_s = _timed(sample, device, options.repeats)
            update_s = _timed(update, device, options.repeats)
    step_s = BATCH * sample_s + update_s
    flops = useful_flops(params, tokens, batch=BATCH)
    return {
        "sample_s": sample_s,
        "update_s": update_s,
        "step_s": step_s,
        **_use(flops / step_s, device),
        **_peak_memory(device),
    }


@torch.no_grad()
def _inference(params: Params, tokens: Tokens, rows: int, row: dict[str, Any], options: Any) -> dict[str, Any]:
    device = options.device
    compute = torch.bfloat16 if device != "cpu" else torch.float32
    model = _model(params, device, compute).eval()
    if row["compile"]:
        for block in (*model.double_blocks, *model.single_blocks):
            block.compile(fullgraph=True, dynamic=False)
    inputs, _ = _inputs(params, tokens, rows, device, compute, 2)  # with the prompt and without, as one batch
    with _attention(row["attention"]):
        forward_s = _timed(lambda: model(*inputs), device, options.repeats)
    flops = 2 * forward_flops(params, tokens)
    return {
        "image_s": STEPS * forward_s,
        "forward_s": forward_s,
        **_use(flops / forward_s, device),
        **_peak_memory(device),
    }


def _model(params: Params, device: str, dtype: torch.dtype) -> RestorationTransformer:
    """Return a restorer with random weights, made on the device: tensor by tensor, in its own type."""
    model = (
        build(params).to_empty(device=device)
        if dtype == torch.float32
        else build(params).to(dtype).to_empty(device=device)
    )
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.02, generator=generator)
    return model


def _inputs(
    params: Params, tokens: Tokens, rows: int, device: str, dtype: torch.dtype, batch: int
) -> tuple[tuple[Tensor, ...], Tensor]:
    generator = torch.Generator(device).manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator, device=device).to(dtype)

    target, reference, noise = (normal(tokens.target, params.channels) for _ in range(3))
    prompt = normal(tokens.text, params.prompt_width)
    mask = torch.ones(batch, tokens.text, dtype=torch.bool, device=device)
    sigma = torch.full((batch,), 0.5, device=device)
    ids = packing.positions(params, text=tokens.text, rows=rows, columns=rows, device=device)
    return (target, reference, sigma, prompt, mask, ids), noise


def _timed(work: Callable[[], Any], device: str, repeats: int) -> float:
    """Return the least seconds of `repeats` runs, after two that compile and warm up."""
    for _ in range(2):
        work()
    found = []
    for _ in range(repeats):
        _wait(device)
        began = time.perf_counter()
        work()
        _wait(device)
        found.append(time.perf_counter() - began)
    return min(found)


def _tried(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return measure()
    except torch.OutOfMemoryError:
        return {"failed": "out of memory"}
    except (RuntimeError, ImportError) as error:
        return {"failed": str(error).strip().partition("\n")[0][:200]}
    finally:
        torch._dynamo.reset()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


@contextmanager
def _one_rank(device: str, *, wanted: bool) -> Iterator[bool]:
    """Have a process group of one rank: a float32 model that computes in bfloat16 is sharded over it."""
    if not wanted:
        yield False
        return
    dist = torch.distributed
    dist.init_process_group("gloo" if device == "cpu" else "nccl", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield True
    finally:
        dist.destroy_process_group()


def _attention(backend: str) -> Any:
    chosen = BACKENDS[backend]
    return nullcontext() if chosen is None else sdpa_kernel(chosen)


def _use(flops_a_second: float, device: str) -> dict[str, float]:
    most = peak(torch.cuda.get_device_name(device)) if device != "cpu" else None
    used = {"tflops": flops_a_second / 1e12}
    return used | ({"mfu": flops_a_second / most} if most else {})


def _peak_memory(device: str) -> dict[str, float]:
    return {} if device == "cpu" else {"peak_gib": torch.cuda.max_memory_allocated(device) / 2**30}


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)


def _device(options: Any, params: Params, tokens: Tokens) -> dict[str, Any]:
    return {
        "device": "cpu" if options.device == "cpu" else torch.cuda.get_device_name(options.device),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "model": "tiny" if options.tiny else "base",
        "size": options.size,
        "forward_tflop": forward_flops(params, tokens) / 1e12,
        "limits": {} if options.tiny else LIMITS,
    }


def _tell(row: dict[str, Any]) -> None:
    rounded = {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in row.items()}
    sys.stdout.write(json.dumps(rounded) + "\n")
    sys.stdout.flush()


def _options() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--size", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compile", type=_flags)
    parser.add_argument("--attention", type=lambda text: text.split(","))
    parser.add_argument("--checkpointed", type=lambda text: [float(part) for part in text.split(",")], default=[1, 0.5])
    parser.add_argument("--states", type=lambda text: text.split(","))
    options = parser.parse_args()
    on_cpu = options.device == "cpu"  # where compiling takes minutes for each shape of a weight
    options.compile = options.compile or ([False] if on_cpu else [False, True])
    options.attention = options.attention or (["default", "math"] if on_cpu else ["flash", "cudnn", "efficient"])
    options.states = options.states or (["fp32", "bf16"] if on_cpu else list(STATES))
    options.size = options.size or (64 if options.tiny else 1024)
    return options


def _flags(text: str) -> list[bool]:
    return [part in ("1", "true", "yes") for part in text.split(",")]


if __name__ == "__main__":
    main()
