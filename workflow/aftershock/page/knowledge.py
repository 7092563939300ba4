"""Tables of what a model knew before any edit: facts by relation and by logic rule, and true objects."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from aftershock.datasets.known import CRITERIA, RELATION
from aftershock.page.columns import of_frame

ABOUT = {
    "asked": "Facts that the model was asked about; of a rule, instances whose facts were all asked.",
    "known": "Those that the run counts as known, the only ones that cases are made of.",
    "share": "Known ones of those asked.",
    "continuation": "Facts whose object the greedy continuation of the prompt names.",
    "probability": "Facts whose object is as likely as the run asks for.",
    "rank": "Facts whose object is among the first candidates.",
    "keys": "Pairs of a subject and a relation with several true objects.",
    "usable_keys": "Those with enough known objects for a case.",
    "objects": "True objects in all.",
}


def knowledge(given: Sequence[tuple[str, pd.DataFrame]], labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return a table of facts and one of objects, as far as models were asked.

    `given` has each model with a table of counts, as `datasets.known` makes them: of facts or of
    objects. `labels` are those of relations by id.
    """
    facts = [_named(rows, "name", labels).assign(model=model) for model, rows in given if "of" in rows]
    objects = [
        _named(rows, "relation_id", labels).assign(model=model) for model, rows in given if "keys" in rows
    ]
    made = []
    if facts:
        rows = pd.concat(facts, ignore_index=True)
        rows["share"] = rows["known"] / rows["asked"].where(rows["asked"] > 0)
        shown = rows[["of", "name", "model", "asked", "known", "share", *CRITERIA]]
        caption = (
            "Facts of each relation, and instances of each logic rule, that the model was asked about and "
            "knows: by the criterion of this run (known), and by each of three."
        )
        made.append(
            of_frame("known_facts", shown, "What the model knew", caption, ABOUT, chosen={"of": RELATION})
        )
    if objects:
        rows = pd.concat(objects, ignore_index=True).rename(columns={"relation_id": "relation"})
        shown = rows[["relation", "model", "keys", "usable_keys", "objects", "known"]]
        caption = "Subjects with several true objects by relation, and the objects that the model knows."
        made.append(of_frame("known_objects", shown, "True objects that the model knew", caption, ABOUT))
    return made


def _named(rows: pd.DataFrame, column: str, labels: Mapping[str, str]) -> pd.DataFrame:
    """Return `rows` with the labels of relations in place of their ids; names of rules stay."""
    return rows.assign(**{column: rows[column].astype(str).replace(dict(labels))})
