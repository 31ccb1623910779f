"""What a run will cost before it begins: operations, memory, and at a known speed, hours.

A multiply-add counts as two operations; the backward pass costs twice the forward pass, a recomputed block once more.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from training.loop.optimizers import Optimization
from training.network.params import Params
from training.weights.checkpoints import native_shapes

# Saved activations of a block in units of one row of hidden channels per token, measured on the full model at 1024
# squared (1.42 GB a double block, 1.37 GB a single one, bfloat16, 8,832 tokens).
_DOUBLE, _SINGLE = 26.2, 25.2

PEAKS = {"H100": 989e12, "H200": 989e12, "H800": 989e12, "A100": 312e12, "A800": 312e12, "L40S": 362e12}  # bf16, dense


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What a sample comes to: text tokens, target tokens."""

    text: int
    target: int

    def all(self, params: Params) -> int:
        """Return the tokens of one attention."""
        return self.text + self.target * (2 if params.reference == "tokens" else 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a run comes to.

    parameters and trained: numbers of weights. flops: of one optimizer step, all ranks together; useful: those that are
    not recomputation. states: bytes of weights, gradients, moments and average on each rank, as activations are.
    """

    parameters: int
    trained: int
    flops: float
    useful: float
    states: int
    activations: int

    def data(self) -> dict[str, float]:
        """Return it as numbers by name."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return what a person wants to read."""
        return [
            f"weights      {self.parameters:,}, of which {self.trained:,} are trained",
            f"operations   {_si(self.flops)}FLOP a step",
            f"memory       {_si(self.states)}B weights, gradients, moments; {_si(self.activations)}B activations "
            "a device, without the frozen encoders",
        ]


def forward_flops(params: Params, tokens: Tokens) -> float:
    """Return the operations of one sample's forward pass through blocks and connector."""
    length, hidden = tokens.all(params), params.hidden
    blocks = params.double_blocks + params.single_blocks
    # Queries, keys, values and projection are 4 hidden^2, the MLP 2 ratio hidden^2; a single block has the same, fused.
    linear = 2 * blocks * length * (4 + 2 * params.mlp_ratio) * hidden**2
    return float(linear + 4 * blocks * length**2 * hidden + _connector_flops(params, tokens))


def _connector_flops(params: Params, tokens: Tokens) -> float:
    if params.connector is None:
        return 0.0
    width, hidden = params.connector.width, params.connector.hidden
    return 2 * tokens.text * hidden * (params.connector.blocks * 12 * hidden + width)


def step_flops(params: Params, tokens: Tokens, *, batch: int, checkpointed: int) -> float:
    """Return the operations of one optimizer step that the device carries out, recomputation and all."""
    blocks = params.double_blocks + params.single_blocks
    return forward_flops(params, tokens) * batch * (3 + min(1.0, checkpointed / max(1, blocks)))


def useful_flops(params: Params, tokens: Tokens, *, batch: int) -> float:
    """Return the operations of one optimizer step without recomputation: what the use of a device is measured by."""
    return step_flops(params, tokens, batch=batch, checkpointed=0)


def state_bytes(optimization: Optimization, parameters: int, trained: int) -> int:
    """Return the bytes of weights, float32 gradients, two moments and the average."""
    weight = 4 if optimization.weights == "fp32" else 2
    moments = 8 if optimization.states == "fp32" else 2
    return parameters * weight + trained * (4 + moments + (4 if optimization.average else 0))


def activation_bytes(params: Params, tokens: Tokens, *, samples: int, checkpointed: int, width: int) -> int:
    """Return the bytes saved for the backward pass of `samples` at once; width: bytes of a number."""
    row = tokens.all(params) * params.hidden * width
    kept = [_DOUBLE] * params.double_blocks + [_SINGLE] * params.single_blocks
    saved = sum(kept[checkpointed:]) + min(checkpointed, len(kept))
    live = max(kept[:checkpointed], default=0.0)
    return int(samples * row * (saved + live))


def forecast(
    params: Params,
    optimization: Optimization,
    tokens: Tokens,
    *,
    batch: int,
    micro: int,
    world: int,
    checkpointed: int,
    width: int,
    trained: Iterable[str] | None = None,
) -> Forecast:
    """Return what a run comes to. trained: the names of the trained weights, all unless said."""
    sizes = {name: _count(shape) for name, shape in native_shapes(params).items()}
    everything = sum(sizes.values())
    own = everything if trained is None else sum(sizes.get(name, 0) for name in trained)
    return Forecast(
        parameters=everything,
        trained=own,
        flops=step_flops(params, tokens, batch=batch, checkpointed=checkpointed),
        useful=useful_flops(params, tokens, batch=batch),
        states=state_bytes(optimization, everything, own) // world,
        activations=activation_bytes(params, tokens, samples=micro, checkpointed=checkpointed, width=width),
    )


def peak(device: str) -> float | None:
    """Return the bfloat16 operations a second that a card of this name can do, if it is known."""
    return next((value for name, value in PEAKS.items() if name in device), None)


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count


def _si(value: Any) -> str:
    for unit in ("", "k", "M", "G", "T", "P"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} E"
