"""Reported results of studies of general abilities, beside those of a run with the same settings.

`resources/paper/abilities.yaml` says what a run has to share with a study, the files beside it hold the
figures. Of a study's lines those about a benchmark or a model of the run are listed; the values of the run
stand beside one where model, method, mode, batch, number of edits and the task with its protocol match.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from aftershock.metrics.abilities.settings import ALL, TaskInfo
from aftershock.tables.abilities import REPORTED_ABILITIES
from aftershock.text_files import read_text, read_yaml

UNEDITED = "none"
WHOLE_BATCH = "all"


@dataclass(frozen=True)
class Study:
    """One study: its figures, and the settings that a run must share with them."""

    title: str
    source: str
    edits: str
    models: Mapping[str, Sequence[str]]
    methods: Mapping[str, str]
    tasks: Mapping[str, Mapping[str, Any]]
    differs: str
    lines: Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Sequences:
    """Settings of a run that reported figures and claims about abilities depend on."""

    hubs: Mapping[str, str | None]
    """Hub id by model; None for one from elsewhere."""
    editors: Mapping[str, Mapping[str, Any]]
    """The configuration's editors by label."""
    plans: Mapping[str, Mapping[str, Any]]
    """Entries of `sequences` in the configuration."""
    tasks: Sequence[TaskInfo] = ()


def read_studies(folder: Path) -> list[Study]:
    """Return the studies of abilities.yaml in resources/paper."""
    studies = []
    for about in read_yaml(folder / "abilities.yaml").values():
        figures = read_text(folder / about.pop("figures"))
        studies.append(Study(**about, lines=list(csv.DictReader(io.StringIO(figures, newline="")))))
    return studies


def reported_abilities(abilities: pd.DataFrame, studies: Sequence[Study], run: Sequences) -> pd.DataFrame:
    """Return REPORTED_ABILITIES: the lines of each study about a benchmark or a model of the run."""
    rows = [row for study in studies for row in _of_study(study, abilities, run)]
    frame = pd.DataFrame(rows, columns=list(REPORTED_ABILITIES.columns))
    return frame.astype({"batch": "int64", "edits": "int64"})


def _of_study(study: Study, abilities: pd.DataFrame, run: Sequences) -> Iterator[dict[str, Any]]:
    chosen = abilities[abilities["headline"] & (abilities["order"] == ALL) & (abilities["n"] > 0)]
    here = set(chosen["model"])
    models = {name: [m for m in here if _same(run.hubs.get(m), hubs)] for name, hubs in study.models.items()}
    benchmarks = {plain(task.benchmark) for task in run.tasks}
    for line in study.lines:
        ours = models[line["model"]]
        wanted = study.tasks[line["task"]]
        if not ours and plain(wanted["benchmark"]) not in benchmarks:
            continue
        about = {
            "study": study.title, "reported_model": line["model"], "reported_method": line["method"],
            "mode": line["mode"], "batch": line["batch"], "reported_task": wanted["benchmark"],
            "edits": line["edits"], "reported": float(line["value"]), "flag": line["flag"] or None,
            "model": "", "plan": "", "editor": "", "task": "",
        }  # fmt: skip
        found = list(_matches(study, line, ours, chosen, run))
        yield from ({**about, **each} for each in found or [{"note": _refusal(study, line, ours, run)}])


def _matches(
    study: Study, line: Mapping[str, str], models: Sequence[str], rows: pd.DataFrame, run: Sequences
) -> Iterator[dict[str, Any]]:
    """Yield the values of the run that match a line; for an unedited model the first editor's row."""
    tasks = [task.name for task in run.tasks if asked_alike(task, study.tasks[line["task"]])]
    unedited = line["method"] == UNEDITED
    plans = [name for name, plan in run.plans.items() if unedited or _made_alike(plan, line)]
    if not (models and tasks and plans):
        return
    rows = rows[rows["model"].isin(models) & rows["task"].isin(tasks) & rows["plan"].isin(plans)]
    rows = rows[rows["checkpoint"] == int(line["edits"])]
    if not unedited:
        method = study.methods[line["method"]]
        rows = rows[[_is_method(run.editors.get(label, {}), method) for label in rows["editor"]]]
    for row in (rows.drop_duplicates("task") if unedited else rows).itertuples():
        yield {
            "model": row.model, "plan": row.plan, "editor": "" if unedited else row.editor, "task": row.task,
            "value": row.value, "low": row.low, "high": row.high,
            "difference": row.value - float(line["value"]),
            "note": _differences(study, run.plans[row.plan], row.left_out),
        }  # fmt: skip


def asked_alike(task: TaskInfo, wanted: Mapping[str, Any]) -> bool:
    """Return True if a task has a study's protocol: benchmark, kind, examples, and protocol if stated."""
    return (
        plain(task.benchmark) == plain(wanted["benchmark"])
        and (task.kind, task.shots, task.chat) == (wanted["kind"], wanted["shots"], False)
        and wanted.get("metric", task.headline) == task.headline
        and wanted.get("protocol", task.protocol) == task.protocol
    )


def plain(name: str) -> str:
    """Return a benchmark's name normalised for comparison."""
    return "".join(c for c in name.lower() if c.isalnum())


def _same(hub: str | None, hubs: Sequence[str]) -> bool:
    return bool(hub) and hub.lower() in (each.lower() for each in hubs)  # type: ignore[union-attr]


def _made_alike(plan: Mapping[str, Any], line: Mapping[str, str]) -> bool:
    """Return True if a plan makes edits as a line states; a single batch holds all edits."""
    if plan["mode"] != line["mode"]:
        return False
    return plan["batch"] == WHOLE_BATCH if line["mode"] == "single" else plan["batch"] == int(line["batch"])


def _is_method(editor: Mapping[str, Any], method: str) -> bool:
    return editor.get("method") == method and not editor.get("regularisers")


def _refusal(study: Study, line: Mapping[str, str], models: Sequence[str], run: Sequences) -> str:
    """Return the first reason why no value of the run matches a line."""
    if not models:
        return f"no model of this run is {line['model']}"
    if not any(asked_alike(task, study.tasks[line["task"]]) for task in run.tasks):
        return "the task is not asked in this way here"
    method = study.methods.get(line["method"])
    if method and not any(_is_method(editor, method) for editor in run.editors.values()):
        return f"{line['method']} was not run"
    return "no plan of this run makes these edits in this way, or it has no value there"


def _differences(study: Study, plan: Mapping[str, Any], left_out: int) -> str:
    notes = [study.differs]
    source = plan.get("edits", {}).get("source")
    if source != study.edits:
        notes.append(f"edits from {source} here, from {study.edits} there")
    if left_out:
        notes.append(f"{left_out} items about edited facts are left out here")
    return "; ".join(notes)
