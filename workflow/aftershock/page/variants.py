"""The section of a page about published variants that are other methods than their names say.

A variant stands beside the method of its name, with both values and the case in which the two differ most.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pandas as pd

from aftershock.datasets.table import title_of
from aftershock.metrics.abilities.curves import MEASURES
from aftershock.metrics.abilities.settings import ALL
from aftershock.metrics.catalogue import metric
from aftershock.page.explorer import Outcome, Setting
from aftershock.verdicts import first_seed
from aftershock.words import between, percent, shown

NOISE = 1e-9
"""Differences at or below this are rounding."""


@dataclass(frozen=True)
class Compared:
    """Two methods on the same cases: the one in which they differ most, and by how much.

    `differing` of `cases` have another value of the metric; `largest` is the largest difference of a
    probability, over all probes and states.
    """

    model: str
    seed: int
    case: int
    cases: int
    differing: int
    largest: float


@dataclass(frozen=True)
class Side:
    """One side of a variant: who or what it is, its value and interval as text."""

    name: str
    value: str
    interval: str


@dataclass(frozen=True)
class Variant:
    """A published variant beside what its name says, in one model.

    `note` says in how many cases they differ, `address` is that of a case on the page or of another section,
    with `link` as its text.
    """

    title: str
    differs: str
    model: str
    what: str
    sides: tuple[Side, Side] | None
    note: str
    address: str = ""
    link: str = ""


def compare_runs(setting: Setting, editor: str, of: str, name: str) -> Compared | None:
    """Return a comparison of two editors for the lowest seed that both have; None without one."""
    runs = {(run.run["editor"], run.run["seed"]): run for run in setting.runs}
    seeds = sorted({seed for label, seed in runs if label == editor and (of, seed) in runs})
    if not seeds:
        return None
    ours, theirs = runs[editor, seeds[0]], runs[of, seeds[0]]
    gaps = _gaps(ours, theirs)
    values = [_by_case(run.scores, name) for run in (ours, theirs)]
    both = pd.concat(values, axis=1, keys=("ours", "theirs")).dropna()
    if both.empty or gaps.empty:
        return None
    apart = (both["ours"] - both["theirs"]).abs()
    total = gaps.groupby("case_id")["gap"].sum().reindex(apart.index, fill_value=0.0)
    order = pd.DataFrame({"apart": apart, "total": total}).sort_values(["apart", "total"], kind="stable")
    return Compared(
        setting.model,
        seeds[0],
        int(order.index[-1]),
        len(both),
        int((apart > NOISE).sum()),
        gaps["gap"].max(),
    )


def comparing(
    settings: Iterable[Setting],
    given: Sequence[Mapping[str, Any]],
    found: dict[tuple[str, int], Compared],
) -> Iterator[Setting]:
    """Yield `settings` one by one; put the comparison of each of the variants `given` into `found`, by model
    and place.
    """
    for setting in settings:
        for place, entry in enumerate(given):
            if entry.get("dataset") == setting.dataset:
                compared = compare_runs(setting, entry["editor"], entry["of"], entry["metric"])
                if compared:
                    found[setting.model, place] = compared
        yield setting


def _gaps(ours: Outcome, theirs: Outcome) -> pd.DataFrame:
    """Return case_id and gap: how far apart the probabilities of each probe in each state are."""
    key = ["case_id", "role", "position", "state"]
    both = ours.probabilities[[*key, "probability"]].merge(
        theirs.probabilities[[*key, "probability"]], on=key
    )
    return both.assign(gap=(both["probability_x"] - both["probability_y"]).abs())[["case_id", "gap"]]


def _by_case(scores: pd.DataFrame, name: str) -> pd.Series:
    return scores[scores["metric"] == name].set_index("case_id")["value"].astype(float)


def variants(
    given: Sequence[Mapping[str, Any]],
    summary: pd.DataFrame,
    compared: Mapping[tuple[str, int], Compared],
    curves: pd.DataFrame | None,
    models: Sequence[str],
) -> list[Variant]:
    """Return every variant in every model.

    `given` are those of the configuration (report.variants), with names of editors; `compared` is by model
    and place among them, `curves` has CURVES.
    """
    made: list[Variant] = []
    for model in models:
        for place, entry in enumerate(given):
            if "plan" in entry:
                made += _of_sequence(entry, model, curves)
            else:
                made.append(_of_cases(entry, model, summary, compared.get((model, place))))
    return made


def _of_cases(entry: Mapping[str, Any], model: str, summary: pd.DataFrame, found: Compared | None) -> Variant:
    dataset, name = entry["dataset"], entry["metric"]
    rows = first_seed(summary) if len(summary) else summary
    rows = rows[(rows["model"] == model) & (rows["dataset"] == dataset) & (rows["metric"] == name)]
    ours, theirs = (_side(rows, entry[key], name) for key in ("editor", "of"))
    what = f"{metric(name).title} ({title_of(dataset)})"
    if found is None or ours is None or theirs is None:
        return Variant(entry["title"], entry["differs"], model, what, None, "This run has no value of both.")
    here = [model, dataset, entry["editor"], str(found.seed), str(found.case)]
    note = (
        f"The two differ in this value in {found.differing} of {found.cases} cases; a probability differs by "
        f"{_points(found.largest)}."
    )
    if found.largest <= NOISE:
        note = f"The two are the same in all {found.cases} cases: no probability differs."
    address = f"#case={'/'.join(quote(part, safe='') for part in here)}"
    link = "Open the case in which they differ most" if found.largest > NOISE else "Open a case"
    return Variant(entry["title"], entry["differs"], model, what, (ours, theirs), note, address, link)


def _points(difference: float) -> str:
    """Return how far apart two probabilities are at most."""
    points = 100 * difference
    if points < 0.01:
        return "less than 0.01 points"
    return f"at most {points:.0f} points" if points >= 1.5 else f"at most {points:.2g} points"


def _side(rows: pd.DataFrame, editor: str, name: str) -> Side | None:
    mine = rows[(rows["editor"] == editor) & (rows["n"] > 0)]
    if mine.empty:
        return None
    row = mine.iloc[0]
    return Side(editor, shown(row["value"], name), between(row["low"], row["high"], name))


def _of_sequence(entry: Mapping[str, Any], model: str, curves: pd.DataFrame | None) -> Iterator[Variant]:
    """Yield the variant that is another measure of the same sequence, at its last checkpoint."""
    what = f"{entry['editor']}, sequence {entry['plan']}"
    rows = pd.DataFrame(columns=["measure", "checkpoint"])
    if curves is not None:
        chosen = (curves["model"] == model) & (curves["plan"] == entry["plan"]) & (curves["age"] == ALL)
        rows = curves[chosen & (curves["editor"] == entry["editor"]) & (curves["order"] == ALL)]
    sides: list[Side] = []
    for name in (entry["measure"], entry["of_measure"]):
        mine = rows[rows["measure"] == name]
        if len(mine):
            row = mine.loc[mine["checkpoint"].idxmax()]
            low, high = (f"{100 * row[end]:.0f}" for end in ("low", "high"))
            sides.append(Side(MEASURES[name], percent(row["value"]), f"{low} to {high} %"))
    if len(sides) < 2:
        yield Variant(entry["title"], entry["differs"], model, what, None, "This run has no value of both.")
        return
    last = int(rows["checkpoint"].max())
    note = f"The same {last} edits, asked at two moments."
    yield Variant(
        entry["title"],
        entry["differs"],
        model,
        what,
        (sides[0], sides[1]),
        note,
        "#abilities",
        "See the sequence",
    )
