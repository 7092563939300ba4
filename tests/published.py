"""Folders in the published format: one built from the hand-made graph, and the published one where it is."""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from aftershock.datasets.build import Dataset
from aftershock.datasets.export import export
from aftershock.datasets.released import Published, read_cases
from aftershock.datasets.table import DATASETS
from families import PROMPTS_BY_RELATION, SHEET, dataset_of, graph_of

RELEASED = Path(__file__).parents[2] / "shared" / "data" / "released" / "GPT2-XL"
needs_released = pytest.mark.skipif(not RELEASED.is_dir(), reason=f"published files are not at {RELEASED}")


def prompts() -> pd.DataFrame:
    """PROMPTS of the hand-made graph: the edit prompt and ten wordings of ours."""
    rows = [(r, 0, text, "sheet") for r, text in PROMPTS_BY_RELATION.items()]
    wordings = [f"{r}, wording {{}} no. {i}: it is" for r in PROMPTS_BY_RELATION for i in range(1, 11)]
    rows += [(text[:2], 1 + i % 10, text, "ours") for i, text in enumerate(wordings)]
    return pd.DataFrame(rows, columns=["relation_id", "prompt_id", "template", "source"])


@cache
def built(seed: int = 7) -> dict[str, Dataset]:
    """All datasets of the hand-made graph."""
    instances, scores, context = graph_of()
    given = instances, scores, replace(context, seed=seed)
    return {name: dataset_of(name, *given, max_per_first_edit=1) for name in DATASETS}


def exported(folder: Path, split: str = "test", seed: int = 7) -> Path:
    """The folder, with the hand-made graph's cases of one split in it."""
    folder.mkdir(exist_ok=True)
    export(folder, built(seed), split, SHEET, prompts())
    return folder


@cache
def released_cases(dataset: str) -> Published:
    """A dataset of the published folder; not to be changed."""
    return read_cases(RELEASED, dataset)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write(path: Path, data: Any, **style: Any) -> None:
    path.write_text(json.dumps(data, **style), encoding="utf-8")


def entity(id_: str, **more: Any) -> dict:
    return {"id": id_, "label": f"Label {id_}", **more}


def triple(subject: str, relation: str, object_: str, **more: Any) -> dict:
    about = {"id": relation, "prompt": f"{relation} of {{}} is", "query": f"{relation} of {{}}?"}
    about |= {"label": relation}
    return {"relation": about, "subject": entity(subject), "object": entity(object_), **more}


def composite(true_object: bool) -> dict:
    """A composite row as the one or the other published model has it."""
    first = triple("Y", "P2", "Z", new_object=entity("Z2"))
    more: Mapping[str, Any] = {"true_object": entity("Z2")} if true_object else {}
    return {
        "rule": "P1&P2>P3",
        "triples": [triple("X", "P1", "Y"), triple("Y", "P2", "Z"), triple("X", "P3", "Z")],
        "prerequisites": [0],
        "type": "composite",
        "edits": [first, triple("X", "P3", "Z", **more, new_object=entity("Z3"))],
    }


def coverage() -> dict:
    """A coverage row, which has no rule."""
    edits = [triple("S", "P1", "A", new_object=entity("B")), triple("S", "P1", "B", new_object=entity("C"))]
    return {"triples": [triple("S", "P1", "A")], "prerequisites": [], "type": "coverage", "edits": edits}


def several() -> dict:
    """A round row."""
    edit = triple("S", "P9", "O1", new_object=entity("N"))
    return {"type": "1-3@P9", "edit": edit, "true_objects": [entity(f"O{i}") for i in (2, 1, 3)]}
