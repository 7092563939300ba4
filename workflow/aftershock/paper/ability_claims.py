"""Claims of studies of general abilities, tested on a run: supported, not supported, not testable.

`resources/paper/ability_claims.yaml` has the claims, each with its estimand and one of the questions in
ASKED. A question gives an answer for every method, or pair of models; a claim about most methods counts them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from aftershock.metrics.abilities.collapse import NONE, TOGETHER, UNMEASURED, together
from aftershock.metrics.abilities.settings import ALL, PERPLEXITY, asked_twice
from aftershock.metrics.differences import between
from aftershock.paper.claims import OPEN, REFUTED, SUPPORTED, WHOLE, Answer, decide
from aftershock.paper.reported_abilities import Sequences, plain
from aftershock.tables.abilities import ABILITY_CLAIMS

Place = tuple[str, str, str]
"""Model, plan and editor."""


@dataclass(frozen=True)
class Evidence:
    """A run's measurements of abilities: ABILITIES of headline metrics over all orders, and COLLAPSES."""

    rows: pd.DataFrame
    collapses: pd.DataFrame
    run: Sequences

    @property
    def places(self) -> list[Place]:
        """Every model, plan and editor."""
        keys = self.rows[["model", "plan", "editor"]].drop_duplicates()
        return [(str(model), str(plan), str(editor)) for model, plan, editor in keys.itertuples(index=False)]

    def retained(self, place: Place, tasks: Sequence[str]) -> pd.DataFrame:
        """Return the mean of what `tasks` retain, by checkpoint after 0."""
        parts = [
            part.set_index("checkpoint")[["retained", "retained_low", "retained_high"]]
            for _, part in self.at(place).dropna(subset="retained").groupby("task")
            if part["task"].iloc[0] in tasks
        ]
        return together([part.sort_index() for part in parts]).drop(index=0, errors="ignore")

    def at(self, place: Place) -> pd.DataFrame:
        """Return the rows of one place."""
        mask = np.logical_and.reduce(
            [self.rows[name] == value for name, value in zip(("model", "plan", "editor"), place, strict=True)]
        )
        return self.rows[mask & (self.rows["n"] > 0)]

    def lost(self, place: Place) -> pd.DataFrame:
        """Return the COLLAPSES of one place over all orders, by task."""
        keys = dict(zip(("model", "plan", "editor"), place, strict=True)) | {"order": ALL}
        mask = np.logical_and.reduce([self.collapses[name] == value for name, value in keys.items()])
        return self.collapses[mask].set_index("task")

    def tasks(self, safety: bool = False) -> list[str]:
        """Return the tasks, or those of safety, that have a share to retain; a benchmark counts once."""
        able = [task for task in self.run.tasks if task.kind != PERPLEXITY and (task.safety or not safety)]
        aside = asked_twice(able)
        return [task.name for task in able if task.name not in aside]

    def places_of(self, mode: str | None, batched: bool | None) -> list[Place]:
        """Return the places whose plan makes edits in this mode, one by one or many at a time."""
        plans = self.run.plans
        return [
            place
            for place in self.places
            if mode in (None, plans[place[1]]["mode"]) and batched in (None, plans[place[1]]["batch"] != 1)
        ]


def ability_claims(
    abilities: pd.DataFrame, collapses: pd.DataFrame, run: Sequences, stated: Sequence[Mapping[str, Any]]
) -> pd.DataFrame:
    """Return ABILITY_CLAIMS: a row for each claim as a whole, and one for each of its parts."""
    chosen = abilities[abilities["headline"] & (abilities["order"] == ALL)]
    evidence, rows = Evidence(chosen, collapses, run), []
    for claim in stated:
        ((question, given),) = claim["ask"].items()
        ask, conclude = ASKED[question]
        settings = given if isinstance(given, Mapping) else {"pairs": given}
        answers = list(ask(evidence, **{key: value for key, value in settings.items() if key != "methods"}))
        verdict, said = conclude(answers, settings.get("methods", 1))
        about = {key: claim[key] for key in ("claim", "statement", "source", "estimand")}
        for answer in (Answer(WHOLE, verdict, said), *answers):
            rows.append({**about, **vars(answer)})
    return pd.DataFrame(rows, columns=list(ABILITY_CLAIMS.columns)).astype({"n": "int64"})


