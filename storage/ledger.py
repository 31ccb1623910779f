"""The ledger: Parquet tables with one row for every image and every pair ever considered, kept or not."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import ShardError
from storage.files import publish

ROW_GROUP = 16384
SCORES = pa.map_(pa.string(), pa.float64())

IMAGES = pa.schema(
    {
        "uri": pa.string(),
        "sha256": pa.string(),  # of the file's bytes
        "bytes": pa.int64(),
        "bucket": pa.int32(),
        "status": pa.string(),  # kept, dropped or failed
        "stage": pa.string(),  # the last one that looked at it
        "reason": pa.string(),  # a slug, empty when kept
        "detail": pa.string(),  # what was found, for a person
        "key": pa.string(),
        "width": pa.int32(),
        "height": pa.int32(),
        "format": pa.string(),
        "licence": pa.string(),
        "author": pa.string(),
        "split": pa.string(),
        "duplicate_of": pa.string(),
        "scores": SCORES,
    }
)
PAIRS = pa.schema(
    {
        "key": pa.string(),
        "source_key": pa.string(),
        "source_sha256": pa.string(),
        "bucket": pa.int32(),
        "split": pa.string(),
        "name": pa.string(),  # degradation or combination, as in the recipe
        "degradations": pa.list_(pa.string()),
        "severity": pa.float64(),
        "level": pa.int8(),
        "status": pa.string(),
        "stage": pa.string(),
        "reason": pa.string(),
        "detail": pa.string(),
        "recipe": pa.string(),  # canonical JSON
        "scores": SCORES,
        "shard": pa.string(),
    }
)


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Publish `rows` as a Parquet table; the same rows make the same bytes with the same pyarrow.

    Columns that a row lacks are null; maps are stored by sorted name. Raises ValueError naming a column that the schema
    lacks or a value that does not fit its column.
    """
    if unknown := {name for row in rows for name in row} - set(schema.names):
        raise ValueError(f"the table has no column {', '.join(sorted(unknown))}")
    table = pa.table({field.name: _column(rows, field) for field in schema}, schema=schema)
    with publish(path) as file:
        pq.write_table(table, file, row_group_size=ROW_GROUP, compression="zstd", compression_level=3)


def read_table(paths: Sequence[Path] | Path, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return all rows of one or several tables, in order; see `iter_rows`."""
    return list(iter_rows(paths, columns))


def iter_rows(paths: Sequence[Path] | Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of one or several tables, in order, a row group in memory at a time; maps as dicts.

    columns: which to read, all by default. Raises ShardError, naming the file, for what is no readable table or lacks
    a column.
    """
    for path in [paths] if isinstance(paths, Path) else paths:
        try:
            with pq.ParquetFile(path) as file:
                yield from _rows(file, path, columns)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise ShardError(f"{path} is not a readable ledger table: {error}") from error


def _rows(file: pq.ParquetFile, path: Path, columns: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    if missing := set(columns or ()) - set(file.schema_arrow.names):
        raise ShardError(f"{path} has no column {', '.join(sorted(missing))}")
    maps = [field.name for field in file.schema_arrow if pa.types.is_map(field.type)]
    for batch in file.iter_batches(ROW_GROUP, columns=columns):
        for row in batch.to_pylist():
            yield row | {name: dict(row[name]) for name in maps if row.get(name) is not None}


def _column(rows: Sequence[Mapping[str, Any]], field: pa.Field) -> pa.Array:
    try:
        return pa.array([_value(row.get(field.name), field.type) for row in rows], type=field.type)
    except (pa.ArrowException, OverflowError, AttributeError, TypeError) as error:
        raise ValueError(f"column {field.name} takes {field.type}: {error}") from error


def _value(value: Any, kind: pa.DataType) -> Any:
    """Return `value` for pyarrow, which would cut 1.5 to 1 and take a text for a list of letters."""
    if pa.types.is_map(kind) and value is not None:
        return sorted(value.items())
    if (pa.types.is_integer(kind) and isinstance(value, (float, np.floating))) or (
        pa.types.is_list(kind) and isinstance(value, str)
    ):
        raise TypeError(f"got {value!r}")
    return value
