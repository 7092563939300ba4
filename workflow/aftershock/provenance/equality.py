"""Equality of two results: comparison of the tables and tensors of two runs.

The same shards, batches, threads and machine give the same bits. Otherwise two runs are equal when they have
the same keys and their log-probabilities differ by less than 1e-3. A decision (a boolean, a rank, a
greedy text) may then differ where the two likeliest tokens are that close; each such one is listed, with what
the tables say about that margin.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from filecmp import cmp
from functools import cache
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from pkgutil import iter_modules

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from safetensors import safe_open

from aftershock import tables
from aftershock.tables import ARROW_TYPES, Table, provenance_of

TOLERANCE = 1e-3
"""Tolerance of a log-probability, natural log; hence of a probability, relative to it."""
VERDICTS = ("identical", "equal", "undecided", "different")
"""undecided: equal within the tolerance but for decisions whose margin the tables do not contain."""
SHOWN = 5
LOGARITHMS = {"logprob", "log_probability", "loss", "nll", "unedited_nll"}
DECISIONS = {
    *("argmax_match", "tokens_matched", "continuation", "steps"),  # observations, telemetry
    *("exact", "paraphrase", "held_out", "token_accuracy", "paraphrase_token_accuracy", "generated"),
    *("said", "rank", "known", "correct", "chosen", "greedy"),
}
"""Columns that depend on which token is the likeliest."""
CLOCKS = {"seconds"}
"""Columns of times, which no two runs share."""
CLOCK_ROWS = {"measure": "seconds", "question": "cost"}
"""Rows that hold times, by the column that says so."""
CUT = ("observations", "telemetry", "health", "answers")
"""Folders whose files are one table, however divided; in answers, up to the first dot of the name."""
MOMENTS = ("moments", "attention_moments", "null_space")
"""Names of files of tensors that follow from sums, which may differ by TOLERANCE."""


@dataclass
class Comparison:
    """Differences between one table or file of two runs, one line per difference or decision."""

    name: str
    largest: dict[str, float] = field(default_factory=dict)  # column or tensor: largest difference
    differences: list[str] = field(default_factory=list)
    decisions: list[str] = field(default_factory=list)
    undecided: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """The comparison's verdict, one of VERDICTS."""
        if self.differences:
            return "different"
        if self.undecided:
            return "undecided"
        return "equal" if self.largest or self.decisions else "identical"

    def __str__(self) -> str:
        what = ", ".join(f"{column} by up to {value:.2g}" for column, value in self.largest.items())
        lines = [f"{self.verdict}: {self.name}{f' ({what})' if what else ''}"]
        for found in (self.differences, self.decisions):
            lines += [f"  {line}" for line in found[:SHOWN]]
            lines += [f"  and {len(found) - SHOWN} more"] * (len(found) > SHOWN)
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


class Report(list[Comparison]):
    """The comparisons of two folders."""

    @property
    def equal(self) -> bool:
        """True if all is identical, or equal within the tolerance with every decision explained."""
        return all(part.verdict in ("identical", "equal") for part in self)

    def __str__(self) -> str:
        count = Counter(part.verdict for part in self)
        head = ", ".join(f"{count[verdict]} {verdict}" for verdict in VERDICTS if count[verdict])
        return "\n".join([head, *(str(part) for part in self if part.verdict != "identical")])


def compare_folders(a: str | Path, b: str | Path) -> Report:
    """Compare all tables and tensors below two folders.

    Shards are joined first, so the two runs may be cut differently. Pages, figures and text files are drawn
    from tables and not compared; nor are logs, job records, caches and hidden files. ValueError when there is
    nothing to compare.
    """
    first, second = (_files_below(Path(root)) for root in (a, b))
    if not first | second:
        raise ValueError(f"there are no tables to compare in {a} and {b}")
    return Report(compare_files(first[name], second[name], name) for name in sorted(first | second))


def _files_below(root: Path) -> defaultdict[str, list[Path]]:
    """Return the files below a folder by the table that each holds or is a part of."""
    found = defaultdict(list)
    for path in sorted([*root.rglob("*.parquet"), *root.rglob("*.safetensors")]):
        *folders, name = parts = path.relative_to(root).parts
        if any(part.startswith(".") for part in parts) or parts[0] in ("logs", "jobs"):
            continue
        if folders and folders[-1] in CUT:
            name = f"{name.split('.')[0]}.parquet" if folders[-1] == "answers" else "*.parquet"
        found["/".join([*folders, name])].append(path)
    return found


