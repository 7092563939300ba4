"""The rows of two runs compared, column by column; see `equality`."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from aftershock.tables import Table

TOLERANCE = 1e-3
"""Tolerance of a log-probability, natural log; hence of a probability, relative to it."""
VERDICTS = ("identical", "equal", "undecided", "different")
"""undecided: equal within the tolerance but for decisions whose margin the tables do not contain."""
SHOWN = 5
LOGARITHMS = {"logprob", "token_logprobs", "log_probability", "loss", "nll", "unedited_nll"}
DECISIONS = {
    *("argmax_match", "tokens_matched", "continuation", "steps"),  # observations, telemetry
    *("exact", "paraphrase", "held_out", "token_accuracy", "paraphrase_token_accuracy", "generated"),
    *("said", "rank", "known", "correct", "chosen"),
}
"""Columns that depend on which token is the likeliest."""
CLOCKS = {"seconds"}
"""Columns of times, which no two runs share."""
CLOCK_ROWS = {"measure": "seconds", "question": "cost"}
"""Rows that hold times, by the column that says so."""


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
    both, off = (one.notna() & two.notna()).to_numpy(), np.zeros(len(one))
    differs = (one.isna() != two.isna()).to_numpy(copy=True)
    if kind == "list<float64>":
        off = np.array([_furthest(x, y) for x, y in zip(one, two, strict=True)])
        differs |= ~(off < TOLERANCE)
    elif kind == "float64" and column not in DECISIONS:
        x, y = one.to_numpy(float), two.to_numpy(float)
        np.abs(np.subtract(x, y, where=both & (x != y), out=off), out=off)
        differs |= ~(off <= _allowed(column, x, y)) & both
    else:
        other = both & (one != two).to_numpy()
        if column in DECISIONS:
            _list_decisions(found, column, a[other], b[other])
        else:
            differs |= other
    if (largest := off.max(initial=0)) > 0:
        found.largest[column] = float(largest)
    found.differences += _lines(column, a[differs], b[differs])


def _furthest(x: np.ndarray, y: np.ndarray) -> float:
    """The largest difference between two lists; infinite where they differ in length.

    Equal infinities, and two entries that are no numbers, are alike.
    """
    if len(x) != len(y):
        return np.inf
    x, y = np.asarray(x, float), np.asarray(y, float)
    alike = (x == y) | (np.isnan(x) & np.isnan(y))
    return float(np.abs(np.subtract(x, y, where=~alike, out=np.zeros(len(x)))).max(initial=0))


def _allowed(column: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Tolerance of each number.

    With log p off by e, p is off by e p; a mean over prompts too. A difference or a ratio of two such, its
    logarithm, one minus it, and means of those over cases are off by at most 2 e (1 + |value|).
    """
    size = np.maximum(np.abs(x), np.abs(y))
    size[~np.isfinite(size)] = 0
    if column in LOGARITHMS:
        return np.full(len(x), TOLERANCE)
    return TOLERANCE * size if "probability" in column else 2 * TOLERANCE * (1 + size)


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
    """Lines that describe differing rows."""
    rows = zip(_keys(a.index), a[column], b[column], strict=True)
    return [f"{where}: {column} is {_text(x)} and {_text(y)}" for where, x, y in rows]


def _text(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"[{', '.join(f'{x:.6g}' for x in value)}]"
    return f"{value:.6g}" if isinstance(value, float) else repr(value)


def _keys(index: pd.Index) -> list[str]:
    """The keys of an index in words."""
    rows = (row if isinstance(row, tuple) else (row,) for row in index)
    return [", ".join(f"{n} {value}" for n, value in zip(index.names, row, strict=True)) for row in rows]
