"""Tables made from a dump: facts, and statements of every rank, per relation; labels; redirects.

The dump is read once. What it says is written as it comes, and sorted afterwards on disk. Both happen in a
folder beside the final one that stays after an interruption: a dump that was read to its end is not read
again, nor is a sorted relation sorted again.
"""

import json
import logging
import os
import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aftershock.kg.blocks import read_blocks
from aftershock.kg.dump import DumpReader, Extract
from aftershock.kg.graph import Graph
from aftershock.output import whole_file, write_text
from aftershock.process import check_parent

log = logging.getLogger(__name__)

FORMAT = 2  # of the folder; a folder of another one is made anew
FACTS, STATEMENTS, LABELS, REDIRECTS, TERMS = "facts", "statements", "labels", "redirects", "terms"
DESCRIPTION = "dump.json"
MEMORY = "512MB"  # for sorting; beyond it DuckDB spills to disk

BUFFERED = 1 << 16  # rows of a table that are buffered,
BATCHES = 256  # in at most this many pieces, each with a kilobyte of overhead
MAX_BROKEN = 0.001  # share of lines
ENOUGH = 10_000  # lines, to judge a share before the end
PROGRESS = 100_000_000  # lines

SCHEMAS = {
    FACTS: pa.schema({"s": pa.int64(), "o": pa.int64()}),
    STATEMENTS: pa.schema({"s": pa.int64(), "o": pa.int64()}),
    LABELS: pa.schema({"entity": pa.int64(), "language": pa.string(), "label": pa.string()}),
    REDIRECTS: pa.schema({"entity": pa.int64(), "target": pa.int64()}),
    TERMS: pa.schema({"id": pa.int64(), "oddity": pa.string()}),
}


def load_dump(
    source: str | os.PathLike, folder: str | os.PathLike, graph: Graph, relation_ids: Sequence[str]
) -> dict[str, Any]:
    """Make `folder` from a dump (.nt, .nt.gz or .nt.bz2) and return its description.

    Raises ValueError naming file and byte when the dump is broken or ends early, and with the first of them
    when more than a thousandth of its lines are not N-Triples.
    """
    source, folder = Path(source), Path(folder)
    work = folder.with_name(f".{folder.name}.reading")
    state = source.stat()
    wanted: dict[str, Any] = {
        "format": FORMAT,
        "file": source.name,
        "bytes": state.st_size,
        "changed": state.st_mtime_ns,
        "namespace": graph.namespace,
        "relations": sorted(relation_ids),
    }
    read = work / DESCRIPTION
    found = json.loads(read.read_text()) if read.exists() else {}
    if {key: found.get(key) for key in wanted} == wanted:
        log.info("%s was read before", source)
    else:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        found = {**wanted, **_read(source, work, DumpReader(graph, wanted["relations"]), wanted["relations"])}
        write_text(read, json.dumps(found, indent=1))
    _sort(work, wanted["relations"])
    check_parent()
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(work, folder)
    return found


def about(folder: str | os.PathLike) -> dict[str, Any]:
    """The description of a folder made from a dump; ValueError when it is none."""
    try:
        found = json.loads((Path(folder) / DESCRIPTION).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} was not made from a dump ({error}); delete it and run again") from error
    if found["format"] != FORMAT:
        raise ValueError(f"{folder} has another format than this version reads; delete it and run again")
    return found


def open_database(temporary: str | os.PathLike) -> duckdb.DuckDBPyConnection:
    """An in-memory database that spills beyond MEMORY into the folder `temporary`."""
    return duckdb.connect(
        config={
            "threads": 1,
            "memory_limit": MEMORY,
            "preserve_insertion_order": False,
            "temp_directory": os.fspath(temporary),
        }
    )


