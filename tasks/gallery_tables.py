"""Pictures of a benchmark in tables, found by column and read by row: RealIR-Bench is published as one.

The hub has it as Arrow, the stream that the `datasets` library writes, and in its own conversion as Parquet, one file
for all tasks (refs/convert/parquet, default/train/0000.parquet). How its columns are called is not documented, so they
are told by what they hold: pictures are bytes, tasks are words that all name one.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from storage.errors import SettingsError, ShardError
from tasks.crawl import uri_of
from tasks.gallery import Gallery, stem, task_in, task_of, unambiguous
from tasks.table_files import TableFile, column_of, table_files

TASK_COLUMNS = ("task", "degradation", "type", "category", "class", "label")
NAME_COLUMNS = ("file_name", "filename", "image_name", "name", "key", "id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Columns of a table; an empty one is looked for."""

    image: str = ""
    name: str = ""
    task: str = ""


def table_gallery(path: Path, columns: Columns) -> Gallery:
    """Return the pictures in a Parquet or Arrow file, or in all those of a folder, such as the published RealIR-Bench.

    A picture is named `<task>/<file name without suffix>`, by its row's number where no file name is given. Its task is
    said by a column, else by the folder of its file name, else by the name or folder of the table's file:
    `rain-00000-of-00001.parquet`, `haze/test.parquet`.
    """
    rows = [row for file in table_files(path) for row in _rows(file, columns, _told_by(path, file))]
    found = unambiguous(path, ((_name(row, number), row) for number, row in enumerate(rows)))
    tasks = {name: row.task for name, row in found.items()}
    return Gallery(title=str(path), tasks=tasks, read=lambda name: _bytes(found[name]))


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


def _rows(path: Path, columns: Columns, otherwise: str) -> Iterator[_Row]:
    file = TableFile(path)
    image = _image_column(path, file, columns.image)
    name = _one_of(path, file, columns.name, NAME_COLUMNS) or (f"{image}.path" if _has_path(file, image) else "")
    task = _one_of(path, file, columns.task or _telling(file), TASK_COLUMNS)
    labels = _labels(file, task)
    for group, size in enumerate(file.sizes):
        names, kinds = (file.column(group, column).to_pylist() if column else [None] * size for column in (name, task))
        for number, (told, said) in enumerate(zip(names, kinds, strict=True)):
            kind = labels.get(said, str("" if said is None else said))
            kind = "" if kind.isdigit() else kind  # a number without a name is no task
            folders = PurePosixPath(str(told or "").replace("\\", "/")).parts[:-1]
            yield _Row(
                file=path,
                group=group,
                row=number,
                column=image,
                name=str("" if told is None else told),
                task=task_of(kind) or kind or task_in(folders) or otherwise,
            )


def _telling(file: TableFile) -> str:
    """Return the column of words that all name a task, one of the usual names first; empty when there is none."""
    words = [field.name for field in file.schema if _is_text(field.type)]
    telling = [column for column in words if _all_tell(file, column)]
    return next((name for name in (*TASK_COLUMNS, *telling) if name in telling), "")


def _all_tell(file: TableFile, column: str) -> bool:
    found = {word for group in range(len(file.sizes)) for word in file.column(group, column).unique().to_pylist()}
    return bool(found) and all(word and task_of(word) for word in found)


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _told_by(root: Path, file: Path) -> str:
    """Return the task that the file's name, without the number of its part, or a folder below `root` names."""
    folders = file.relative_to(root).parts[:-1] if file != root else ()
    own = re.sub(r"-\d+(-of-\d+)?$", "", file.stem)
    return next((task for text in (own, *reversed(folders)) if (task := task_of(text))), "")


def _name(row: _Row, number: int) -> str:
    named = stem(uri_of(PurePosixPath(row.name.replace("\\", "/")).name))
    name = named if named.strip(".") else f"{number:06d}"
    task = uri_of(row.task.replace("/", "_"))
    return f"{task}/{name}" if task.strip(".") else name


def _bytes(row: _Row) -> bytes:
    cell = column_of(row.file, row.group, row.column)[row.row].as_py()
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(data, bytes):
        raise ShardError(f"{row.file}: the row of {row.name or row.row} holds no bytes of a picture")
    return data


def _image_column(path: Path, file: TableFile, wanted: str) -> str:
    names = file.schema.names
    if wanted:
        if wanted not in names:
            raise SettingsError(f"{path} has no column {wanted}; it has {', '.join(names)}")
        return wanted
    holding = [field.name for field in file.schema if _holds_bytes(field.type)]
    if len(holding) != 1:
        told = ", ".join(holding) or "none"
        raise SettingsError(f"{path}: name the column of the pictures in columns.image; columns with bytes: {told}")
    return str(holding[0])


def _holds_bytes(kind: Any) -> bool:
    if pa.types.is_struct(kind):
        return any(part.name == "bytes" and pa.types.is_binary(part.type) for part in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _has_path(file: TableFile, image: str) -> bool:
    kind = file.schema.field(image).type
    return bool(pa.types.is_struct(kind)) and any(part.name == "path" for part in kind)


def _one_of(path: Path, file: TableFile, wanted: str, known: Sequence[str]) -> str:
    names = file.schema.names
    if wanted and wanted not in names:
        raise SettingsError(f"{path} has no column {wanted}; it has {', '.join(names)}")
    return wanted or next((name for name in known if name in names), "")


def _labels(file: TableFile, column: str) -> dict[Any, str]:
    """Return number -> name of a column of class labels, as the `datasets` library notes them in the schema."""
    noted = (file.schema.metadata or {}).get(b"huggingface")
    try:
        names = json.loads(noted)["info"]["features"][column]["names"] if noted else []
    except (ValueError, KeyError, TypeError):
        return {}
    return dict(enumerate(names)) if isinstance(names, list) else {}
