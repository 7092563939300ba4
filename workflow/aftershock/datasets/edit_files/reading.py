"""Whole files of edits: their rows as edits, and what is wrong with those that cannot be read."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from aftershock.datasets.edit_files.formats import FORMATS, format_of
from aftershock.datasets.edit_files.record import SourceEdit
from aftershock.datasets.released import PROMPT_FILES, read_prompts
from aftershock.text_files import loads, read_text

LINES = ".jsonl"  # whose lines are rows, each by itself, though the first one may be broken
ROWS = ("data", "rows", "edits")  # keys below which a file may have its list


class Row(NamedTuple):
    """An edit of a source, or why there is none."""

    edit: SourceEdit | None
    fault: str | None = None


def read_edits(path: Path, settings: Mapping[str, Any]) -> list[Row]:
    """Return the edits of a file, whose format and options are those of `edits` in a plan.

    A row that cannot be read is one without an edit. ValueError where the file is none, or where rows are
    broken and not to be skipped: it lists each with its number, counted from 0.
    """
    source = settings["source"]
    options = dict(settings) | {"prompts": _paraphrases(path) if source == "conflict_edit" else {}}
    read, rows, faults, total = FORMATS[source], [], {}, 0
    for number, record in enumerate(_records(path)):
        total += 1
        try:
            if isinstance(record, _Broken):
                raise ValueError(record.fault)
            if not isinstance(record, dict):
                raise ValueError(f" is {json.dumps(record)[:40]}, not an object")
            found = [_named(edit, number) for edit in read(record, options)]
        except ValueError as error:
            faults[number] = str(error)
            rows.append(Row(None, f"row {number}{error}"))
            continue
        rows += map(Row, found)
    if not total:
        raise ValueError(f"{path} holds no row")
    if len(faults) == total:
        raise ValueError(_other_format(path, source, faults))
    if faults and settings["broken"] == "refuse":
        listed = "; ".join(f"{_numbers(rows_)}{fault}" for fault, rows_ in _alike(faults).items())
        raise ValueError(
            f"{path}: {len(faults)} of {total} rows cannot be read (counted from 0): {listed}. Mend them, or "
            "leave them out with broken: skip"
        )
    return rows


def guess_format(path: Path) -> str:
    """Return the format that the first row of a file looks like; ValueError where it looks like none."""
    found = format_of(next(_records(path), None))
    if found is None:
        raise ValueError(f"{path}: its first row is of no known format; known: {', '.join(FORMATS)}")
    return found


class _Broken(NamedTuple):
    """A line that is not JSON."""

    fault: str


def _records(path: Path) -> Iterator[Any]:
    """Yield the records of a file: of one list, or a line for each, whatever the file is called."""
    text = read_text(path)
    lines = [line for line in re.split(r"\r\n|\n|\r", text) if line.strip()]
    try:
        data = loads(text) if lines else []
    except ValueError as error:
        if not (LINES in path.suffixes or _is_json(lines[0])):
            raise ValueError(f"{path} is not JSON: {error}") from error
        yield from map(_record, lines)
        return
    if isinstance(data, dict):
        own = [data] if LINES in path.suffixes else None
        data = next((data[key] for key in ROWS if isinstance(data.get(key), list)), own)
    if not isinstance(data, list):
        raise ValueError(f"{path} holds no list of rows; expected one, or a row in each line")
    yield from data


def _record(line: str) -> Any:
    try:
        return loads(line)
    except ValueError as error:
        return _Broken(f" is not JSON: {error}")


def _is_json(line: str) -> bool:
    """True if a line is a whole object, so that the file has one in each."""
    return isinstance(_record(line), dict)


def _named(edit: SourceEdit, number: int) -> SourceEdit:
    """An edit with a name: its row's number where the row has none of its own."""
    name = edit.source_id
    return replace(edit, source_id=f"{number}{name}") if not name or name.startswith(".") else edit


def _paraphrases(path: Path) -> Mapping[str, Mapping[str, Sequence[str]]]:
    """The templates in published files beside a file, by kind of dataset and relation."""
    found = {}
    for kind, name in PROMPT_FILES.items():
        if path.with_name(name).is_file():
            prompts, _ = read_prompts(path.parent, kind)
            found[kind] = prompts.groupby("relation_id")["template"].agg(list).to_dict()
    return found


def _other_format(path: Path, source: str, faults: Mapping[int, str]) -> str:
    """Return the message for a file without a readable row, which has likely another format."""
    first = next(iter(faults.values()))
    looks = format_of(next(_records(path)))
    meant = f"they look like source: {looks}" if looks and looks != source else "name another source"
    return f"{path}: none of {len(faults)} rows is of the format {source!r}; row 0{first}; {meant}"


def _alike(faults: Mapping[int, str]) -> dict[str, list[int]]:
    """The numbers of rows by what is wrong with them."""
    found: dict[str, list[int]] = {}
    for number, fault in faults.items():
        found.setdefault(fault, []).append(number)
    return found


def _numbers(rows: Sequence[int]) -> str:
    """Numbers of rows in words, neighbours as a range: `rows 3, 7 to 9`."""
    ranges: list[list[int]] = []
    for row in rows:
        if ranges and row == ranges[-1][-1] + 1:
            ranges[-1][1:] = [row]
        else:
            ranges.append([row])
    shown = ", ".join(" to ".join(map(str, each)) for each in ranges)
    return f"row{'' if len(rows) == 1 else 's'} {shown}"
