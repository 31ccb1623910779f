"""The shape of a restorer: one record, stored with its weights, and two presets.

`base` is Step1X-Edit's transformer (arXiv:2504.17761), which RealRestorer (arXiv:2603.25502) fine-tunes; `tiny` is the
same class, small, on pixels.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from training.network.glance import NUMBERS

# Where the reference stands on the position axes. Three conventions are in use, and a model must be run with the one
# it was trained with: "v1.0" (0, y, x) like the target; "v1.1" (1, y + 1, x + 1); "realrestorer" (1, y, x).
ReferenceIds = Literal["v1.0", "v1.1", "realrestorer"]
REFERENCE_IDS: tuple[ReferenceIds, ...] = ("v1.0", "v1.1", "realrestorer")

CELLS = 2  # along the side of a token of a filtered reference: each is filtered in its own way
EARLIER = "added"  # the reference of small restorers before they filtered it
MOST_BLOCKS = 1000  # more than any model has; a stored record that says more is broken


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectorParams:
    """The connector between the hidden states of the language model and the transformer.

    width: of the hidden states. scaled: the mean of the hidden states is scaled by a learnt factor (v1.0 only).
    """

    width: int
    hidden: int
    heads: int
    blocks: int
    scaled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Everything that decides which tensors a restorer has and what they mean.

    channels: of one image token. context: width of a text token. pooled: width of the pooled prompt. connector: None
    takes text tokens as they are and their sum as the pooled prompt. reference: "tokens" appends the reference on the
    token axis; "filtered" lets the target tokens see what is measured of it, and say how it is filtered: tokens are
    pixels then, and the last prompt row is a glance at the whole image. predicts: "velocity", or "residual", what the
    clean image adds to the reference. mask_token: the file holds one, which nothing reads.
    """

    channels: int
    hidden: int
    heads: int
    mlp_ratio: int
    double_blocks: int
    single_blocks: int
    rope_axes: tuple[int, int, int]
    rope_theta: int
    context: int
    pooled: int
    connector: ConnectorParams | None
    guidance: bool
    mask_token: bool
    reference: Literal["tokens", "filtered"]
    reference_ids: ReferenceIds
    predicts: Literal["velocity", "residual"]

    def __post_init__(self) -> None:
        """Raise ValueError when the numbers do not fit together."""
        if self.hidden % self.heads:
            raise ValueError(f"hidden ({self.hidden}) must be divisible by heads ({self.heads})")
        if sum(self.rope_axes) != self.hidden // self.heads or any(axis % 2 for axis in self.rope_axes):
            raise ValueError(f"rope_axes must be even and sum to {self.hidden // self.heads}, got {self.rope_axes}")
        if not (0 <= self.double_blocks <= MOST_BLOCKS and 0 <= self.single_blocks <= MOST_BLOCKS):
            raise ValueError(f"blocks must be within 0 and {MOST_BLOCKS}, got {self.double_blocks, self.single_blocks}")
        if self.connector and self.connector.hidden % self.connector.heads:
            raise ValueError(f"the connector's {self.connector.hidden} must divide by {self.connector.heads} heads")
        if self.connector and self.connector.hidden != self.context:
            raise ValueError(f"context is the connector's {self.connector.hidden} wide, got {self.context}")
        if self.connector is None and self.context != self.pooled:
            raise ValueError(f"without a connector context is pooled, got {self.context} and {self.pooled}")
        if self.reference_ids not in REFERENCE_IDS:
            raise ValueError(f"reference_ids must be one of {REFERENCE_IDS}, got {self.reference_ids!r}")
        if self.reference not in ("tokens", "filtered") or self.predicts not in ("velocity", "residual"):
            raise ValueError(f"unknown reference {self.reference!r} or predicts {self.predicts!r}")

        if self.reference == "filtered":
            self._check_filtered()

    def _check_filtered(self) -> None:
        if 3 * self.patch**2 != self.channels or self.patch % CELLS:
            raise ValueError(f"tokens of a filtered reference are 3 x 2n x 2n pixels, got {self.channels} channels")
        if self.connector is not None or self.context != NUMBERS:
            raise ValueError(f"a filtered reference needs a glance: context must be {NUMBERS}, without a connector")

    @property
    def patch(self) -> int:
        """Return the side of a token that is pixels."""
        return round(math.sqrt(self.channels / 3))

    @property
    def prompt_width(self) -> int:
        """Return the width of what the prompt encoder hands in."""
        return self.connector.width if self.connector else self.context

    @property
    def is_published_form(self) -> bool:
        """Return whether the files of Step1X-Edit and RealRestorer can hold this model."""
        return self.connector is not None and self.reference == "tokens" and self.predicts == "velocity"


def base() -> Params:
    """Return the published shape: 12.428 B parameters in 816 tensors; reference ids as in Step1X-Edit v1.1."""
    return Params(
        channels=64,
        hidden=3072,
        heads=24,
        mlp_ratio=4,
        double_blocks=19,
        single_blocks=38,
        rope_axes=(16, 56, 56),
        rope_theta=10_000,
        context=4096,
        pooled=768,
        connector=ConnectorParams(width=3584, hidden=4096, heads=32, blocks=2, scaled=False),
        guidance=False,
        mask_token=False,
        reference="tokens",
        reference_ids="v1.1",
        predicts="velocity",
    )


def tiny() -> Params:
    """Return the embedded shape: 1.6 M parameters on 8x8 pixels, learnt in minutes without other weights."""
    return Params(
        channels=192,
        hidden=128,
        heads=2,
        mlp_ratio=4,
        double_blocks=1,
        single_blocks=3,
        rope_axes=(16, 24, 24),
        rope_theta=10_000,
        context=64,
        pooled=64,
        connector=None,
        guidance=False,
        mask_token=False,
        reference="filtered",
        reference_ids="realrestorer",
        predicts="residual",
    )


def replaced(params: Params, changes: Mapping[str, Any]) -> Params:
    """Return `params` with some fields changed; raises ValueError for an unknown field or a value that cannot be."""
    if unknown := sorted(changes.keys() - {field.name for field in fields(Params)}):
        raise ValueError(f"{unknown[0]} is no field of a model; there are {', '.join(f.name for f in fields(Params))}")
    return from_json(json.dumps({**asdict(params), **changes}))


def to_json(params: Params) -> str:
    """Return `params` as JSON with sorted keys."""
    return json.dumps(asdict(params), sort_keys=True)


def from_json(text: str) -> Params:
    """Return the params that `to_json` wrote; raises ValueError for anything else."""
    try:
        found: dict[str, Any] = json.loads(text)
        connector = found.pop("connector")
        axes = tuple(found.pop("rope_axes"))
        if found["reference"] == EARLIER:
            raise ValueError("a small restorer of an earlier version, which this one cannot run: train it anew")
        made = Params(**found, connector=ConnectorParams(**connector) if connector else None, rope_axes=axes)
    except (TypeError, KeyError, AttributeError, ZeroDivisionError) as error:
        raise ValueError(f"not the params of a restorer: {error}") from error
    _check_numbers(made)
    return made


def _check_numbers(record: Params | ConnectorParams) -> None:
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, ConnectorParams):
            _check_numbers(value)
        elif field.type is int and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            raise ValueError(f"{field.name} must be a whole number, got {value!r}")
        elif field.type is bool and not isinstance(value, bool):
            raise ValueError(f"{field.name} must be true or false, got {value!r}")
