"""The ledger: rows come back as they went in, the same rows make the same bytes."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from storage.errors import ShardError
from storage.ledger import IMAGES, PAIRS, iter_rows, read_table, write_table

IMAGE: dict[str, Any] = {
    "uri": "a/b \u00e4.jpg",
    "sha256": "0" * 64,
    "bytes": 2**40,
    "bucket": 17,
    "status": "dropped",
    "stage": "clean",
    "reason": "too_small",
    "detail": "200x100",
    "key": "0" * 24,
    "width": 200,
    "height": 100,
    "format": "jpeg",
    "licence": "CC0-1.0",
    "author": "",
    "split": "train",
    "duplicate_of": None,
    "scores": {"clean_quality": 0.1, "clip": -1e300},
}
PAIR: dict[str, Any] = {
    "key": "0" * 24 + "-000",
    "source_key": "0" * 24,
    "source_sha256": "0" * 64,
    "bucket": 17,
    "split": "train",
    "name": "rain_haze",
    "degradations": ["rain", "haze"],
    "severity": 0.3,
    "level": 2,
    "status": "kept",
    "stage": "judge",
    "reason": "",
    "detail": "",
    "recipe": '{"name":"rain_haze"}',
    "scores": {},
    "shard": "train-000000",
}


@pytest.mark.parametrize(("row", "schema"), [(IMAGE, IMAGES), (PAIR, PAIRS)], ids=["images", "pairs"])
def test_row_comes_back_as_it_went_in(tmp_path: Path, row: dict[str, Any], schema: Any) -> None:
    write_table(tmp_path / "table.parquet", [row], schema)
    assert set(row) == set(schema.names)
    assert read_table(tmp_path / "table.parquet") == [row]


def test_what_a_row_lacks_is_null(tmp_path: Path) -> None:
    write_table(tmp_path / "table.parquet", [{"uri": "a.jpg"}], IMAGES)
    assert read_table(tmp_path / "table.parquet") == [dict.fromkeys(IMAGES.names) | {"uri": "a.jpg"}]


def test_numpy_scores_are_stored_as_numbers(tmp_path: Path) -> None:
    write_table(tmp_path / "table.parquet", [{"scores": {"a": np.float32(0.5), "b": np.int64(3)}}], PAIRS)
    assert read_table(tmp_path / "table.parquet", ["scores"]) == [{"scores": {"a": 0.5, "b": 3.0}}]


def test_columns_can_be_chosen(tmp_path: Path) -> None:
    write_table(tmp_path / "table.parquet", [PAIR], PAIRS)
    assert read_table(tmp_path / "table.parquet", ["level", "scores"]) == [{"level": 2, "scores": {}}]


def test_tables_are_read_one_after_the_other(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("b.parquet", "a.parquet", "empty.parquet")]
    for path, buckets in zip(paths, ([1, 2], [3], []), strict=True):
        write_table(path, [{"bucket": bucket} for bucket in buckets], IMAGES)
    assert [row["bucket"] for row in iter_rows(paths)] == [1, 2, 3]


def test_many_row_groups_keep_their_order(tmp_path: Path) -> None:
    write_table(tmp_path / "table.parquet", [{"bytes": number} for number in range(40_000)], IMAGES)
    assert pq.ParquetFile(tmp_path / "table.parquet").num_row_groups == 3
    assert [row["bytes"] for row in iter_rows(tmp_path / "table.parquet", ["bytes"])] == list(range(40_000))


def test_same_rows_make_the_same_bytes(tmp_path: Path) -> None:
    turned = {name: IMAGE[name] for name in reversed(IMAGE)}
    turned["scores"] = dict(reversed(IMAGE["scores"].items()))
    for name, row in (("one", IMAGE), ("two", turned)):
        write_table(tmp_path / name, [row] * 1000, IMAGES)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"colour": "red"}, "no column colour"),
        ({"bucket": 2**40}, "column bucket takes int32"),
        ({"bucket": 1.5}, "column bucket takes int32"),
        ({"level": 1000}, "column level takes int8"),
        ({"name": 3}, "column name takes string"),
        ({"severity": "high"}, "column severity takes double"),
        ({"scores": [1.0]}, "column scores takes map"),
        ({"scores": {"a": "b"}}, "column scores takes map"),
        ({"degradations": "haze"}, "column degradations takes list"),
    ],
)
def test_row_that_does_not_fit_is_refused_and_nothing_published(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_table(tmp_path / "table.parquet", [PAIR, row], PAIRS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [None, b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1", b"text" * 50])
def test_what_is_no_table_is_a_shard_error_naming_the_file(tmp_path: Path, data: bytes | None) -> None:
    if data is not None:
        (tmp_path / "table.parquet").write_bytes(data)
    with pytest.raises(ShardError, match=r"table\.parquet is not a readable"):
        read_table(tmp_path / "table.parquet")


def test_absent_column_is_a_shard_error(tmp_path: Path) -> None:
    write_table(tmp_path / "table.parquet", [IMAGE], IMAGES)
    with pytest.raises(ShardError, match="no column severity"):
        read_table(tmp_path / "table.parquet", ["uri", "severity"])


def test_table_cut_short_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "table.parquet", [IMAGE] * 100, IMAGES)
    data = (tmp_path / "table.parquet").read_bytes()
    for length in range(0, len(data), 97):
        (tmp_path / "cut.parquet").write_bytes(data[:length])
        with pytest.raises(ShardError, match=r"cut\.parquet"):
            read_table(tmp_path / "cut.parquet")
