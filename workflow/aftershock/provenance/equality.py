"""Equality of two results: comparison of the tables and tensors of two runs.

The same shards, batches, threads and machine give the same bits. Otherwise two runs are equal when they have
the same keys and their log-probabilities differ by less than 1e-3. A decision (a boolean, a rank, a
greedy text) may then differ where the two likeliest tokens are that close: each is listed, with what the
tables say about that margin.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from filecmp import cmp
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from safetensors.numpy import load_file

from aftershock.tables import key_of, read_rows

TOLERANCE = 1e-3
"""Tolerance of a log-probability, natural log; hence of a probability, relative to it."""
VERDICTS = IDENTICAL, EQUAL, UNDECIDED, DIFFERENT = ("identical", "equal", "undecided", "different")
"""UNDECIDED: equal within the tolerance but for decisions whose margin the tables do not bound."""
SHOWN = 10
LOGARITHMS = {*("logprob", "logprobs", "token_logprobs", "log_probability", "loss", "nll", "unedited_nll")}
DECISIONS = {
    *("argmax_match", "tokens_matched", "continuation", "steps"),  # observations, telemetry
    *("exact", "paraphrase", "held_out", "token_accuracy", "paraphrase_token_accuracy", "generated"),
    *("said", "rank", "known", "correct", "chosen", "greedy"),
}
"""Columns that depend on which token is the likeliest."""
MARGINS = ("argmax_match", "tokens_matched")
"""Decisions about tokens of which the table has the log-probabilities."""
CLOCK_ROWS = {"measure": "seconds", "question": "cost"}
"""Rows that hold times, which no two runs share, by the column that says so; so does a column `seconds`."""
CUT = ("observations", "telemetry", "health", "answers")
"""Folders whose files are one table, however divided; in answers, up to the first dot of the name."""
MOMENTS = ("moments", "attention_moments", "null_space")
"""Names of files of tensors that follow from sums, which may differ by TOLERANCE relative to their size."""


@dataclass
class Comparison:
    """Differences between a table or file of two runs: lines, each with the verdict that follows from it."""

    name: str
    lines: list[tuple[str, str]] = field(default_factory=list)
    largest: dict[str, float] = field(default_factory=dict)  # column or tensor: largest difference

    @property
    def verdict(self) -> str:
        """The comparison's verdict, one of VERDICTS."""
        found = [*(verdict for verdict, _ in self.lines), EQUAL if self.largest else IDENTICAL]
        return max(found, key=VERDICTS.index)

    def __str__(self) -> str:
        what = ", ".join(f"{column} by up to {value:.2g}" for column, value in self.largest.items())
        worst = [line for _, line in sorted(self.lines, key=lambda line: -VERDICTS.index(line[0]))]
        more = [f"and {len(worst) - SHOWN} more"] * (len(worst) > SHOWN)
        head = f"{self.verdict}: {self.name}{f' ({what})' if what else ''}"
        return "\n  ".join([head, *worst[:SHOWN], *more])


class Report(list[Comparison]):
    """The comparisons of two folders."""

    @property
    def equal(self) -> bool:
        """True if all is identical, or equal within the tolerance with every decision explained."""
        return all(part.verdict in (IDENTICAL, EQUAL) for part in self)

    def __str__(self) -> str:
        count = Counter(part.verdict for part in self)
        head = ", ".join(f"{count[verdict]} {verdict}" for verdict in VERDICTS if count[verdict])
        return "\n".join([head, *(str(part) for part in self if part.verdict != IDENTICAL)])


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
        return Comparison(name, [(DIFFERENT, f"only in the {'first' if a else 'second'} folder")])
    if len(a) == len(b) == 1 and cmp(a[0], b[0], shallow=False):
        return Comparison(name)
    if name.endswith(".safetensors"):
        return _compare_tensors(a[0], b[0], name)
    try:
        rows, others = (pa.concat_tables(map(read_rows, paths)) for paths in (a, b))
        return compare_tables(rows, others, key_of(b[0]), name)
    except ValueError as error:
        return Comparison(name, [(DIFFERENT, str(error))])


