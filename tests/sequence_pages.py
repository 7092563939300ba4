"""Made-up sequences as a page takes them: two or many methods, two orders, hostile texts."""

import io
from collections.abc import Mapping
from functools import cache

import pandas as pd

from aftershock.figure_names import SEQUENCE_KINDS, figure_name
from aftershock.figures.sequences import ability_curves, edit_curves, health_curves
from aftershock.metrics.abilities.abilities import abilities
from aftershock.metrics.abilities.collapse import collapses
from aftershock.metrics.abilities.curves import curves
from aftershock.metrics.abilities.examples import examples
from aftershock.metrics.abilities.settings import Collapse
from aftershock.metrics.settings import Statistics
from aftershock.page.figures import Picture
from aftershock.page.sequences import SequenceResults, over_orders
from aftershock.tables.abilities import ABILITY_CLAIMS, REPORTED_ABILITIES
from simulated_sequences import CHECKPOINTS, MANY, METHODS, TASKS, Sequenced, items_of, scored_of, sequenced

SETTINGS = Statistics(resamples=200, permutations=999)
PLANNED = {"hundred": CHECKPOINTS}
ITEMS = 60


@cache
def simulated(many: bool = False) -> Sequenced:
    """Sequences of two methods, or of many; one of them ends early."""
    return sequenced(MANY if many else METHODS, items=ITEMS, stops={"method 05": 60, "rome": 60})


@cache
def tables(many: bool = False) -> Mapping[str, pd.DataFrame]:
    """The tables of these sequences by file name."""
    made = simulated(many)
    found = abilities(made.runs, made.answers, made.scores, TASKS, SETTINGS)
    return {
        "abilities": found,
        "curves": curves(made.runs, made.sequence_scores, made.health, settings=SETTINGS),
        "collapses": collapses(found, made.runs, made.health, PLANNED, TASKS, Collapse()),
        "reported_abilities": REPORTED_ABILITIES.empty(),
        "ability_claims": ABILITY_CLAIMS.empty(),
    }


@cache
def pictures(many: bool = False) -> tuple[Picture, ...]:
    """Every figure of these sequences."""
    found = tables(many)
    drawn = {
        "abilities": ability_curves(
            found["abilities"], found["reported_abilities"], found["collapses"], "demo", "hundred", TASKS
        ),
        "edits": edit_curves(found["curves"], found["collapses"], "demo", "hundred"),
        "course": health_curves(found["curves"], found["collapses"], "demo", "hundred"),
    }
    made = []
    for kind, figure in drawn.items():
        svg, words = io.BytesIO(), SEQUENCE_KINDS[kind]
        figure.savefig(svg, format="svg")
        name = figure_name("demo", "hundred", kind)
        made.append(Picture(name, f"hundred: {words.title}", words.about, "demo", svg.getvalue()))
    return tuple(made)


def sequence_results(many: bool = False, number: int = 6) -> SequenceResults:
    """Return the sources of the section about sequences."""
    made, drawn = simulated(many), []
    for outputs in made.outputs:
        parts = []
        for task in TASKS:
            items = items_of(task, ITEMS)
            scores = scored_of(task, items, outputs[task.name])
            parts.append(examples(task, items, outputs[task.name], scores, number, 0))
        drawn.append(pd.concat(parts, ignore_index=True))
    return SequenceResults(dict(tables(many)), TASKS, pictures(many), made.runs, drawn)


def page_tables(many: bool = False) -> dict[str, pd.DataFrame]:
    """The tables of the section, as the page takes them."""
    shown = {"abilities", "curves", "collapses"}
    return {name: over_orders(rows) if name in shown else rows for name, rows in tables(many).items()}
