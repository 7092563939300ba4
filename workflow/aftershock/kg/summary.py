"""Yield of each logic rule and each one-to-many relation of a graph, step by step."""

from collections.abc import Mapping

import pandas as pd

from aftershock.kg.combinations import NOT_SAMPLED
from aftershock.kg.filters import Names
from aftershock.kg.rules import MEASURES

COLUMNS = [
    *("rule", "instances", "instances_labelled", "kept"),
    *MEASURES,
    *("functionality", "inverse_functionality", "sampled"),
]


def summarize(
    rules: pd.DataFrame,
    relations: pd.DataFrame,
    instances: pd.DataFrame,
    objects: Mapping[str, pd.DataFrame],
    kept: pd.DataFrame,
    names: Names,
    left_out: Mapping[str, Mapping[str, int]],
) -> pd.DataFrame:
    """One row per kept rule of RULES and per one-to-many relation.

    `instances` are INSTANCES rows; `objects` are all OBJECTS rows by relation, `kept` those that are kept.
    `left_out` says by rule and by relation what was not taken while mining.

    In the result, `instances` of a relation are its keys with two to ten objects, `instances_labelled` those
    whose subject and at least two objects have a label. `sampled` is how many of the instances were taken;
    `instances_labelled` and `kept` are counted among these. Functionality is that of the rule's head, or of
    the relation.
    """
    rows = []
    for rule in rules[rules["status"] == "keep"].itertuples(index=False):
        found = instances[instances["rule"] == rule.rule]
        labelled = pd.concat([names.of(found[name]).notna() for name in ("x_id", "y_id", "z_id")], axis=1)
        counts = len(found), int(labelled.all(axis=1).sum()), int(found["kept"].sum())
        rows.append((rule.rule, rule.rule, rule.head, counts, [getattr(rule, name) for name in MEASURES]))
    for relation_id, found in objects.items():
        labelled = found[names.of(found["subject_id"]).notna() & names.of(found["object_id"]).notna()]
        counts = (
            found["subject_id"].nunique(),
            int((labelled.groupby("subject_id").size() >= 2).sum()),
            kept.loc[kept["relation_id"] == relation_id, "subject_id"].nunique(),
        )
        rows.append((f"1-N@{relation_id}", relation_id, relation_id, counts, [None for _ in MEASURES]))
    measured = relations.set_index("relation_id")
    table = []
    for name, mined, relation_id, (taken, labelled, usable), measures in rows:
        every = taken + left_out.get(mined, {}).get(NOT_SAMPLED, 0)
        functional = measured.loc[relation_id, ["functionality", "inverse_functionality"]]
        table.append((name, every, labelled, usable, *measures, *functional, taken))
    return pd.DataFrame(table, columns=COLUMNS).astype({"support": "Int64"})
