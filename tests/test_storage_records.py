"""Records as canonical JSON: one text for one value, and the same record back."""

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.canonical import decode, digest, encode
from storage.records import (
    Manifest,
    Pair,
    PublishedFile,
    Recipe,
    ShardReport,
    Source,
    Step,
    Verdict,
    WorkShard,
    level,
)

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
COUNTS = st.integers(0, 2**53)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
HASHES = st.binary(min_size=32, max_size=32).map(bytes.hex)
SOURCES = st.builds(Source, uri=TEXTS, licence=TEXTS, author=TEXTS, sha256=HASHES, width=COUNTS, height=COUNTS)
STEPS = st.builds(
    Step,
    degradation=TEXTS,
    params=st.dictionaries(TEXTS, PLAIN, max_size=4),
    inputs=st.dictionaries(TEXTS, HASHES, max_size=2),
)
RECIPES = st.builds(Recipe, name=TEXTS, severity=NUMBERS, steps=st.lists(STEPS, max_size=3).map(tuple), digest=HASHES)
COUNTERS = st.dictionaries(TEXTS, COUNTS, max_size=3)
SHARDS = st.builds(
    WorkShard, stage=TEXTS, bucket=TEXTS, inputs=st.lists(TEXTS, max_size=3).map(tuple), output=TEXTS, seed=COUNTS
)
PUBLISHED = st.builds(PublishedFile, name=TEXTS, pairs=COUNTS, bytes=COUNTS, sha256=HASHES, counts=COUNTERS)
FILES = st.lists(PUBLISHED, max_size=3).map(tuple)
RECORDS = st.one_of(
    SOURCES,
    STEPS,
    RECIPES,
    SHARDS,
    PUBLISHED,
    st.builds(
        Pair,
        **dict.fromkeys(("key", "instruction", "caption"), TEXTS),
        **dict.fromkeys(("clean", "degraded"), HASHES),
        **dict.fromkeys(("width", "height"), COUNTS),
        recipe=RECIPES,
        source=SOURCES,
    ),
    st.builds(Verdict, filter=TEXTS, keep=st.booleans(), reason=TEXTS, scores=st.dictionaries(TEXTS, NUMBERS)),
    st.builds(ShardReport, shard=SHARDS, kept=COUNTS, rejected=COUNTERS, bytes=COUNTS, sha256=HASHES),
    st.builds(
        Manifest,
        **dict.fromkeys(("format_version", "dataset_version"), COUNTS),
        **dict.fromkeys(("settings_digest", "code_version"), HASHES),
        **dict.fromkeys(("shards", "files"), FILES),
    ),
)


def shuffled(value: Any) -> Any:
    """Return an equal JSON value whose objects were made in another order."""
    if isinstance(value, dict):
        return {name: shuffled(item) for name, item in reversed(value.items())}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


@settings(deadline=None)
@given(PLAIN)
def test_json_value_comes_back(value: Any) -> None:
    assert json.loads(encode(value)) == value


@settings(deadline=None)
@given(PLAIN)
def test_text_does_not_depend_on_the_order_of_making(value: Any) -> None:
    assert encode(shuffled(value)) == encode(value)


@settings(deadline=None)
@given(PLAIN)
def test_text_is_stable_under_a_round_trip(value: Any) -> None:
    assert encode(json.loads(encode(value))) == encode(value)


@settings(deadline=None)
@given(RECORDS)
def test_record_comes_back(record: Any) -> None:
    assert decode(type(record), encode(record)) == record
    assert encode(decode(type(record), encode(record))) == encode(record)


@settings(deadline=None)
@given(RECORDS, RECORDS)
def test_records_have_one_digest_only_if_they_have_one_text(first: Any, second: Any) -> None:
    assert (digest(first) == digest(second)) == (encode(first) == encode(second))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_say_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode({"scores": [value]})


def test_numpy_scalars_are_written_as_numbers() -> None:
    assert encode({"a": np.float64(0.5), "b": np.int64(3), "c": np.bool_(True)}) == b'{"a":0.5,"b":3,"c":true}'


@settings(deadline=None)
@given(st.binary(max_size=30))
def test_bytes_that_are_no_record_are_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="validation error"):
        decode(WorkShard, data)


def test_record_cannot_be_changed() -> None:
    verdict = Verdict(filter="clean_quality", keep=True, reason="", scores={})
    with pytest.raises(dataclasses.FrozenInstanceError):
        verdict.keep = False  # type: ignore[misc]


@pytest.mark.parametrize(
    ("severity", "expected"),
    [(0.0, 1), (0.2, 1), (0.2000001, 2), (0.4, 2), (0.6, 3), (0.8, 4), (0.80001, 5), (1.0, 5)],
)
def test_level_is_the_interval_of_severity(severity: float, expected: int) -> None:
    assert level(severity) == expected
