"""The schema of every parquet file, declared once, in a module for each part of the workflow.

Stages read and write through these tables, so a wrong column, type or key fails in the stage that made it.
One row per observation (long form), one table per meaning. A type ending in `?` may be null.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from aftershock.output import whole_file

ARROW_TYPES = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "list<float64>": pa.list_(pa.float64()),
}


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
        """Check `frame`, then write it whole or not at all, with `provenance` in the file's metadata."""
        arrow = self.check(frame)
        metadata = {"aftershock": json.dumps({"table": self.name, **(provenance or {})}, sort_keys=True)}
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
        try:
            names = pq.read_schema(path).names
            arrow = pq.read_table(
                path, columns=list(columns) if columns else None, page_checksum_verification=True
            )
        except (pa.ArrowInvalid, OSError) as error:
            raise ValueError(
                f"{path} cannot be read as table {self.name}: {error}; delete it and run again"
            ) from error
        if names != list(self.columns):
            raise ValueError(f"{path} is not a table {self.name}: its columns are {names}")
        return arrow

    def empty(self) -> pd.DataFrame:
        """A frame with these columns and no row."""
        return self.schema.empty_table().to_pandas()


def provenance_of(path: str | PathLike) -> dict[str, Any]:
    """What was written beside the rows of a parquet file about how it was made; ValueError if unreadable."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} cannot be read: {error}; delete it and run again") from error
    return json.loads(metadata.get(b"aftershock", b"{}"))


def rows_of(path: str | PathLike) -> int:
    """How many rows a parquet file has."""
    return pq.read_metadata(path).num_rows