def compare_files(a: Sequence[Path], b: Sequence[Path], name: str) -> Comparison:
    """Compare one table of two runs, each in one or several files, or one file of tensors."""
    if not a or not b:
        return Comparison(name, differences=[f"only in the {'first' if a else 'second'} folder"])
    if len(a) == len(b) == 1 and cmp(a[0], b[0], shallow=False):
        return Comparison(name)
    if name.endswith(".safetensors"):
        return _compare_tensors(a[0], b[0], name)
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
    """Return all tables by name."""
    modules = [import_module(f"{tables.__name__}.{found.name}") for found in iter_modules(tables.__path__)]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, Table)]
    return {table.name: table for table in found}


def _table_of(path: Path) -> Table:
    """Return the table of a file whose columns depend on the study: its key precedes the first number."""
    kinds = {kind: name for name, kind in ARROW_TYPES.items()}
    columns = {column.name: f"{kinds[column.type]}?" for column in pq.read_schema(path)}
    key = tuple(takewhile(lambda column: columns[column] != "float64?", columns))
    return Table(path.stem, key, columns)


def compare_tables(a: pd.DataFrame, b: pd.DataFrame, table: Table, name: str | None = None) -> Comparison:
    """Compare the rows of two runs by their keys; their order does not count."""
    found = Comparison(name or table.name)
    if missing := [f"only one side has the column {c}" for c in table.columns if (c in a) != (c in b)]:
        found.differences = missing
        return found
    a, b = (_without_clocks(rows).set_index(list(table.key)).sort_index() for rows in (a, b))
    for rows, other, side in ((a, b, "first"), (b, a, "second")):
        twice, gone = rows.index[rows.index.duplicated()], rows.index.difference(other.index)
        found.differences += [f"twice in the {side}: {where}" for where in _keys(twice)]
        found.differences += [f"only in the {side}: {where}" for where in _keys(gone)]
    if not found.differences:
        for column, kind in table.columns.items():
            if column not in (*table.key, *CLOCKS):
                _compare_column(found, column, kind.rstrip("?"), a, b)
    return found


def _without_clocks(rows: pd.DataFrame) -> pd.DataFrame:
    """Return `rows` without those that hold times."""
    for column, value in CLOCK_ROWS.items():
        rows = rows[rows[column] != value] if column in rows else rows
    return rows


def _compare_column(found: Comparison, column: str, kind: str, a: pd.DataFrame, b: pd.DataFrame) -> None:
    one, two = a[column], b[column]
    largest = 0.0
    if kind == "list<float64>":
        sizes, others = one.map(len).to_numpy(), two.map(len).to_numpy()
        same = sizes == others
        x, y = (np.concatenate([[], *side[same]]) for side in (one, two))
        far, largest = _compare_numbers(x, y, 0, TOLERANCE)
        differs = ~same
        differs[np.repeat(np.flatnonzero(same), sizes[same])[far]] = True
    elif kind == "float64" and column not in DECISIONS:
        differs, largest = _compare_numbers(one.to_numpy(float), two.to_numpy(float), *_tolerances(column))
    else:
        if kind.startswith("list"):
            one, two = one.map(tuple), two.map(tuple)
        both = (one.notna() & two.notna()).to_numpy()
        differs = (one != two).to_numpy() & (one.notna() | two.notna()).to_numpy()
        if column in DECISIONS:
            _list_decisions(found, column, a[differs & both], b[differs & both])
            differs &= ~both
    if largest > 0:
        found.largest[column] = largest
    found.differences += _lines(column, a[differs], b[differs])


def _compare_numbers(
    x: np.ndarray, y: np.ndarray, relative: float, absolute: float
) -> tuple[np.ndarray, float]:
    """Return where numbers differ by more than the tolerances, and by how much they do at most."""
    with np.errstate(invalid="ignore"):  # infinities equal themselves, as what is no number does
        largest = float(np.fmax.reduce(np.abs(x - y), initial=0.0))
    return ~np.isclose(x, y, relative, absolute, equal_nan=True), largest


