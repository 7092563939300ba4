"""Training data of MEND's hypernetwork and SERAC's models: facts of a graph, or edits of a file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from aftershock.datasets.asked import only_taught
from aftershock.datasets.edit_files.reading import read_edits
from aftershock.datasets.graph_facts import FactIndex
from aftershock.datasets.locality import texts_to_learn
from aftershock.datasets.mend import (
    EDIT_COLUMNS,
    LOCAL_COLUMNS,
    SPLITS,
    graph_locality,
    training_edits,
)
from aftershock.datasets.split import splits_of
from aftershock.prompts import fill
from aftershock.seeds import derive
from aftershock.tables.graph import FACTS, INSTANCES, PROMPTS, RULES, SPLIT
from aftershock.tables.models import OBJECT_SCORES, TAUGHT, VERIFIED

SHARES = ("dev", *("train",) * 9)  # each a tenth of the subjects of a file


def training_data(
    given: Any, kind: str, source: Mapping[str, Any] | None, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return EDIT_COLUMNS and LOCAL_COLUMNS of `datasets.mend`, from a job's input files.

    `given` has the file `edits`, whose format and options are `source`, or else facts, rules, taught,
    instances, objects, prompts and split of a graph, of which `kind` names a part; and `locality`, a file of
    texts to leave alone in place of the source's own.
    """
    if source:
        edits, local = edits_of_file(Path(given.edits), source)
    else:
        graph, index, splits = _read_graph(given)
        edits, local = (
            training_edits(kind, *graph, index, splits, seed),
            graph_locality(*graph, index, splits),
        )
    return edits, texts_to_learn(given.locality) if given.locality else local


def edits_of_file(path: Path, source: Mapping[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return edits with their paraphrases, and the texts that each should leave unchanged, from a file.

    All rows of a subject lie in one split, which depends on its name alone. ValueError where a split has no
    edit.
    """
    edits, local = [], []
    for row in read_edits(path, source):
        if edit := row.edit:
            split = SHARES[derive(0, "training edits", edit.subject) % len(SHARES)]
            about = (split, edit.subject, edit.subject, edit.relation or "")
            edits.append((*about, [fill(edit.prompt, edit.subject), *edit.paraphrases], edit.target_new))
            local += [(split, edit.subject, "", *neighbour) for neighbour in edit.neighbours]
    found = pd.DataFrame(edits, columns=EDIT_COLUMNS)
    for split in SPLITS:
        if split not in set(found["split"]):
            raise ValueError(
                f"mend.edits: {path} has too few subjects for split {split!r}; give a longer one"
            )
    return found, pd.DataFrame(local, columns=LOCAL_COLUMNS)


Tables = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]
"""INSTANCES, OBJECT_SCORES and PROMPTS rows."""


def _read_graph(given: Any) -> tuple[Tables, FactIndex, Mapping[str, str]]:
    """Return tables, facts and the split of each entity of a graph."""
    facts = FACTS.read(given.facts)
    if given.taught:
        facts = only_taught(facts, TAUGHT.read(given.taught))
    instances, objects = INSTANCES.read(given.instances), OBJECT_SCORES.read(given.objects)
    index = FactIndex.from_frames(facts, VERIFIED.empty(), RULES.read(given.rules))
    return (instances, objects, PROMPTS.read(given.prompts)), index, splits_of(SPLIT.read(given.split))
