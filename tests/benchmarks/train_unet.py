"""Train the plain U-Net on what a settings file trains the embedded restorer on, for so many CPU-seconds or steps.

    python tests/benchmarks/train_unet.py SETTINGS -o unet.safetensors --cpu-seconds 1200 [--loss psnr] ...

The same settings, seed and data feed: its crops are those of the restorer, position by position, and it goes on with
the positions after the restorer's last when it is faster. Its widths are chosen for the restorer's number of
parameters. CPU-seconds are those of this process from its start, threads that read and start-up included. The rate
falls along a cosine of the CPU-seconds spent, so the schedule fits the budget whatever else the machine does.

Losses: Charbonnier (Lai and others 2017, arXiv:1710.01992) or that of NAFNet (arXiv:2204.04676), the PSNR of each
sample.
"""

import argparse
import json
import math
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[2]))

from flows.training_settings import read_training
from tasks.starts import params_of
from tasks.train import data_of
from tests.benchmarks.plain_unet import count, sized
from training.data.curriculum import equal_shares
from training.data.feed import Slice
from training.encoders.latents import PixelLatents
from training.encoders.prompts import GlancingPrompts
from training.loop.averages import Average
from training.loop.feeding import Feeding
from training.loop.objective import Objective
from training.loop.optimizers import set_rate
from training.network import params as shapes
from training.network.model import build

MOST_STEPS = 20_000
RECIPE = ("loss", "learning_rate", "warmup", "weight_decay", "average", "compute", "threads")
CLOSE = 0.05  # how near the numbers of parameters must be


def charbonnier(found, clean):
    return ((found - clean) / 2).square().add(1e-6).sqrt().mean()


def psnr(found, clean):
    errors = ((found - clean) / 2).square().mean(dim=(1, 2, 3))
    return (10 * torch.log10(errors + 1e-8)).mean()


LOSSES = {"charbonnier": charbonnier, "psnr": psnr}


def learning_rate(given, step, done):
    """Return the rate of `step` when `done` of the whole is over."""
    return given.learning_rate * min(1, (step + 1) / given.warmup) * 0.5 * (1 + math.cos(math.pi * min(1, done)))


def fed(options):
    """Return what makes inputs of examples, and the batches from step 0 on, as the restorer is fed."""
    params = params_of(options.model)
    latents = PixelLatents(params.patch)
    objective = Objective(params=params, latents=latents, prompts=GlancingPrompts())
    # The restorer's validation is not needed here, and there may be more steps than it does.
    quiet = replace(options.run.rhythm, validate=0)
    data = data_of(options.model_copy(update={"run": options.run.model_copy(update={"rhythm": quiet})}))
    recipe = replace(options.recipe(), steps=MOST_STEPS)
    feeding = Feeding(data, recipe, objective, Slice(batch=options.batch))
    return objective, feeding.leg(0, equal_shares(data.train))[1]


def images(examples):
    """Return clean and degraded, both (B, 3, H, W) within -1 and 1."""
    stacked = [[torch.from_numpy(getattr(example, side)) for example in examples] for side in ("clean", "degraded")]
    return (torch.stack(side).permute(0, 3, 1, 2).float() / 127.5 - 1 for side in stacked)


def begun(objective, settings, prompt):
    """Return a new U-Net with as many parameters as the restorer of the settings, within 5 %, and how many that are."""
    wanted = count(build(params_of(settings.model), "meta"))
    torch.manual_seed(settings.seed)
    model = sized(objective.params, prompt, wanted)
    assert abs(count(model) / wanted - 1) <= CLOSE, (count(model), wanted)
    return model, wanted


def step(model, optimizer, examples, prompt_BSE, given):
    """Take one step and return its loss."""
    clean, degraded = images(examples)
    with torch.autocast("cpu", torch.bfloat16, enabled=given.compute == "mixed"):
        found = model.restored(degraded, prompt_BSE)
    loss = LOSSES[given.loss](found.float(), clean)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def train(options, given):
    """Return the U-Net, averaged, and what its training came to."""
    objective, batches = fed(options)
    losses, model = [], None
    for batch in batches:
        done = len(losses) / given.steps if given.steps else time.process_time() / given.cpu_seconds
        if done >= 1:
            break
        prompt_BSE = objective.inputs(batch.examples).prompt_BSE
        if model is None:
            model, wanted = begun(objective, options, prompt_BSE[0].numel())
            weights = dict(model.named_parameters())
            optimizer = torch.optim.AdamW(weights.values(), weight_decay=given.weight_decay)
            average = Average(weights.items(), given.average)
        set_rate(optimizer, learning_rate(given, len(losses), done))
        losses.append(step(model, optimizer, batch.examples, prompt_BSE, given))
        average.update(weights, len(losses) - 1)
        if len(losses) % given.log == 0:
            tell(f"step {len(losses)}, {time.process_time():.0f} CPU-seconds, {given.loss} {recent(losses):.4f}")
    batches.close()
    model.load_state_dict(average.tensors)
    told = {
        "steps": len(losses),
        "cpu_seconds": round(time.process_time(), 1),
        "parameters": count(model),
        "parameters_of_the_restorer": wanted,
        "first_loss": round(losses[0], 5),
        "last_loss": round(recent(losses), 5),
        "recipe": {name: getattr(given, name) for name in RECIPE},
    }
    return model, told


def recent(losses):
    """Return the mean of the last 50."""
    return sum(losses[-50:]) / len(losses[-50:])


def tell(text):
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--cpu-seconds", type=float)
    length.add_argument("--steps", type=int)
    parser.add_argument("--loss", choices=LOSSES, default="charbonnier")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--warmup", type=int, default=50)
    parser.add_argument("--weight-decay", type=float, default=1e-4)
    parser.add_argument("--average", type=float, default=0.998)
    parser.add_argument("--compute", choices=("fp32", "mixed"), default="fp32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--log", type=int, default=50)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    cv2.setNumThreads(1)
    options = read_training(given.settings)
    model, told = train(options, given)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"params": shapes.to_json(model.params), "training": json.dumps(told)}
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, given.output, metadata)
    print(json.dumps(told, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
