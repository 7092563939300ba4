"""Drawing of all figures of a run into a folder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from aftershock.figure_names import WHOLE, figure_name
from aftershock.figures.cost import cost, costs
from aftershock.figures.health import health
from aftershock.figures.metrics import bars
from aftershock.figures.objects import objects, sample_cases
from aftershock.figures.shared import Named, draw_shared
from aftershock.figures.sizes import by_size, sizes
from aftershock.figures.style import APART
from aftershock.figures.trajectories import trajectories
from aftershock.metrics.intervals import LEVEL


@dataclass(frozen=True)
class Drawn:
    """Input of the figures of a run; tables are by run, and None where they are not needed."""

    summary: pd.DataFrame
    runs: Sequence[Mapping[str, Any]]
    probabilities: Sequence[pd.DataFrame | None]
    """PROBABILITIES of round datasets."""
    scores: Sequence[pd.DataFrame | None]
    """SCORES of round datasets."""
    cases: Sequence[pd.DataFrame | None]
    """CASES of round datasets."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels of relations by id."""
    timings: Sequence[Mapping[str, Any]] = ()
    kg: str = ""
    examples: int = 3
    """Round cases of each dataset that are drawn object by object, one if there are many methods."""
    seed: int = 0
    level: float = LEVEL
    """Level of intervals."""
    health: pd.DataFrame | None = None
    """HEALTH_SUMMARY."""


def draw_all(folder: Path, drawn: Drawn, others: Sequence[Named] = (), processes: int = 1) -> None:
    """Write every figure of a run, and `others`, to `folder`, as SVG, PDF and PNG."""
    draw_shared(folder, [*figures_of(drawn), *others], processes)


def figures_of(drawn: Drawn) -> list[Named]:
    """Return every figure of a run, by name, still to be drawn."""
    editors = list(dict.fromkeys(run["editor"] for run in drawn.runs))
    filled = drawn.summary[drawn.summary["n"] > 0]
    filled = set(zip(filled["model"], filled["dataset"], strict=True))
    found: list[Named] = []
    for model, dataset in dict.fromkeys((run["model"], run["dataset"]) for run in drawn.runs):
        mine = [run["editor"] for run in drawn.runs if (run["model"], run["dataset"]) == (model, dataset)]
        mine = list(dict.fromkeys(mine))
        figures: dict[str, Callable[[], Figure | None]] = {}
        if (model, dataset) in filled:
            figures["metrics"] = partial(bars, drawn.summary, model, dataset, mine, editors)
            figures["trajectories"] = partial(trajectories, drawn.summary, model, dataset, mine)
            figures["sizes"] = partial(_sizes, drawn, model, dataset, editors)
        figures["objects"] = partial(_objects, drawn, model, dataset, editors)
        found += [(figure_name(model, dataset, kind), figure) for kind, figure in figures.items()]
    spent = costs(drawn.summary, drawn.runs, drawn.timings, drawn.kg)
    for model in dict.fromkeys(run["model"] for run in drawn.runs):
        found.append((figure_name(model, WHOLE, "cost"), partial(cost, spent, model, editors)))
        if drawn.health is not None:
            figure = partial(health, drawn.health, model, editors)
            found.append((figure_name(model, WHOLE, "health"), figure))
    return found


def _sizes(drawn: Drawn, model: str, dataset: str, editors: Sequence[str]) -> Figure | None:
    tables = _of(drawn, drawn.scores, drawn.cases, model=model, dataset=dataset)
    by_editor = {
        editor: by_size(scores, cases, drawn.seed, drawn.level) for editor, (scores, cases) in tables.items()
    }
    return sizes(by_editor, model, dataset, editors)


def _objects(drawn: Drawn, model: str, dataset: str, editors: Sequence[str]) -> Figure | None:
    found = _of(drawn, drawn.probabilities, model=model, dataset=dataset)
    complete = {editor: table for editor, (table,) in found.items() if (table["state"] == "2").any()}
    examples = min(drawn.examples, 1 if len(complete) > APART else drawn.examples)
    cases = sample_cases(complete, examples, drawn.seed)
    return objects(complete, cases, drawn.labels, editors) if cases else None


def _of(
    drawn: Drawn, *tables: Sequence[pd.DataFrame | None], model: str, dataset: str
) -> dict[str, tuple[pd.DataFrame, ...]]:
    """The tables of one model and dataset by editor, for the lowest seed, of runs that have them all."""
    first = min((run["seed"] for run in drawn.runs), default=0)
    return {
        run["editor"]: given
        for run, *given in zip(drawn.runs, *tables, strict=True)
        if (run["model"], run["dataset"], run["seed"]) == (model, dataset, first)
        and all(table is not None and len(table) for table in given)
    }
