"""Equality of two results: comparison of the tables and tensors of two runs.

The same shards, batches, threads and machine give the same bits. Otherwise two runs are equal when they have
the same keys and their log-probabilities differ by less than 1e-3. A decision (a boolean, a rank, a
greedy text) may then differ where the two likeliest tokens are that close; each such one is listed, with what
the tables say about that margin.
"""

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from filecmp import cmp
from functools import cache
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from pkgutil import iter_modules

import numpy as np
import pyarrow.parquet as pq

from aftershock import tables
from aftershock.provenance.compare import TOLERANCE, VERDICTS, Comparison, compare_tables
from aftershock.tables import ARROW_TYPES, Table, provenance_of

CUT = ("observations", "telemetry", "health", "answers")
"""Folders whose files are one table, however divided; in answers, up to the first dot of the name."""


@dataclass
class Report:
    """The comparisons of two folders."""

    parts: list[Comparison]

    @property
    def verdict(self) -> str:
        """The worst of the parts, one of VERDICTS."""
        return max((part.verdict for part in self.parts), key=VERDICTS.index, default="identical")

    @property
    def equal(self) -> bool:
        """True if all is identical, or equal within the tolerance with every decision explained."""
        return self.verdict in ("identical", "equal")

    def __str__(self) -> str:
        count = {v: sum(part.verdict == v for part in self.parts) for v in VERDICTS}
        head = ", ".join(f"{n} {verdict}" for verdict, n in count.items() if n)
        return "\n".join([head, *(str(p) for p in self.parts if p.verdict != "identical")])


def compare_folders(a: str | Path, b: str | Path, only: Sequence[str] = ()) -> Report:
    """Compare all tables and tensors below two folders, those whose path has a part among `only` if given.

    Shards are joined first, so the two runs may be cut differently. Pages, figures and text files are drawn
    from tables and not compared; nor are logs, job records, caches and hidden files. ValueError when there is
    nothing to compare.
    """
    first, second = (_tables_below(Path(root), only) for root in (a, b))
    if not first | second:
        raise ValueError(f"there are no tables to compare in {a} and {b}")
    parts = []
    for name in sorted(first | second):
        if name not in first or name not in second:
            side = "first" if name in first else "second"
            parts.append(Comparison(name, differences=[f"only in the {side} folder"]))
        elif name.endswith(".safetensors"):
            parts.append(compare_tensors(first[name][0], second[name][0], name))
        else:
            parts.append(compare_files(first[name], second[name], name))
    return Report(parts)


def _tables_below(root: Path, only: Sequence[str]) -> dict[str, list[Path]]:
    """The files below a folder by the table that each holds or is a part of."""
    found = defaultdict(list)
    for path in sorted([*root.rglob("*.parquet"), *root.rglob("*.safetensors")]):
        *folders, name = parts = path.relative_to(root).parts
        if any(part.startswith(".") for part in parts) or parts[0] in ("logs", "jobs"):
            continue
        if only and not {*parts, path.stem} & set(only):
            continue
        if folders and folders[-1] in CUT:
            name = f"{name.split('.')[0]}.parquet" if folders[-1] == "answers" else "*.parquet"
        found["/".join([*folders, name])].append(path)
    return dict(found)


def compare_files(a: Sequence[Path], b: Sequence[Path], name: str) -> Comparison:
    """Compare one table of two runs, each in one or several files."""
    if len(a) == len(b) == 1 and cmp(a[0], b[0], shallow=False):
        return Comparison(name)
    try:
        kinds = {provenance_of(path).get("table") for path in (*a, *b)}
        if len(kinds) > 1:
            raise ValueError(f"the files are of the tables {', '.join(map(str, kinds))}")
        table = _tables().get(kinds.pop()) or _table_of(a[0])
        rows, others = table.read(*a), table.read(*b)
    except ValueError as error:
        return Comparison(name, differences=[str(error)])
    return compare_tables(rows, others, table, name)


@cache
def _tables() -> dict[str | None, Table]:
    """All tables by name."""
    modules = [import_module(f"{tables.__name__}.{found.name}") for found in iter_modules(tables.__path__)]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, Table)]
    return {table.name: table for table in found}


def _table_of(path: Path) -> Table:
    """The table of a file whose columns depend on the study: what precedes the first number is its key."""
    kinds = {kind: name for name, kind in ARROW_TYPES.items()}
    columns = {column.name: f"{kinds[column.type]}?" for column in pq.read_schema(path)}
    key = tuple(takewhile(lambda column: columns[column] != "float64?", columns))
    return Table(path.stem, key, columns)


def compare_tensors(a: Path, b: Path, name: str) -> Comparison:
    """Compare two safetensors files: weights are the same bytes or different.

    Second moments and their eigenvalues may be off by TOLERANCE relative to their size (Frobenius norm of
    each tensor). Eigenvectors follow from them, but for turns among those of close eigenvalues.
    """
    if cmp(a, b, shallow=False):
        return Comparison(name)
    from safetensors import safe_open

    found, moments = Comparison(name), a.stem in ("moments", "attention_moments", "null_space")
    with safe_open(a, "numpy") as one, safe_open(b, "numpy") as two:
        sources, others = (_sources(file.metadata() or {}) for file in (one, two))
        if sources != others:
            found.differences.append(f"made from {sources} and from {others}")
        names = [sorted(file.keys()) for file in (one, two)]
        if names[0] != names[1]:
            found.differences.append(f"tensors {names[0]} and {names[1]}")
            return found
        for key in names[0]:
            x, y = one.get_tensor(key), two.get_tensor(key)
            if x.shape != y.shape or x.dtype != y.dtype:
                found.differences.append(f"{key}: {x.dtype} {x.shape} and {y.dtype} {y.shape}")
            elif x.tobytes() != y.tobytes() and not key.startswith("vectors."):
                off = float(np.linalg.norm(x.astype(float) - y) / np.linalg.norm(x.astype(float)))
                found.largest[key] = off
                if not moments or not off < TOLERANCE:
                    found.differences.append(f"{key}: off by {off:.2g} of its size")
    return found


def _sources(metadata: Mapping[str, str]) -> dict[str, str]:
    """The hashes of the inputs of tensors; other metadata follow from the tensors."""
    return {name: value for name, value in metadata.items() if name.endswith("_sha256")}


def main(arguments: Sequence[str]) -> None:
    """Print the differences between two folders of results; exit 1 when they differ."""
    if len(arguments) != 2:
        sys.exit("usage: python -m aftershock.provenance.equality FOLDER FOLDER")
    report = compare_folders(*arguments)
    print(report)
    sys.exit(not report.equal)


if __name__ == "__main__":
    main(sys.argv[1:])
