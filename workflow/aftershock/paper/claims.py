"""The paper's claims about methods, tested on a run: supported, not supported, not testable.

`resources/paper/claims.yaml` has the claims and says what decides each of their parts. Differences between
methods are paired differences over the same cases where COMPARISONS has them; elsewhere, and between
datasets, they come from the intervals of both values, which is too wide for the same cases.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aftershock.datasets.table import title_of
from aftershock.metrics.catalogue import find_metric
from aftershock.metrics.differences import between
from aftershock.paper.reported import Study
from aftershock.tables.report import CLAIMS
from aftershock.text_files import read_yaml
from aftershock.verdicts import ENOUGH_KNOWN, first_seed
from aftershock.words import percent, shown

SUPPORTED, REFUTED, OPEN = "supported", "not supported", "not testable with this run"
WHOLE = "all parts together"


@dataclass(frozen=True)
class Answer:
    """Evidence of a run on one part of a claim."""

    part: str
    verdict: str
    evidence: str
    value: float = np.nan
    low: float = np.nan
    high: float = np.nan
    n: int = 0


def read_claims(path: Path) -> list[Mapping[str, Any]]:
    """The claims of claims.yaml."""
    return read_yaml(path)


def claims(
    summary: pd.DataFrame,
    editors: Mapping[str, Mapping[str, Any]],
    stated: Sequence[Mapping[str, Any]],
    study: Study,
    comparisons: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """CLAIMS of every model in `summary`: a row per part of each claim, and one for the claim as a whole.

    `editors` are the configuration's by label, `stated` the claims; `comparisons` has COMPARISONS rows.
    Values are over all cases of the lowest seed, those of paired differences over all seeds that both have.
    """
    rows = []
    for model, part in summary.groupby("model", sort=False):
        run = _Run.of(str(model), part, editors, study, comparisons)
        for claim in stated:
            answers = [answer for about in claim["parts"] for answer in _ask(run, about)]
            verdict, evidence = _together(answers)
            about = {"model": model, "claim": claim["claim"], "statement": claim["statement"],
                     "source": claim["source"]}  # fmt: skip
            for answer in (Answer(WHOLE, verdict, evidence), *answers):
                rows.append({**about, **vars(answer)})
    return pd.DataFrame(rows, columns=list(CLAIMS.columns)).astype({"n": "int64"})


def decide(low: float, high: float, least: float = -np.inf, most: float = np.inf) -> str:
    """Supported when an interval lies between `least` and `most`, not when it lies wholly beyond one."""
    if least < low and high < most:
        return SUPPORTED
    return REFUTED if high < least or low > most else OPEN


def _together(answers: Sequence[Answer]) -> tuple[str, str]:
    counts = {verdict: sum(a.verdict == verdict for a in answers) for verdict in (SUPPORTED, REFUTED, OPEN)}
    said = ", ".join(f"{n} {verdict}" for verdict, n in counts.items() if n)
    verdict = REFUTED if counts[REFUTED] else OPEN if counts[OPEN] or not answers else SUPPORTED
    return verdict, f"of {len(answers)} parts: {said}"


@dataclass(frozen=True)
class _Difference:
    """A value, another one, and the difference between them with its interval."""

    ours: float
    theirs: float
    value: float
    low: float
    high: float
    n: int
    kind: str = "difference"

    @classmethod
    def of(cls, ours: pd.Series, theirs: pd.Series) -> "_Difference":
        """That of two rows of SUMMARY, from their intervals."""
        sides = [row[figure] for row in (ours, theirs) for figure in ("value", "low", "high")]
        low, high = between(*sides)
        n = int(min(ours["n"], theirs["n"]))
        return cls(ours["value"], theirs["value"], ours["value"] - theirs["value"], low, high, n)

    def answer(self, part: str, name: str, least: float = -np.inf, most: float = np.inf) -> Answer:
        """The answer of a part of a claim, that the difference lies between `least` and `most`."""
        sides = f"{shown(self.ours, name)} against {shown(self.theirs, name)}"
        apart = f"{shown(self.value, name)} {_interval(name, self.low, self.high, self.n)}"
        said = f"{sides}; {self.kind} {apart.replace('%', 'points')}"
        verdict = decide(self.low, self.high, least, most)
        return Answer(part, verdict, said, self.value, self.low, self.high, self.n)


@dataclass(frozen=True)
class _Run:
    """One model's values by (dataset, editor, metric), and the method of each of its editors."""

    model: str
    values: pd.DataFrame
    methods: Mapping[str, Sequence[str]]
    comparisons: pd.DataFrame

    @classmethod
    def of(
        cls,
        model: str,
        summary: pd.DataFrame,
        editors: Mapping[str, Any],
        study: Any,
        comparisons: pd.DataFrame,
    ) -> "_Run":
        values = first_seed(summary).set_index(["dataset", "editor", "metric"])
        present = set(summary["editor"])
        methods: dict[str, list[str]] = {}
        for label, editor in editors.items():
            if label in present:
                methods.setdefault(study.method_of(editor), []).append(label)
        pairs = pd.DataFrame(
            columns=["dataset", "metric", "editor", "other", "difference", "low", "high", "n"]
        )
        if comparisons is not None:
            pairs = comparisons[(comparisons["model"] == model) & (comparisons["subset"] == "all")]
        return cls(model, values, methods, pairs)

    def rows(self, metric: str, *places: tuple[str, str]) -> tuple[list[pd.Series], str]:
        """SUMMARY rows of a metric by (dataset, editor), and the reason where they cannot be used."""
        for dataset, editor in places:
            if (dataset, editor, metric) not in self.values.index or not self._row(dataset, editor, metric)[
                "n"
            ]:
                return [], f"{editor} has no value for {title_of(dataset)}"
            known = self.values[self.values.index.get_level_values("metric") == "known"]["value"]
            known = known[known.index.get_level_values("dataset") == dataset]
            if len(known) and known.iloc[0] < ENOUGH_KNOWN:
                share = percent(known.iloc[0])
                return [], f"format check only: {self.model} knows {share} of the {title_of(dataset)} cases"
        return [self._row(*place, metric) for place in places], ""

    def _row(self, dataset: str, editor: str, metric: str) -> pd.Series:
        return self.values.loc[dataset, editor, metric]

    def paired(self, dataset: str, metric: str, editor: str, other: str) -> _Difference | None:
        """The difference over the cases and seeds that both have; None where it was not compared."""
        rows = self.comparisons
        rows = rows[(rows["dataset"] == dataset) & (rows["metric"] == metric) & (rows["n"] > 0)]
        for one, two, sign in ((editor, other, 1), (other, editor, -1)):
            found = rows[(rows["editor"] == one) & (rows["other"] == two)]
            if len(found):
                row = found.iloc[0]
                sides, ends = (row["value"], row["other_value"]), (sign * row["low"], sign * row["high"])
                seeds = f", mean over {row['seeds']} seeds" if row["seeds"] > 1 else ""
                ours, theirs = sides[::sign]
                return _Difference(
                    ours,
                    theirs,
                    sign * row["difference"],
                    min(ends),
                    max(ends),
                    int(row["n"]),
                    f"paired difference{seeds}",
                )
        return None


