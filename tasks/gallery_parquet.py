"""Pictures of a benchmark in Parquet files, as the published RealIR-Bench has them: found by column, read by row."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import SettingsError, ShardError
from tasks.crawl import uri_of
from tasks.gallery import Gallery, stem, task_of, unambiguous

TASK_COLUMNS = ("task", "degradation", "type", "category", "class", "label")
NAME_COLUMNS = ("file_name", "name", "key", "id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Columns of Parquet files; an empty one is looked for."""

    image: str = ""
    name: str = ""
    task: str = ""


def parquet_gallery(path: Path, columns: Columns) -> Gallery:
    """Return the pictures in a Parquet file or in all those of a folder, such as the published RealIR-Bench.

    A picture is named `<task>/<file name without suffix>`, by its row's number where no file name is given. Without a
    column of tasks, the file's own name or folder may tell: `rain-00000-of-00001.parquet`, `haze/test.parquet`.
    """
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    rows = [row for file in files for row in _parquet_rows(file, columns, _told_by(path, file))]
    found = unambiguous(path, ((_parquet_name(row, number), row) for number, row in enumerate(rows)))
    tasks = {name: row.task for name, row in found.items()}
    return Gallery(title=str(path), tasks=tasks, read=lambda name: _parquet_bytes(found[name]))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One picture of a Parquet file: where its bytes stand, and what its row says of it."""

    file: Path
    group: int
    row: int
    column: str
    name: str
    task: str

    def __str__(self) -> str:
        return f"{self.file.name} row {self.row}"


def _parquet_rows(path: Path, columns: Columns, otherwise: str) -> Iterator[_Row]:
    try:
        file = pq.ParquetFile(path)
    except Exception as error:  # pyarrow raises its own errors and OSError for files that are no Parquet
        raise ShardError(f"{path} is no Parquet file that can be read: {error}") from error
    image = _image_column(path, file, columns.image)
    name = _one_of(path, file, columns.name, NAME_COLUMNS)
    task = _one_of(path, file, columns.task, TASK_COLUMNS)
    labels = _labels(file, task)
    wanted = [*({name, task} - {""}), f"{image}.path" if _has_path(file, image) else ""]
    for group in range(file.num_row_groups):
        rows = file.read_row_group(group, columns=[column for column in wanted if column]).to_pylist()
        rows = rows or [{}] * file.metadata.row_group(group).num_rows
        for number, row in enumerate(rows):
            told = row.get(name) if name else (row.get(image) or {}).get("path")
            kind = labels.get(row.get(task), str(row.get(task) or "")) if task else ""
            kind = "" if kind.isdigit() else kind  # a number without a name is no task
            yield _Row(
                file=path,
                group=group,
                row=number,
                column=image,
                name=str(told or ""),
                task=task_of(kind) or kind or otherwise,
            )


def _told_by(root: Path, file: Path) -> str:
    """Return the task that the file's name, without the number of its part, or a folder below `root` names."""
    folders = file.relative_to(root).parts[:-1] if file != root else ()
    own = re.sub(r"-\d+(-of-\d+)?$", "", file.stem)
    return next((task for text in (own, *reversed(folders)) if (task := task_of(text))), "")


def _parquet_name(row: _Row, number: int) -> str:
    named = stem(uri_of(PurePosixPath(row.name.replace("\\", "/")).name))
    name = named if named.strip(".") else f"{number:06d}"
    task = uri_of(row.task.replace("/", "_"))
    return f"{task}/{name}" if task.strip(".") else name


def _parquet_bytes(row: _Row) -> bytes:
    cell = _column_of(row.file, row.group, row.column)[row.row].as_py()
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(data, bytes):
        raise ShardError(f"{row.file}: the row of {row.name or row.row} holds no bytes of a picture")
    return data


@lru_cache(maxsize=2)
def _column_of(file: Path, group: int, column: str) -> Any:  # a pyarrow column; pyarrow has no types
    return pq.ParquetFile(file).read_row_group(group, columns=[column])[column]


def _image_column(path: Path, file: Any, wanted: str) -> str:
    names = file.schema_arrow.names
    if wanted:
        if wanted not in names:
            raise SettingsError(f"{path} has no column {wanted}; it has {', '.join(names)}")
        return wanted
    holding = [field.name for field in file.schema_arrow if _holds_bytes(field.type)]
    if len(holding) != 1:
        told = ", ".join(holding) or "none"
        raise SettingsError(f"{path}: name the column of the pictures in columns.image; columns with bytes: {told}")
    return str(holding[0])


def _holds_bytes(kind: Any) -> bool:
    if pa.types.is_struct(kind):
        return any(part.name == "bytes" and pa.types.is_binary(part.type) for part in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _has_path(file: Any, image: str) -> bool:
    kind = file.schema_arrow.field(image).type
    return bool(pa.types.is_struct(kind)) and any(part.name == "path" for part in kind)


def _one_of(path: Path, file: Any, wanted: str, known: Sequence[str]) -> str:
    names = file.schema_arrow.names
    if wanted and wanted not in names:
        raise SettingsError(f"{path} has no column {wanted}; it has {', '.join(names)}")
    return wanted or next((name for name in known if name in names), "")


def _labels(file: Any, column: str) -> dict[Any, str]:
    """Return number -> name of a column of class labels, as the `datasets` library notes them in the schema."""
    noted = (file.schema_arrow.metadata or {}).get(b"huggingface")
    try:
        names = json.loads(noted)["info"]["features"][column]["names"] if noted else []
    except (ValueError, KeyError, TypeError):
        return {}
    return dict(enumerate(names)) if isinstance(names, list) else {}
