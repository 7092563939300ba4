"""Figures reported by Li et al. (2024) beside those of a run of the same model on the same file.

`resources/paper/reported.csv` has the figures, `study.yaml` beside it what a run has to share with the study:
the model by its hub id, the published file by its hash, the method. Anything else gets no figure and a
reason. What differs even then is listed for every run.
"""

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aftershock.datasets.released import FILES, PROMPT_FILES, prompt_kind
from aftershock.datasets.table import title_of
from aftershock.metrics.differences import newcombe
from aftershock.metrics.layouts import LAYOUTS
from aftershock.metrics.layouts import RELEASED as DEFINITION
from aftershock.tables.report import REPORTED, REPORTED_NOTES
from aftershock.text_files import parse_json, read_text, read_yaml

RATE = "rate"
EVERY, NOTHING = "all", "no comparison"
FIGURES = ["value", "low", "high", "n"]


@dataclass(frozen=True)
class Study:
    """The reported figures and what a run must share with them (reported.csv, study.yaml)."""

    cells: Sequence[Mapping[str, str]]
    models: Mapping[str, Mapping[str, Any]]
    prompts: Mapping[str, Mapping[str, Any]]
    methods: Mapping[str, Mapping[str, Any]]
    differences: Sequence[Mapping[str, Any]]

    @classmethod
    def read(cls, folder: Path) -> "Study":
        """The study in `folder`, resources/paper of this project."""
        cells = list(csv.DictReader(io.StringIO(read_text(folder / "reported.csv"), newline="")))
        return cls(cells, **read_yaml(folder / "study.yaml"))

    def model_of(self, hub: str | None) -> str | None:
        """Name in the paper's tables of the model with this hub id, or None."""
        for name, about in self.models.items():
            if hub and hub.lower() in (known.lower() for known in about["hub"]):
                return name
        return None

    def method_of(self, editor: Mapping[str, Any]) -> str | None:
        """Name in the paper's tables of an editor of the configuration, or None.

        A number of labels that the second edit writes counts as `some`. A method with regularisers is another
        one.
        """
        if editor.get("regularisers"):
            return None
        given = {"second_edit": "plain", "labels": "all", **editor}
        given["labels"] = "some" if isinstance(given["labels"], int) else given["labels"]
        for name, wanted in self.methods.items():
            if all(given.get(key) == value for key, value in wanted.items()):
                return name
        return None


