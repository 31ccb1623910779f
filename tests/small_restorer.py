"""Restorers small enough for a test, with random weights."""

from dataclasses import replace

import torch

from training.network import packing
from training.network.model import build
from training.network.params import ConnectorParams, base

TEXT, ROWS, COLUMNS = 5, 2, 3


def small_params(*, scaled=False, **changes):
    """Return the published form, narrow and shallow."""
    connector = ConnectorParams(width=24, hidden=32, heads=2, blocks=2, scaled=scaled)
    small = replace(
        base(),
        channels=8,
        hidden=32,
        heads=2,
        double_blocks=2,
        single_blocks=3,
        rope_axes=(4, 6, 6),
        context=32,
        pooled=12,
        connector=connector,
    )
    return replace(small, **changes)


def small_model(params=None, seed=0, std=0.2):
    """Return a restorer in which every weight, norms and zero-initialised ones included, is random."""
    model = build(params or small_params(), "cpu")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=std, generator=generator)
    return model.eval()


def small_inputs(params, seed=1, batch=2):
    """Return the arguments of a forward pass; the second prompt is padded."""
    generator = torch.Generator().manual_seed(seed)
    target, reference = (torch.randn(batch, ROWS * COLUMNS, params.channels, generator=generator) for _ in range(2))
    prompt = torch.randn(batch, TEXT, params.prompt_width, generator=generator)
    mask = torch.ones(batch, TEXT, dtype=torch.bool)
    mask[1:, 3:] = False
    sigma = torch.linspace(0.25, 0.9, batch)
    return target, reference, sigma, prompt, mask, packing.positions(params, text=TEXT, rows=ROWS, columns=COLUMNS)


def random(*shape, seed=0):
    """Return normal float64 numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