def compare_tables(a: pa.Table, b: pa.Table, key: Sequence[str], name: str) -> Comparison:
    """Compare the rows of two runs by their keys; their order does not count."""
    found = Comparison(name)
    if not a.schema.equals(b.schema):
        found.lines.append((DIFFERENT, f"columns {a.schema.names} and {b.schema.names}, or their types"))
        return found
    for column, value in CLOCK_ROWS.items():
        if column in a.column_names:
            a, b = (rows.filter(pc.not_equal(rows[column], value)) for rows in (a, b))
    a, b = (rows.sort_by([(column, "ascending") for column in key]) for rows in (a, b))
    places, others = (
        [", ".join(f"{column} {value}" for column, value in row.items()) for row in rows.to_pylist()]
        for rows in (a.select(key), b.select(key))
    )
    if places != others:
        for side, more in (
            ("first", Counter(places) - Counter(others)),
            ("second", Counter(others) - Counter(places)),
        ):
            found.lines += [(DIFFERENT, f"only in the {side}: {place}") for place in more]
        return found
    for column in a.column_names:
        if column == "seconds" or a[column].equals(b[column]):
            continue
        x, y = a[column].to_pylist(), b[column].to_pylist()
        differing = [i for i in range(len(x)) if x[i] != y[i]]
        if "double" in str(a[column].type) and column not in DECISIONS:
            differing = _beyond(found, column, x, y, differing)
        for i in differing:
            line = f"{places[i]}: {column} is {_text(x[i])} and {_text(y[i])}"
            if column not in DECISIONS or x[i] is None or y[i] is None:
                found.lines.append((DIFFERENT, line))
            elif column in MARGINS and "token_logprobs" in a.column_names:
                fewer = b if x[i] > y[i] else a
                found.lines.append(_decision(line, fewer["token_logprobs"][i].as_py()))
            else:
                found.lines.append((UNDECIDED, f"{line} (the margin is not in the table)"))
    return found


def _decision(line: str, tokens: Sequence[float]) -> tuple[str, str]:
    """Return the verdict on a decision about tokens that differs, and `line` with a bound of its margin.

    tokens: log-probabilities of the target's tokens where fewer of them are the likeliest. One of probability
    p that is not the likeliest has log p less than log((1 - p) / p) below that of the likeliest one: a bound
    of the margin, below 0 for p > 1/2, which rules the decision out.
    """
    with np.errstate(divide="ignore"):
        margin = np.log(-np.expm1(min(tokens))) - min(tokens)
    if margin < -TOLERANCE:
        return DIFFERENT, f"{line}, although every token has more than half the probability"
    return UNDECIDED if margin >= TOLERANCE else EQUAL, f"{line} (margin at most {margin:.2g})"


def _beyond(found: Comparison, column: str, x: list, y: list, rows: Sequence[int]) -> list[int]:
    """Return those of `rows` whose numbers, or lists of numbers, differ by more than the tolerances.

    With log p off by e, p is off by e p; a mean over prompts too. A difference or a ratio of two such, its
    logarithm, one minus it, and means of those over cases are off by at most 2 e (1 + |value|). The largest
    difference is noted in `found`.
    """
    relative, absolute = 2 * TOLERANCE, 2 * TOLERANCE
    if column in LOGARITHMS:
        relative, absolute = 0, TOLERANCE
    elif "probability" in column:
        relative, absolute = TOLERANCE, 0
    pairs = [(i, *pair) for i in rows for pair in zip_longest(_listed(x[i]), _listed(y[i]))]
    where, p, q = np.array(pairs, float).reshape(-1, 3).T
    with np.errstate(invalid="ignore"):  # infinities equal themselves, as what is no number does
        if largest := float(np.fmax.reduce(np.abs(p - q), initial=0.0)):
            found.largest[column] = largest
    return sorted(set(where[~np.isclose(p, q, relative, absolute, equal_nan=True)].astype(int)))


def _listed(value: Any) -> list:
    return value if isinstance(value, list) else [value]


def _text(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return f"{value:.6g}" if isinstance(value, float) else repr(value)


def _compare_tensors(a: Path, b: Path, name: str) -> Comparison:
    """Compare two safetensors files: weights are the same bytes or different.

    Second moments may be off. Eigenvectors follow from them, but for turns among those of close eigenvalues.
    """
    found, one, two = Comparison(name), load_file(a), load_file(b)
    first, second = ({key: (x.dtype, x.shape) for key, x in tensors.items()} for tensors in (one, two))
    if first != second:
        found.lines.append((DIFFERENT, f"tensors {first} and {second}"))
        return found
    for key, x in one.items():
        if x.tobytes() != two[key].tobytes() and not key.startswith("vectors."):
            off = found.largest[key] = float(np.linalg.norm(x.astype(float) - two[key]) / np.linalg.norm(x))
            if a.stem not in MOMENTS or not off < TOLERANCE:
                found.lines.append((DIFFERENT, f"{key}: off by {off:.2g} of its size"))
    return found


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m aftershock.provenance.equality FOLDER FOLDER")
    print(report := compare_folders(*sys.argv[1:]))
    sys.exit(not report.equal)