class Tables:
    """Parquet files that are written in row groups as rows are added."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writers: dict[str, pq.ParquetWriter] = {}
        self.waiting: dict[str, list[pa.RecordBatch]] = defaultdict(list)
        self.rows: dict[str, int] = defaultdict(int)

    def __enter__(self) -> "Tables":
        return self

    def __exit__(self, *error: object) -> None:
        for name in list(self.waiting):
            self.write(name)
        for writer in self.writers.values():
            writer.close()

    def add(self, name: str, kind: str, *columns: Any) -> None:
        """Append rows to the table `name` of a kind in SCHEMAS."""
        schema = SCHEMAS[kind]
        if name not in self.writers:
            path = self.folder / f"{name}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            self.writers[name] = pq.ParquetWriter(path, schema, compression="lz4", use_dictionary=False)
        if not len(columns[0]):
            return
        arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
        self.waiting[name].append(pa.record_batch(arrays, schema=schema))
        self.rows[name] += len(columns[0])
        if self.rows[name] >= BUFFERED or len(self.waiting[name]) >= BATCHES:
            self.write(name)

    def write(self, name: str) -> None:
        """Write the buffered rows of a table."""
        if self.waiting[name]:
            table = pa.Table.from_batches(self.waiting[name]).combine_chunks()
            self.writers[name].write_table(table)
        self.waiting[name], self.rows[name] = [], 0


def _read(source: Path, work: Path, reader: DumpReader, relation_ids: Sequence[str]) -> dict[str, Any]:
    """Write the content of the dump into `work`/raw; return the numbers of lines and of broken ones."""
    lines = broken = 0
    first: str | None = None
    with Tables(work / "raw") as tables:
        for relation_id in relation_ids:
            for kind in (FACTS, STATEMENTS):
                tables.add(f"{kind}/{relation_id}", kind, [], [])
        for block in read_blocks(source):
            found = reader.read(block)
            _add(found, tables, relation_ids)
            if found.broken and first is None:
                first = found.broken[0][:200].decode(errors="replace")
            broken += len(found.broken)
            if lines // PROGRESS < (lines + found.lines) // PROGRESS:
                log.info("%d lines", lines + found.lines)
            lines += found.lines
            if lines >= ENOUGH:
                _judge(source, lines, broken, first)
    _judge(source, lines, broken, first)
    if lines == broken:
        raise ValueError(f"{source} holds no triple; give an N-Triples file with facts and labels")
    if broken:
        log.warning("%s: %d of %d lines are no N-Triples, the first is %r", source, broken, lines, first)
    return {"lines": lines, "broken": broken, "first_broken": first}


def _judge(source: Path, lines: int, broken: int, first: str | None) -> None:
    if broken > MAX_BROKEN * lines:
        raise ValueError(
            f"{source}: {broken} of the first {lines} lines are no N-Triples, the first is {first!r}; give "
            "an N-Triples file, one statement per line"
        )


def _add(found: Extract, tables: Tables, relation_ids: Sequence[str]) -> None:
    """Append the content of some lines to the tables, those of facts and statements by relation."""
    pairs = [*((FACTS, part) for part in found.facts), *((STATEMENTS, part) for part in found.statements)]
    for kind, (places, subjects, objects) in pairs:
        if not len(places):
            continue
        order = np.argsort(places, kind="stable")
        present, starts = np.unique(places[order], return_index=True)
        for place, rows in zip(present, np.split(order, starts[1:]), strict=True):
            tables.add(f"{kind}/{relation_ids[place]}", kind, subjects[rows], objects[rows])
    for entities, targets in found.redirects:
        tables.add(REDIRECTS, REDIRECTS, entities, targets)
    tables.add(LABELS, LABELS, *(zip(*found.labels, strict=True) if found.labels else ([], [], [])))
    tables.add(TERMS, TERMS, list(found.oddities), list(found.oddities.values()))


def _sort(work: Path, relation_ids: Sequence[str]) -> None:
    """Write each table of `work`/raw to its final place, sorted and without duplicates."""
    names = [f"{kind}/{relation_id}" for kind in (FACTS, STATEMENTS) for relation_id in relation_ids]
    for name in [*names, REDIRECTS, TERMS]:
        raw, made = work / "raw" / f"{name}.parquet", work / f"{name}.parquet"
        if made.exists():
            continue
        with whole_file(made) as part, open_database(work / "sorting") as db:
            db.execute(
                f"COPY (SELECT DISTINCT * FROM read_parquet({_quoted(raw)}) ORDER BY ALL) TO {_quoted(part)} "
                "(FORMAT parquet, COMPRESSION zstd)"
            )
        raw.unlink()
    if not (work / f"{LABELS}.parquet").exists():  # looked up all at once, so their order does not matter
        os.replace(work / "raw" / f"{LABELS}.parquet", work / f"{LABELS}.parquet")
    shutil.rmtree(work / "raw", ignore_errors=True)
    shutil.rmtree(work / "sorting", ignore_errors=True)


def _quoted(path: Path) -> str:
    return "'" + os.fspath(path).replace("'", "''") + "'"