def _tolerances(column: str) -> tuple[float, float]:
    """Return the relative and the absolute tolerance of a column's numbers.

    With log p off by e, p is off by e p; a mean over prompts too. A difference or a ratio of two such, its
    logarithm, one minus it, and means of those over cases are off by at most 2 e (1 + |value|).
    """
    if column in LOGARITHMS:
        return 0, TOLERANCE
    return (TOLERANCE, 0) if "probability" in column else (2 * TOLERANCE, 2 * TOLERANCE)


def _list_decisions(found: Comparison, column: str, a: pd.DataFrame, b: pd.DataFrame) -> None:
    """List decisions that differ; one that its log-probabilities rule out counts as a difference.

    A token of probability p that is not the likeliest has log p less than log((1 - p) / p) below that of the
    likeliest one: a bound of the margin, below 0 for p > 1/2.
    """
    margins = np.full(len(a), np.inf)
    if column in ("argmax_match", "tokens_matched") and "token_logprobs" in a:
        fewer = np.where(a[column] < b[column], a["token_logprobs"], b["token_logprobs"])
        least = np.array([np.min(logprobs) for logprobs in fewer], float)
        with np.errstate(divide="ignore"):
            margins = np.log(-np.expm1(least)) - least
    for line, margin in zip(_lines(column, a, b), margins, strict=True):
        if margin < -TOLERANCE:
            found.differences.append(f"{line}, although every token has more than half the probability")
            continue
        found.undecided |= bool(margin >= TOLERANCE)
        said = "the margin is not in the table" if margin == np.inf else f"margin at most {margin:.2g}"
        found.decisions.append(f"{line} ({said})")


def _lines(column: str, a: pd.DataFrame, b: pd.DataFrame) -> list[str]:
    """Return lines that describe differing rows."""
    rows = zip(_keys(a.index), a[column], b[column], strict=True)
    return [f"{where}: {column} is {_text(x)} and {_text(y)}" for where, x, y in rows]


def _text(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"[{', '.join(map(_text, value.tolist()))}]"
    return f"{value:.6g}" if isinstance(value, float) else repr(value)


def _keys(index: pd.Index) -> list[str]:
    """Return the keys of an index in words."""
    rows = (row if isinstance(row, tuple) else (row,) for row in index)
    return [", ".join(f"{n} {value}" for n, value in zip(index.names, row, strict=True)) for row in rows]


def _compare_tensors(a: Path, b: Path, name: str) -> Comparison:
    """Compare two safetensors files: weights are the same bytes or different.

    Second moments and their eigenvalues may be off by TOLERANCE relative to their size (Frobenius norm of
    each tensor). Eigenvectors follow from them, but for turns among those of close eigenvalues.
    """
    found = Comparison(name)
    with safe_open(a, "numpy") as one, safe_open(b, "numpy") as two:
        made, others = (_hashes(file.metadata() or {}) for file in (one, two))
        if made != others:
            found.differences.append(f"made from {made} and from {others}")
        names, other_names = sorted(one.keys()), sorted(two.keys())
        if names != other_names:
            found.differences.append(f"tensors {names} and {other_names}")
            return found
        for key in names:
            x, y = one.get_tensor(key), two.get_tensor(key)
            if x.shape != y.shape or x.dtype != y.dtype:
                found.differences.append(f"{key}: {x.dtype} {x.shape} and {y.dtype} {y.shape}")
            elif x.tobytes() != y.tobytes() and not key.startswith("vectors."):
                off = float(np.linalg.norm(x.astype(float) - y) / np.linalg.norm(x.astype(float)))
                found.largest[key] = off
                if a.stem not in MOMENTS or not off < TOLERANCE:
                    found.differences.append(f"{key}: off by {off:.2g} of its size")
    return found


def _hashes(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the hashes of the inputs of tensors; other metadata follow from the tensors."""
    return {name: value for name, value in metadata.items() if name.endswith("_sha256")}


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m aftershock.provenance.equality FOLDER FOLDER")
    print(report := compare_folders(*sys.argv[1:]))
    sys.exit(not report.equal)
