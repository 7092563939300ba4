"""Which facts, rule instances and one-to-many keys can become cases, and why the others cannot.

Labels with braces, quotes or markup pass: they are data. Dropped is what a prompt cannot say or a score
cannot tell apart.
"""

import logging
import unicodedata
from collections import Counter
from collections.abc import Mapping

import pandas as pd

from aftershock.kg.graph import Graph
from aftershock.kg.logic import LogicRule
from aftershock.kg.rules import MEASURES

log = logging.getLogger(__name__)

REDIRECT = "redirect"
MISSING = "missing label"
ID_LIKE = "label equals an id"
NO_LETTER = "label without a letter"
UNREADABLE = "label with control characters, line breaks or spaces around it"
IDENTICAL = "identical subject and object"
SAME_LABEL = "two entities with the same label"
TWIN = "duplicate label among the true objects"

UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # Unicode categories; Cf, which holds direction marks, is fine
KEY = ["subject_id", "relation_id"]
FACT_KEY = [*KEY, "object_id"]


def label_fault(label: str, graph: Graph) -> str | None:
    """Why a label cannot stand in a prompt; None when it can."""
    if graph.is_entity_id(label) or graph.is_relation_id(label):
        return ID_LIKE
    if label != label.strip() or any(unicodedata.category(char) in UNPRINTABLE for char in label):
        return UNREADABLE
    if not any(char.isalpha() for char in label):
        return NO_LETTER
    return None


class Names:
    """Labels of entities, and what is wrong with them."""

    def __init__(self, labels: pd.DataFrame, graph: Graph) -> None:
        """From LABELS rows."""
        self.labels: dict[str, str | None] = {}
        self.faults: dict[str, str] = {}
        for row in labels.itertuples(index=False):
            label = row.label if isinstance(row.label, str) else None
            self.labels[row.entity_id] = label
            fault = MISSING if label is None else label_fault(label, graph)
            fault = REDIRECT if isinstance(row.redirect, str) else fault
            if fault:
                self.faults[row.entity_id] = fault

    def of(self, entity_ids: pd.Series) -> pd.Series:
        """The label of each, None where there is none; ValueError when an entity was not looked up."""
        try:
            labels = [self.labels[entity_id] for entity_id in entity_ids]
        except KeyError as error:
            raise ValueError(
                f"no label was looked up for {error}; delete the labels and run again"
            ) from error
        return pd.Series(labels, index=entity_ids.index, dtype=object)

    def fault(self, *columns: pd.Series) -> pd.Series:
        """Per row the first fault of its entities; None when they have none and differ in their labels."""
        rows = zip(*columns, strict=True)
        return pd.Series([self._fault(row) for row in rows], index=columns[0].index, dtype=object)

    def _fault(self, entity_ids: tuple[str, ...]) -> str | None:
        for entity_id in entity_ids:
            if entity_id in self.faults:
                return self.faults[entity_id]
        different = set(entity_ids)
        return SAME_LABEL if len({self.labels[e] for e in different}) < len(different) else None


def filter_facts(sample: pd.DataFrame, names: Names) -> pd.DataFrame:
    """FACTS rows: every fact of the sample with its labels, whether it is kept, and if not the reason.

    Of objects of one key with the same label, the one with the first id is kept.
    """
    facts = sample.assign(subject=names.of(sample["subject_id"]), object=names.of(sample["object_id"]))
    reason = names.fault(facts["subject_id"], facts["object_id"])
    reason = reason.mask(facts["subject_id"] == facts["object_id"], IDENTICAL)
    return _judged(facts, _mark_twins(facts, reason))


def filter_instances(combinations: pd.DataFrame, facts: pd.DataFrame, names: Names) -> pd.DataFrame:
    """INSTANCES rows: every combination, whether it is kept, and if not the reason.

    `facts` are FACTS rows: an instance falls with any fact that it is made of.
    """
    reason = names.fault(*(combinations[name] for name in ("x_id", "y_id", "z_id")))
    dropped = facts[~facts["kept"]]
    fallen = dict(zip(dropped[FACT_KEY].itertuples(index=False, name=None), dropped["reason"], strict=True))
    for text, rows in combinations.groupby("rule"):
        for subject, relation_id, found in LogicRule.parse(text).facts:
            ids = zip(rows[f"{subject}_id"], rows[f"{found}_id"], strict=True)
            of_fact = pd.Series([fallen.get((s, relation_id, o)) for s, o in ids], rows.index, dtype=object)
            reason = reason.where(reason.notna(), of_fact.reindex(reason.index))
    return _judged(combinations, reason)


def filter_objects(objects: pd.DataFrame, names: Names) -> tuple[pd.DataFrame, Counter]:
    """OBJECTS rows of the keys that keep two objects or more, and how many rows were dropped by reason."""
    objects = objects.reset_index(drop=True)
    reason = names.fault(objects["subject_id"], objects["object_id"])
    reason = _mark_twins(objects.assign(object=names.of(objects["object_id"])), reason)
    kept = objects[reason.isna()]
    several = kept.groupby(KEY)["object_id"].transform("size") >= 2
    dropped = Counter(reason.dropna())
    dropped["the only object left of its key"] = int((~several).sum())
    return kept[several].reset_index(drop=True), +dropped


def summarize(
    rules: pd.DataFrame,
    instances: pd.DataFrame,
    objects: Mapping[str, pd.DataFrame],
    kept: pd.DataFrame,
    names: Names,
) -> pd.DataFrame:
    """One row per kept rule of RULES and per one-to-many relation.

    `instances` are INSTANCES rows; `objects` are all OBJECTS rows by relation, `kept` those that are kept.
    In the result, `instances` of a relation are its keys with two to ten objects, `instances_labelled` those
    whose subject and at least two objects have a label.
    """
    rows = []
    for rule in rules[rules["status"] == "keep"].itertuples(index=False):
        found = instances[instances["rule"] == rule.rule]
        labelled = pd.concat([names.of(found[name]).notna() for name in ("x_id", "y_id", "z_id")], axis=1)
        numbers = len(found), int(labelled.all(axis=1).sum()), int(found["kept"].sum())
        rows.append((rule.rule, *numbers, *(getattr(rule, name) for name in MEASURES)))
    for relation_id, found in objects.items():
        labelled = found[names.of(found["subject_id"]).notna() & names.of(found["object_id"]).notna()]
        numbers = (
            found["subject_id"].nunique(),
            int((labelled.groupby("subject_id").size() >= 2).sum()),
            kept.loc[kept["relation_id"] == relation_id, "subject_id"].nunique(),
        )
        rows.append((f"1-N@{relation_id}", *numbers, *(None for _ in MEASURES)))
    summary = pd.DataFrame(rows, columns=["rule", "instances", "instances_labelled", "kept", *MEASURES])
    return summary.astype({"support": "Int64"})


def _judged(frame: pd.DataFrame, reason: pd.Series) -> pd.DataFrame:
    return frame.assign(kept=reason.isna(), reason=reason.where(reason.notna(), None))


def _mark_twins(facts: pd.DataFrame, reason: pd.Series) -> pd.Series:
    """`reason`, and TWIN for each fact whose key has a usable object of the same label with an earlier id."""
    usable = facts[reason.isna()].sort_values(FACT_KEY)
    twins = usable.index[usable.duplicated([*KEY, "object"])]
    return reason.mask(reason.index.isin(twins), TWIN)
