"""The tables of a run about sequences of edits: abilities, curves, collapses, reported results and claims."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from aftershock.metrics.abilities.abilities import abilities
from aftershock.metrics.abilities.collapse import collapses
from aftershock.metrics.abilities.curves import curves
from aftershock.metrics.abilities.judged import judged_answers
from aftershock.metrics.abilities.settings import Collapse, TaskInfo
from aftershock.metrics.abilities.switches import switches
from aftershock.metrics.ranking.samples import SequenceRuns
from aftershock.metrics.settings import Statistics
from aftershock.paper.ability_claims import ability_claims
from aftershock.paper.reported_abilities import Sequences, read_studies, reported_abilities
from aftershock.tables import Table
from aftershock.tables.abilities import (
    ABILITIES,
    ABILITY_CLAIMS,
    AMONG_SCORES,
    COLLAPSES,
    CURVES,
    ITEM_ANSWERS,
    ITEM_SCORES,
    JUDGED_ANSWERS,
    REPORTED_ABILITIES,
    SEQUENCE_HEALTH,
    SEQUENCE_SCORES,
    SWITCHES,
)
from aftershock.tables.sequences import TASK_VERDICTS
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
    sequences: SequenceRuns,
    about: Mapping[str, Any],
    files: Mapping[str, Sequence[str]],
    folder: Path,
    limits: Collapse,
    settings: Statistics,
) -> dict[str, tuple[Table, pd.DataFrame]]:
    """Return tables by file name, each with its schema; none for a run without sequences.

    `about` has the fields of Sequences, by plan the datasets of `cases` among its edits and the task of each
    file of verdicts (`judged`), and the `switches` to look at. `files` has the cases and verdicts of each
    run; `folder` is resources/paper.
    """
    if not sequences.runs:
        return {}
    run = Sequences(about["hubs"], about["editors"], about["plans"], sequences.tasks)
    planned = {name: plan["checkpoints"] for name, plan in about["plans"].items()}
    found = sequences.abilities
    lost = collapses(found, sequences.runs, sequences.health, planned, sequences.tasks, limits)
    among = _cases(about, files["cases"])
    along = curves(sequences.runs, sequences.edits, sequences.health, among, settings)
    wanted = about["switches"]
    stated = read_yaml(folder / "ability_claims.yaml")
    return {
        "abilities": (ABILITIES, found),
        "collapses": (COLLAPSES, lost),
        "curves": (CURVES, along),
        **({"switches": (SWITCHES, switches(lost, found, wanted))} if wanted else {}),
        **_judged(sequences, about["judged"], files["verdicts"], settings),
        "reported_abilities": (REPORTED_ABILITIES, reported_abilities(found, read_studies(folder), run)),
        "ability_claims": (ABILITY_CLAIMS, ability_claims(found, lost, run, stated)),
    }


def _cases(about: Mapping[str, Any], paths: Sequence[str]) -> list[pd.DataFrame]:
    """Return AMONG_SCORES of each run, from a file for each of its datasets."""
    left = iter(paths)
    found = []
    for run in about["runs"]:
        parts = [AMONG_SCORES.read(next(left)) for _ in about["cases"][run["plan"]]]
        found.append(pd.concat(parts) if parts else AMONG_SCORES.empty())
    return found


def _judged(
    sequences: SequenceRuns, judged: Mapping[str, Sequence[str]], paths: Sequence[str], settings: Statistics
) -> dict[str, tuple[Table, pd.DataFrame]]:
    """Return JUDGED_ANSWERS by file name; nothing where no answer was judged."""
    if not paths:
        return {}
    left, verdicts = iter(paths), []
    for run in sequences.runs:
        parts = [TASK_VERDICTS.read(next(left)).assign(task=task) for task in judged[run["plan"]]]
        verdicts.append(pd.concat(parts) if parts else TASK_VERDICTS.empty().assign(task=""))
    given = sequences.answers, sequences.scores, sequences.tasks
    return {"judged_answers": (JUDGED_ANSWERS, judged_answers(sequences.runs, verdicts, *given, settings))}