def most(answers: Sequence[Answer], least: int) -> tuple[str, str]:
    """Return the verdict on most methods: more than half of them, of at least `least`."""
    yes, no = (sum(a.verdict == verdict for a in answers) for verdict in (SUPPORTED, REFUTED))
    said = f"of {len(answers)}: {yes} yes, {no} no, {len(answers) - yes - no} open"
    if len(answers) < least:
        return OPEN, f"{said}; asked of at least {least}"
    if 2 * yes > len(answers):
        return SUPPORTED, said
    return (REFUTED if no and 2 * no >= len(answers) else OPEN), said


def some(answers: Sequence[Answer], least: int) -> tuple[str, str]:
    """Return the verdict on the existence of one: refuted only where every answer is."""
    yes, no = (sum(a.verdict == verdict for a in answers) for verdict in (SUPPORTED, REFUTED))
    said = f"of {len(answers)}: {yes} yes, {no} no, {len(answers) - yes - no} open"
    if yes:
        return SUPPORTED, said
    return (REFUTED if answers and no == len(answers) else OPEN), said


# --- questions --------------------------------------------------------------------------------------------


def most_lost(evidence: Evidence, edits: int, below: float, mode: str) -> Iterator[Answer]:
    """Yield for each method whether its abilities are lost by `edits` edits."""
    for place in evidence.places_of(mode, None):
        name, kept = _name(place), evidence.retained(place, evidence.tasks())
        ended = evidence.lost(place)["ended_at"].dropna()
        reached = kept[kept.index <= edits]
        if len(ended) and ended.iloc[0] <= edits:
            yield Answer(name, SUPPORTED, f"the sequence ended after {ended.iloc[0]} edits")
        elif reached.empty:
            yield Answer(name, OPEN, f"nothing to retain is measured up to {edits} edits")
        else:
            value, low, high = reached.iloc[-1]
            verdict = decide(low, high, most=below)
            if verdict == REFUTED and reached.index[-1] < edits:
                verdict = OPEN
            yield Answer(name, verdict, _share(reached), value, low, high, len(evidence.tasks()))


def most_hurt(
    evidence: Evidence,
    margin: float,
    edits: int | None = None,
    mode: str | None = None,
    batched: bool | None = None,
    safety: bool = False,
) -> Iterator[Answer]:
    """Yield for each method whether less than all is retained, by more than `margin` if it is refuted."""
    for place in evidence.places_of(mode, batched):
        name, kept = _name(place), evidence.retained(place, evidence.tasks(safety))
        reached = kept if edits is None else kept[kept.index <= edits]
        if reached.empty:
            kind = "safety task" if safety else "task"
            yield Answer(name, OPEN, f"no {kind} that the unedited model does better than by accident")
            continue
        value, low, high = reached.iloc[-1]
        verdict = SUPPORTED if high < 1 else REFUTED if low > 1 - margin else OPEN
        yield Answer(name, verdict, _share(reached), value, low, high, 0)


def some_hurt(evidence: Evidence, edits: int, margin: float) -> Iterator[Answer]:
    """Yield for each method and task whether `edits` edits make it worse."""
    rows = evidence.rows[(evidence.rows["checkpoint"] == edits) & (evidence.rows["above_chance"] == True)]  # noqa: E712
    for row in rows[rows["n"] > 0].itertuples():
        low, high = row.difference_low, row.difference_high
        worse = bool(row.significant) and row.difference < 0
        verdict = SUPPORTED if worse else REFUTED if low > -margin else OPEN
        points = [f"{100 * end:+.1f}" for end in (row.difference, low, high)]
        said = f"{points[0]} points ({points[1]} to {points[2]}), corrected p {row.p_adjusted:.3f}"
        part = f"{_name((row.model, row.plan, row.editor))}, {row.task}"
        yield Answer(part, verdict, said, row.difference, low, high, row.n)


