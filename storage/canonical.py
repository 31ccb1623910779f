"""Canonical JSON: one text for one value, so that its sha256 can stand for it."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, TypeAdapter

T = TypeVar("T")


def plain(value: Any) -> Any:
    """Return `value` as JSON types: records become objects, tuples and sets lists, NumPy scalars Python ones."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, BaseModel):
        return plain(value.model_dump(mode="json"))
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(plain(item) for item in value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return value


def encode(value: Any) -> bytes:
    """Return `value` as UTF-8 JSON with sorted keys and no spaces; raises ValueError for NaN and infinity."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return text.encode()


def decode(kind: type[T], data: bytes) -> T:
    """Return the record of type `kind` that `data` encodes; raises ValueError naming the field that does not fit."""
    hashable: Any = kind
    found: T = _adapter(hashable).validate_json(data)
    return found


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def digest(value: Any) -> str:
    """Return the sha256, in hex, of the canonical JSON of `value`."""
    return hashlib.sha256(encode(value)).hexdigest()