def _ask(run: _Run, about: Mapping[str, Any]) -> Iterator[Answer]:
    """Yield an answer for every editor, or pair of editors, that a part is about."""
    entry = find_metric(about["metric"])
    title = f"{entry.title if entry else about['metric']} ({title_of(about['dataset'])})"
    for method in about["methods"]:
        labels = run.methods.get(method)
        if not labels:
            yield Answer(f"{title}: {method}", OPEN, f"{method} was not run")
        for editor in labels or ():
            if "within" in about:
                yield _within(run, about, title, editor)
            elif "above" in about or "below" in about:
                yield from _against(run, about, title, editor)
            else:
                yield _between_datasets(run, about, title, editor)


def _within(run: _Run, about: Mapping[str, Any], title: str, editor: str) -> Answer:
    name, margin = about["metric"], about["within"]
    part = f"{title}: {editor} within {shown(margin, name)} of zero"
    found, why = run.rows(name, (about["dataset"], editor))
    if why:
        return Answer(part, OPEN, why)
    value, low, high, n = found[0][["value", "low", "high", "n"]]
    evidence = f"{shown(value, name)} {_interval(name, low, high, n)}"
    return Answer(part, decide(low, high, -margin, margin), evidence, value, low, high, n)


def _against(run: _Run, about: Mapping[str, Any], title: str, editor: str) -> Iterator[Answer]:
    name, dataset = about["metric"], about["dataset"]
    sign = "above" if "above" in about else "below"
    ends = {"least": 0.0} if sign == "above" else {"most": 0.0}
    for method in about[sign]:
        others = run.methods.get(method)
        if not others:
            yield Answer(f"{title}: {editor} {sign} {method}", OPEN, f"{method} was not run")
        for other in others or ():
            part = f"{title}: {editor} {sign} {other}"
            found, why = run.rows(name, (dataset, editor), (dataset, other))
            if why:
                yield Answer(part, OPEN, why)
                continue
            difference = run.paired(dataset, name, editor, other) or _Difference.of(*found)
            yield difference.answer(part, name, **ends)


def _between_datasets(run: _Run, about: Mapping[str, Any], title: str, editor: str) -> Answer:
    above = "above_dataset" in about
    other = about["above_dataset" if above else "not_above_dataset"]
    part = f"{title}: {editor} {'above' if above else 'not above'} {title_of(other)}"
    found, why = run.rows(about["metric"], (about["dataset"], editor), (other, editor))
    if why:
        return Answer(part, OPEN, why)
    ends = {"least": 0.0} if above else {"most": about["margin"]}
    return _Difference.of(*found).answer(part, about["metric"], **ends)


def _interval(name: str, low: float, high: float, n: int) -> str:
    return f"({shown(low, name)} to {shown(high, name)}, n = {n})"
