"""The tables of a run about sequences of edits: abilities, curves, collapses, reported results and claims."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from aftershock.metrics.abilities.abilities import abilities
from aftershock.metrics.abilities.collapse import collapses
from aftershock.metrics.abilities.curves import curves
from aftershock.metrics.abilities.settings import Collapse, TaskInfo
from aftershock.metrics.ranking.samples import SequenceRuns
from aftershock.metrics.settings import Statistics
from aftershock.paper.ability_claims import ability_claims
from aftershock.paper.reported_abilities import Sequences, read_studies, reported_abilities
from aftershock.tables import Table
from aftershock.tables.abilities import (
    ABILITIES,
    ABILITY_CLAIMS,
    COLLAPSES,
    CURVES,
    ITEM_ANSWERS,
    ITEM_SCORES,
    REPORTED_ABILITIES,
    SEQUENCE_HEALTH,
    SEQUENCE_SCORES,
)
from aftershock.text_files import read_yaml


def read_sequences(
    about: Mapping[str, Any], files: Mapping[str, Sequence[str]], settings: Statistics
) -> SequenceRuns:
    """Return the sequences of a run with their abilities.

    `about` has `runs` and `tasks`, `files` the answers, scores, edits and health of each run.
    """
    runs, tasks = about["runs"], [TaskInfo.of(task) for task in about["tasks"]]
    answers = [ITEM_ANSWERS.read(path) for path in files["answers"]]
    scores = [ITEM_SCORES.read(path) for path in files["scores"]]
    return SequenceRuns(
        runs,
        edits=[SEQUENCE_SCORES.read(path) for path in files["edits"]],
        health=[SEQUENCE_HEALTH.read(path) for path in files["health"]],
        answers=answers,
        scores=scores,
        tasks=tasks,
        abilities=abilities(runs if answers else [], answers, scores, tasks, settings),
    )


def ability_tables(
    sequences: SequenceRuns, about: Mapping[str, Any], folder: Path, limits: Collapse, settings: Statistics
) -> dict[str, tuple[Table, pd.DataFrame]]:
    """Return tables by file name, each with its schema; none for a run without sequences.

    `about` has the fields of Sequences; `folder` is resources/paper.
    """
    if not sequences.runs:
        return {}
    run = Sequences(about["hubs"], about["editors"], about["plans"], sequences.tasks)
    planned = {name: plan["checkpoints"] for name, plan in about["plans"].items()}
    kinds = {task.name: task.kind for task in sequences.tasks}
    found = sequences.abilities
    lost = collapses(found, sequences.runs, sequences.health, planned, kinds, limits)
    along = curves(sequences.runs, sequences.edits, sequences.health, settings=settings)
    stated = read_yaml(folder / "ability_claims.yaml")
    return {
        "abilities": (ABILITIES, found),
        "collapses": (COLLAPSES, lost),
        "curves": (CURVES, along),
        "reported_abilities": (REPORTED_ABILITIES, reported_abilities(found, read_studies(folder), run)),
        "ability_claims": (ABILITY_CLAIMS, ability_claims(found, lost, run, stated)),
    }