def pairs(evidence: Evidence, pairs: Sequence[Sequence[str]]) -> Iterator[Answer]:
    """Yield for each pair of models and each plan and method that both have whether the first retains
    more.
    """
    by_hub = {(hub or "").lower(): model for model, hub in evidence.run.hubs.items()}
    for first, second in pairs:
        ours = [by_hub.get(hub.lower()) for hub in (first, second)]
        if None in ours:
            continue
        shared = [p[1:] for p in evidence.places if p[0] == ours[0] and (ours[1], *p[1:]) in evidence.places]
        for plan, editor in shared:
            name = f"{ours[0]} minus {ours[1]}, {plan}, {editor}"
            tables = [evidence.retained((str(model), plan, editor), evidence.tasks()) for model in ours]
            both = sorted(set(tables[0].index) & set(tables[1].index))
            if not both:
                yield Answer(name, OPEN, "no checkpoint at which both retain something")
                continue
            apart = [between(*tables[0].loc[c], *tables[1].loc[c]) for c in both]
            value = float((tables[0].loc[both, "retained"] - tables[1].loc[both, "retained"]).mean())
            low, high = np.mean(apart, axis=0)
            said = f"{value:+.2f} ({low:+.2f} to {high:+.2f}) over {len(both)} checkpoints"
            yield Answer(name, decide(low, high, least=0.0), said, value, low, high, len(both))


def fall_together(evidence: Evidence, steps: int) -> Iterator[Answer]:
    """Yield for each method that loses a task whether all are lost within `steps` checkpoints."""
    for place in evidence.places:
        found = evidence.lost(place).drop(index=TOGETHER, errors="ignore")
        found = found[(found["kind"] != UNMEASURED) & found.index.isin(evidence.tasks())]
        if len(found) < 2 or (found["kind"] == NONE).all():
            continue
        planned = [c for c in sorted(evidence.run.plans[place[1]]["checkpoints"]) if c]
        ranks = [len(planned) if pd.isna(c) else planned.index(c) for c in found["checkpoint"]]
        points = [f"{task} {'never' if pd.isna(c) else int(c)}" for task, c in found["checkpoint"].items()]
        apart = max(ranks) - min(ranks)
        verdict = SUPPORTED if apart <= steps else REFUTED
        yield Answer(_name(place), verdict, f"lost at {', '.join(points)}", apart, np.nan, np.nan, len(found))


def falls_first(evidence: Evidence, task: str, before: str) -> Iterator[Answer]:
    """Yield for each method whether one benchmark retains less than another at the last checkpoint."""
    ones, others = (
        [t.name for t in evidence.run.tasks if plain(t.benchmark) == plain(name)] for name in (task, before)
    )
    for place, one, other in product(evidence.places, ones, others):
        tables = [evidence.retained(place, [name]) for name in (one, other)]
        both = sorted(set(tables[0].index) & set(tables[1].index))
        if not both:
            continue
        low, high = between(*tables[0].loc[both[-1]], *tables[1].loc[both[-1]])
        value = float(tables[0].loc[both[-1], "retained"] - tables[1].loc[both[-1], "retained"])
        said = f"{value:+.2f} ({low:+.2f} to {high:+.2f}) after {both[-1]} edits"
        verdict = decide(low, high, most=0.0)
        yield Answer(f"{_name(place)}: {one} below {other}", verdict, said, value, low, high, 0)


def _name(place: Place) -> str:
    return ", ".join(place)


def _share(kept: pd.DataFrame) -> str:
    value, low, high = kept.iloc[-1]
    return f"retains {value:.2f} ({low:.2f} to {high:.2f}) after {kept.index[-1]} edits"


Question = Callable[..., Iterator[Answer]]
ASKED: Mapping[str, tuple[Question, Callable[[Sequence[Answer], int], tuple[str, str]]]] = {
    "most_lost": (most_lost, most),
    "most_hurt": (most_hurt, most),
    "some_hurt": (some_hurt, some),
    "pairs": (pairs, most),
    "together": (fall_together, most),
    "first": (falls_first, most),
}
"""Functions that answer a claim's question, and combine the answers."""
