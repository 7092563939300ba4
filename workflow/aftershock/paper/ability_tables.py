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


def ability_tables(
    about: Mapping[str, Any],
    files: Mapping[str, Sequence[str]],
    folder: Path,
    limits: Collapse,
    settings: Statistics,
) -> dict[str, tuple[Table, pd.DataFrame]]:
    """Return tables by file name, each with its schema; none for a run without sequences.

    `about` has `runs`, `tasks`, the fields of Sequences, by plan the datasets of `cases` among its edits and
    the task of each file of verdicts (`judged`), and the `switches` to look at. `files` has the answers,
    scores, edits, health, cases and verdicts of each run; `folder` is resources/paper.
    """
    runs = about["runs"]
    if not runs:
        return {}
    tasks = [TaskInfo.of(task) for task in about["tasks"]]
    run = Sequences(about["hubs"], about["editors"], about["plans"], tasks)
    answers = [ITEM_ANSWERS.read(path) for path in files["answers"]]
    scores = [ITEM_SCORES.read(path) for path in files["scores"]]
    health = [SEQUENCE_HEALTH.read(path) for path in files["health"]]
    found = abilities(runs if answers else [], answers, scores, tasks, settings)
    planned = {name: plan["checkpoints"] for name, plan in about["plans"].items()}
    lost = collapses(found, runs, health, planned, {task.name: task.kind for task in tasks}, limits)
    edits = [SEQUENCE_SCORES.read(path) for path in files["edits"]]
    stated = read_yaml(folder / "ability_claims.yaml")
    return {
        "abilities": (ABILITIES, found),
        "collapses": (COLLAPSES, lost),
        "curves": (CURVES, curves(runs, edits, health, _cases(about, files["cases"]), settings)),
        **({"switches": (SWITCHES, switches(lost, found, wanted))} if (wanted := about["switches"]) else {}),
        **_judged(about, files["verdicts"], answers, scores, tasks, settings),
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
    about: Mapping[str, Any],
    paths: Sequence[str],
    answers: Sequence[pd.DataFrame],
    scores: Sequence[pd.DataFrame],
    tasks: Sequence[TaskInfo],
    settings: Statistics,
) -> dict[str, tuple[Table, pd.DataFrame]]:
    """Return JUDGED_ANSWERS by file name; nothing where no answer was judged."""
    left, verdicts = iter(paths), []
    for run in about["runs"]:
        parts = [TASK_VERDICTS.read(next(left)).assign(task=task) for task in about["judged"][run["plan"]]]
        verdicts.append(pd.concat(parts) if parts else TASK_VERDICTS.empty().assign(task=""))
    if not paths:
        return {}
    found = judged_answers(about["runs"], verdicts, answers, scores, tasks, settings)
    return {"judged_answers": (JUDGED_ANSWERS, found)}