@dataclass(frozen=True)
class Circumstances:
    """Settings of a run that reported figures depend on."""

    hubs: Mapping[str, str | None]
    """Hub id by model; None for one from elsewhere."""
    editors: Mapping[str, Mapping[str, Any]]
    """The configuration's editors by label."""
    folder: str | None = None
    """Folder of the published files; None for cases that were built."""
    here: Mapping[str, str] = field(default_factory=dict)
    """Descriptions of the run's settings for notes, by `here` of study.yaml."""
    models: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Such descriptions of one model only, by model."""


def is_published(path: Path, expected: Mapping[str, Any]) -> bool:
    """True if a file is the published one: by its hash, or by its number of rows per rule or relation."""
    if not path.is_file():
        return False
    content = path.read_bytes()
    if "sha256" in expected:
        return hashlib.sha256(content).hexdigest() == expected["sha256"]
    try:
        rows = parse_json(content, path)
        found = Counter(row["rule"] if "rule" in row else row["edit"]["relation"]["id"] for row in rows)
    except (ValueError, TypeError, KeyError):
        return False
    return found == Counter(expected["rows"])


def reported(
    summary: pd.DataFrame, runs: Sequence[Mapping[str, Any]], study: Study, about: Circumstances
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """REPORTED and REPORTED_NOTES of `runs`, whose SUMMARY rows over all cases are in `summary`."""
    columns = _columns()
    rows, notes, published = [], [], {}
    of_run = {key: part for key, part in _by_run(summary)}
    for run in runs:
        model, dataset, editor = run["model"], run["dataset"], run["editor"]
        name, method = study.model_of(about.hubs.get(model)), study.method_of(about.editors.get(editor, {}))
        if (model, dataset) not in published:
            published[model, dataset] = _refusal(study, about, name, model, dataset)
        if refusal := published[model, dataset]:
            notes.append((model, *refusal))
            continue
        if method not in {cell["method"] for cell in study.cells}:
            words = f"{editor} is no method of the reported tables"
            notes.append((model, EVERY, editor, NOTHING, "", words))
            continue
        ours = of_run.get((model, dataset, editor, run["seed"]))
        cells = [cell for cell in study.cells if (cell["model"], cell["method"]) == (name, method)]
        compared = [
            _compare(run, cell, columns[cell["setting"], cell["metric"]][1], ours)
            for cell in cells
            if columns[cell["setting"], cell["metric"]][0] == dataset
        ]
        rows += [row for row in compared if row]
        notes += _differences(study, about, run, method, ours)
    table = pd.DataFrame(rows, columns=list(REPORTED.columns)).astype({"n": "int64", "reported_n": "int64"})
    listed = pd.DataFrame(notes, columns=list(REPORTED_NOTES.columns))
    return table, listed.drop_duplicates(list(REPORTED_NOTES.key), ignore_index=True)


def _columns() -> dict[tuple[str, str], tuple[str, str]]:
    """Dataset and metric, as the released code has it, of each setting and metric of the reported tables."""
    return {
        (column.group.lower(), column.header.replace(" ", "_")): (column.dataset, column.metric)
        for name in ("table1", "table2")
        for column in LAYOUTS[name].columns[DEFINITION]
    }


def _by_run(summary: pd.DataFrame) -> Iterator[Any]:
    chosen = summary[summary["subset"] == "all"]
    for key, part in chosen.groupby(["model", "dataset", "editor", "seed"], sort=False):
        yield key, part.set_index("metric")


def _refusal(
    study: Study, about: Circumstances, name: str | None, model: str, dataset: str
) -> tuple[str, ...] | None:
    """Fields of a note on why nothing is compared (dataset, editor, about, reported, here), or None."""
    reported_models = ", ".join(study.models)
    if name is None:
        source = about.hubs.get(model) or "a model of this project"
        return EVERY, EVERY, NOTHING, f"models: {reported_models}", f"{model} is another model ({source})"
    if about.folder is None:
        return EVERY, EVERY, NOTHING, f"the published cases of {name}", "cases built here from a graph"
    kind = prompt_kind(dataset)
    for file, expected in (
        (FILES[dataset], study.models[name]["files"][dataset]),
        (PROMPT_FILES[kind], study.prompts[kind]),
    ):
        if not is_published(Path(about.folder, file), expected):
            words = f"{file} in this run's folder is not that file"
            return dataset, EVERY, NOTHING, f"{file} as published for {name}", words
    return None


def _compare(
    run: Mapping[str, Any], cell: Mapping[str, str], metric: str, ours: pd.DataFrame | None
) -> dict[str, Any] | None:
    """One REPORTED row; the difference of a rate has an interval from both sides' counts."""
    theirs, cases, n = float(cell["value"]) / 100, int(cell["cases"]), int(cell["n"])
    value, low, high, count = np.nan, np.nan, np.nan, 0
    if ours is not None and metric in ours.index:
        value, low, high, count = ours.loc[metric, FIGURES]
    ends = (np.nan, np.nan)
    if cell["kind"] == RATE and count:
        # Success of a round case is the mean of two comparisons, one per edit.
        ends = newcombe(value, count * n / cases, theirs, n)
    return {
        **run,
        "metric": metric,
        "reported": theirs,
        "reported_n": n,
        "value": value,
        "low": low,
        "high": high,
        "n": int(count),
        "difference": value - theirs,
        "difference_low": ends[0],
        "difference_high": ends[1],
        "reported_model": cell["model"],
        "reported_method": cell["method"],
        "source": cell["source"],
        "flag": cell["flag"] or None,
    }


def _differences(
    study: Study, about: Circumstances, run: Mapping[str, Any], method: str, ours: pd.DataFrame | None
) -> list[tuple[str, ...]]:
    """Notes on what does not match although model, file and method do."""
    n = int(ours["n"].max()) if ours is not None and len(ours) else 0
    changed = about.editors.get(run["editor"], {}).get("settings")
    known = {
        **about.here,
        **about.models.get(run["model"], {}),
        "cases": f"{n} {title_of(run['dataset'])} cases",
        "seed": f"seed {run['seed']}",
        "settings": f"changed in this run: {json.dumps(changed)}" if changed else "as in the model's file",
    }
    return [
        (run["model"], run["dataset"], run["editor"], row["about"], row["reported"],
         known.get(row["here"], "not recorded"))
        for row in study.differences
        if method in row.get("methods", [method])
    ]  # fmt: skip
