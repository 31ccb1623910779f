"""A table in a Parquet or an Arrow file, column by column and a group of rows at a time."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import ShardError

SUFFIXES = frozenset({".parquet", ".arrow"})


class TableFile:
    """An open table. schema: pyarrow's; sizes: rows of each group."""

    def __init__(self, path: Path) -> None:
        """Raises ShardError, naming the file, when it is neither."""
        try:
            self._parquet = pq.ParquetFile(path) if path.suffix == ".parquet" else None
            self._batches = [] if self._parquet else _batches(path)
            schema = self._parquet.schema_arrow if self._parquet else _schema(path)
        except Exception as error:  # pyarrow raises its own errors and OSError for files that are something else
            kind = "Parquet" if path.suffix == ".parquet" else "Arrow"
            raise ShardError(f"{path} is no {kind} file that can be read: {error}") from error
        self.schema: Any = schema  # pyarrow has no types

    @property
    def sizes(self) -> list[int]:
        """Return how many rows each group has."""
        if self._parquet is None:
            return [batch.num_rows for batch in self._batches]
        about = self._parquet.metadata
        return [about.row_group(group).num_rows for group in range(about.num_row_groups)]

    def column(self, group: int, name: str) -> Any:
        """Return one column of a group, a pyarrow array; of a picture's, `name.path` is its path alone."""
        if self._parquet is not None:
            table = self._parquet.read_row_group(group, columns=[name])
            column = table.column(0).combine_chunks()
        else:
            column = self._batches[group].column(name.split(".")[0])
        return column.field("path") if name.endswith(".path") else column


@lru_cache(maxsize=2)
def column_of(path: Path, group: int, name: str) -> Any:  # a pyarrow array; pyarrow has no types
    """Return a column of a group; the last two are kept."""
    return TableFile(path).column(group, name)


def table_files(path: Path) -> Sequence[Path]:
    """Return `path` itself, or the tables below it, in the order of their names."""
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES)


def _reader(path: Path) -> Any:
    """Return a reader of the stream that `datasets` writes, or of Arrow's file format; rows stay on the disk."""
    source = pa.memory_map(str(path))
    try:
        return pa.ipc.open_file(source)
    except pa.ArrowInvalid:
        return pa.ipc.open_stream(pa.memory_map(str(path)))


def _batches(path: Path) -> list[Any]:
    return list(_reader(path).read_all().to_batches())


def _schema(path: Path) -> Any:
    return _reader(path).schema
