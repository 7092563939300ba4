"""The rows of a benchmark, from files of a local folder or of a data set of the Hub."""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from aftershock.prompts import shortened
from aftershock.tasks.definition import Task
from aftershock.text_files import decode, loads, parse_json, read_bytes, read_cells

PARTS = ("items", "examples")
KINDS = (".jsonl", ".json", ".parquet", ".csv", ".tsv", ".txt")


@dataclass(frozen=True)
class Source:
    """Places of the rows of one part of a task: patterns of files below a local folder, or on the Hub."""

    files: tuple[str, ...]
    hub: str = ""
    revision: str = ""
    folder: str = ""

    @property
    def download(self) -> str:
        """The name of the folder that its files are downloaded to; the same for equal sources."""
        digest = hashlib.sha256(json.dumps([self.hub, self.revision, self.files]).encode()).hexdigest()
        return f"{self.hub.replace('/', '--')}.{digest[:12]}"


def parts_of(task: Task) -> list[str]:
    """Return the parts that a task takes rows from: items, and examples where it has any of their own."""
    shown = task.shots and task.examples["part"] == "examples"
    return [part for part in PARTS if part == "items" or shown] if task.source == "files" else []


def source_of(task: Task, part: str, folder: str | Path | None) -> Source:
    """Return where the rows of a part are: in `folder` where one is given, else on the Hub.

    ValueError names what has to be downloaded, and the local alternative.
    """
    entry = task.data[part]
    hub = entry.get("hub") or task.data.get("hub", "")
    revision = entry.get("revision") or task.data["revision"]
    online = Source(tuple(entry["files"]), hub, revision) if entry["files"] else None
    if folder is None:
        if online is None:
            raise ValueError(
                f"task {task.name}: its {part} are on no data set of the Hub; set abilities.data to a folder "
                f"with {' or '.join(entry['local'])}{_help(entry)}"
            )
        return online
    downloaded = [f"{hub}/{pattern}" for pattern in entry["files"]] if entry["files"] else []
    alternatives = [(pattern,) for pattern in entry["local"]] + ([tuple(downloaded)] if downloaded else [])
    for patterns in alternatives:
        if list(_fitting(Path(folder), patterns)):
            return Source(patterns, folder=str(folder))
    wanted = " or ".join(" and ".join(patterns) for patterns in alternatives)
    other = (
        f", or set abilities.data to null, so that {', '.join(online.files)} of the data set {hub} at "
        f"revision {revision} is downloaded from the Hub"
        if online
        else ""
    )
    raise ValueError(
        f"task {task.name}: the folder {folder} has no file for its {part}; put {wanted} there{other}"
        f"{_help(entry)}"
    )


def _help(entry: Mapping[str, Any]) -> str:
    return f"; {entry['help']}" if entry["help"] else ""


def source_errors(tasks: Iterable[Task], folder: str | Path | None) -> list[str]:
    """Return a line for each part of a task whose files are missing, before any job starts."""
    errors = []
    for task in tasks:
        for part in parts_of(task):
            try:
                source_of(task, part, folder)
            except ValueError as error:
                errors.append(str(error))
    return errors


def files_of(source: Source) -> list[str]:
    """Return the paths of a local source's files."""
    return [str(path) for path in _fitting(Path(source.folder), source.files)]


def _fitting(folder: Path, patterns: Sequence[str]) -> Iterator[Path]:
    """Yield the files below a folder that fit patterns, in the order of patterns and names."""
    for pattern in patterns:
        yield from sorted(path for path in folder.glob(pattern) if path.is_file())


# --- rows -------------------------------------------------------------------------------------------------


def read_rows(paths: str | Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of files in their order, or of all files below one folder, sorted by name.

    Each has the fields `file` and `folder`, the names of its file without ending and of the folder around it,
    where it has none of these itself. A .txt file is one row with the field `text`.
    """
    rows = []
    files = _files_below(Path(paths)) if isinstance(paths, str) else map(Path, paths)
    for path in files:
        stem = path.name.split(".")[0]
        rows += [{"file": stem, "folder": path.parent.name, **row} for row in _rows_of(path)]
    return rows


def _files_below(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.name.removesuffix(".gz").endswith(KINDS))


def _rows_of(path: Path) -> list[dict[str, Any]]:
    """Return the rows of one file; ValueError names a row that is not one."""
    if path.suffix == ".parquet":
        return _rows_of_parquet(path)
    kind, content = Path(path.name.removesuffix(".gz")).suffix, read_bytes(path)
    if kind == ".json":
        return _checked(path, parse_json(content, path))
    if kind == ".tsv":
        return _named_cells(path, read_cells(content, path))
    text = decode(content, path)
    if kind == ".txt":
        return [{"text": text}]
    if kind == ".csv":
        return _named_cells(path, list(csv.reader(io.StringIO(text, newline=""))))
    if kind != ".jsonl":
        raise ValueError(f"{path}: rows come from {', '.join(KINDS)}")
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                rows.append(loads(line))
            except ValueError as error:
                raise ValueError(f"{path} row {number} is not JSON: {error}") from error
    return _checked(path, rows)


def _rows_of_parquet(path: Path) -> list[dict[str, Any]]:
    try:
        return pq.read_table(path).to_pylist()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ValueError(f"{path} cannot be read: {error}; fetch it anew") from error


def _named_cells(path: Path, rows: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Return the rows of a sheet below its header; ValueError names one with more or fewer cells."""
    header, *cells = [row for row in rows if row] or [[]]
    for number, row in enumerate(cells, start=1):
        if len(row) != len(header):
            raise ValueError(
                f"{path}: row {number} below the header has {len(row)} cells, and the header {len(header)}"
            )
    return [dict(zip(header, row, strict=True)) for row in cells]


def _checked(path: Path, rows: Any) -> list[dict[str, Any]]:
    """Return rows that are objects, of which a JSON file may hold the list under `data` or `examples`."""
    if isinstance(rows, dict):
        rows = rows.get("data", rows.get("examples"))
    if not isinstance(rows, list):
        raise ValueError(f"{path}: expected a list of JSON objects, one for each row")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            found = shortened(json.dumps(row, ensure_ascii=False))
            raise ValueError(f"{path}: row {number} is {found}; expected a JSON object for each row")
    return rows
