"""The schema of every parquet file, declared once, in a module for each part of the workflow.

Stages read and write through these tables, so a wrong column, type or key fails in the stage that made it.
One row per observation (long form), one table per meaning. A type ending in `?` may be null.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aftershock.output import whole_file

ARROW_TYPES = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "list<float64>": pa.list_(pa.float64()),
    "list<string>": pa.list_(pa.string()),
    "list<bool>": pa.list_(pa.bool_()),
}
LETTERS = {"seed": "s", "order": "o"}
"""Letters before the numbers of these wildcards in the names of folders."""


@dataclass(frozen=True)
class Table:
    """Columns, their types and the key of one kind of parquet file."""

    name: str
    key: tuple[str, ...]
    columns: Mapping[str, str]

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema, in column order."""
        return pa.schema(
            pa.field(column, ARROW_TYPES[kind.rstrip("?")], nullable=kind.endswith("?"))
            for column, kind in self.columns.items()
        )

    def check(self, frame: pd.DataFrame) -> pa.Table:
        """Return `frame` as an Arrow table of this schema; raise ValueError on any difference."""
        missing = [c for c in self.columns if c not in frame.columns]
        surplus = [c for c in frame.columns if c not in self.columns]
        if missing or surplus:
            raise ValueError(f"table {self.name}: missing columns {missing}, unknown columns {surplus}")
        for column, kind in self.columns.items():
            empty = frame[column].isna().to_numpy()
            if not kind.endswith("?") and empty.any():
                raise ValueError(f"table {self.name}: column {column} is empty in row {empty.argmax()}")
        try:
            arrow = pa.Table.from_pandas(frame[list(self.columns)], schema=self.schema, preserve_index=False)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise ValueError(f"table {self.name}: {error}") from error
        repeated = frame.duplicated(list(self.key))
        if repeated.any():
            first = frame.loc[repeated, list(self.key)].iloc[0].to_dict()
            raise ValueError(f"table {self.name}: {int(repeated.sum())} repeated keys, the first is {first}")
        return arrow

    def write(
        self, frame: pd.DataFrame, path: str | PathLike, provenance: Mapping[str, Any] | None = None
    ) -> None:
        """Check `frame`, then write it atomically, with `provenance` in the file's metadata.

        A checksum of each column is there too: those of pages do not cover the page offsets.
        """
        arrow = self.check(frame)
        metadata = {
            "aftershock": json.dumps({"table": self.name, **(provenance or {})}, sort_keys=True),
            "key": json.dumps(self.key),
            "sha256": json.dumps({name: sha256_of_column(arrow[name]) for name in self.columns}),
        }
        with whole_file(path) as part:
            pq.write_table(
                arrow.replace_schema_metadata(metadata), part, compression="zstd", write_page_checksum=True
            )

    def read(self, *paths: str | PathLike, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the rows of all `paths`; raise ValueError naming a file that is not of this table.

        With `columns`, only these are kept: observations carry lists that most readers do not need.
        """
        frames = [self.read_arrow(path, columns).to_pandas() for path in paths]
        if not frames:
            return self.empty()[list(columns or self.columns)]
        return pd.concat(frames, ignore_index=True)

    def read_arrow(self, path: str | PathLike, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of one file as an Arrow table, which takes a fraction of the memory; errors as `read`."""
        with _naming(path, f" as table {self.name}"):
            schema = pq.read_schema(path)
        if schema.names != list(self.columns):
            raise ValueError(
                f"{path} is not a table {self.name}: its columns are {schema.names}; delete it and run again"
            )
        with _naming(path, f" as table {self.name}"):
            return _read(path, columns)

    def empty(self) -> pd.DataFrame:
        """A frame with these columns and no row."""
        return self.schema.empty_table().to_pandas()


@contextmanager
def _naming(path: str | PathLike, table: str = "") -> Iterator[None]:
    """Turn any error about a file into one that names it."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read{table}: {error}; delete it and run again") from error


def sha256_of_column(column: pa.ChunkedArray) -> str:
    """A hash of a column's type and values, whatever the file and the chunks they are in."""
    lists = pa.types.is_list(column.type)  # files rename the elements of lists
    kind = f"list {column.type.value_type}" if lists else str(column.type)
    digest = hashlib.sha256(f"{kind} {len(column)}".encode())
    digest.update(column.is_null().to_numpy())
    if lists:
        digest.update(pc.list_value_length(column).fill_null(0).to_numpy())
        column = pc.list_flatten(column)
    if pa.types.is_string(column.type):
        column = column.fill_null("")
        digest.update(pc.binary_length(column).to_numpy())
        for chunk in column.chunks:
            _, offsets, text = chunk.buffers()
            ends = np.frombuffer(offsets, np.int32)[[chunk.offset, chunk.offset + len(chunk)]]
            digest.update(memoryview(text or b"")[ends[0] : ends[1]])
    else:
        zero = pa.scalar(0, pa.int64()).cast(column.type)
        digest.update(np.ascontiguousarray(column.fill_null(zero).to_numpy()))
    return digest.hexdigest()


def _read(path: str | PathLike, columns: Sequence[str] | None = None) -> pa.Table:
    """A file's rows, checked against their checksums and the path they were made for."""
    arrow = pq.read_table(path, columns=list(columns) if columns else None, page_checksum_verification=True)
    _check_place(path, arrow.schema)
    _check_columns(arrow, whole=columns is None)
    return arrow


def _check_columns(arrow: pa.Table, whole: bool) -> None:
    """Raise ValueError when a column differs from what was written; older files have no checksums."""
    written = json.loads((arrow.schema.metadata or {}).get(b"sha256", b"{}"))
    if whole and written and list(written) != arrow.column_names:
        raise ValueError("its columns are not those that were written")
    for name in arrow.column_names if written else ():
        if written.get(name) != sha256_of_column(arrow[name]):
            raise ValueError(f"the values of column {name} are not those that were written")


def _check_place(path: str | PathLike, schema: pa.Schema) -> None:
    """Raise ValueError when a file was made for another path.

    Every wildcard of the job that made it is a folder of its path (`s0` for seed 0, `o0` for order 0) or a
    part of its name.
    """
    *folders, name = Path(path).parts
    for wildcard, value in _provenance(schema).get("wildcards", {}).items():
        words = {value, f"{LETTERS[wildcard]}{value}"} if wildcard in LETTERS else {value}
        if not any(word in folders or f".{word}." in f".{name}" for word in words):
            raise ValueError(f"it holds what was made for {wildcard} {value}")


def _provenance(schema: pa.Schema) -> dict[str, Any]:
    return json.loads((schema.metadata or {}).get(b"aftershock", b"{}"))


def provenance_of(path: str | PathLike) -> dict[str, Any]:
    """The provenance in a parquet file's metadata; ValueError if unreadable."""
    with _naming(path):
        return _provenance(pq.read_schema(path))


def key_of(path: str | PathLike) -> list[str]:
    """The key of a parquet file's table; ValueError where the file names none."""
    with _naming(path):
        key = (pq.read_schema(path).metadata or {}).get(b"key", b"")
        if not key:
            raise ValueError("it names no key")
        return json.loads(key)


def read_rows(path: str | PathLike) -> pa.Table:
    """The rows of a file of any table; errors as `Table.read`."""
    with _naming(path):
        return _read(path)


def sha256_of_rows(path: str | PathLike) -> tuple[int, str]:
    """The number of a file's rows and a hash of them, whatever wrote the file; errors as `Table.read`."""
    arrow = read_rows(path)
    columns = {name: sha256_of_column(arrow[name]) for name in arrow.column_names}
    return len(arrow), hashlib.sha256(json.dumps(columns).encode()).hexdigest()


def rows_of(path: str | PathLike) -> int:
    """Number of rows of a parquet file."""
    return pq.read_metadata(path).num_rows
