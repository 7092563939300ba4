"""Overlap between the splits of a graph."""

from collections.abc import Mapping

import pandas as pd

from aftershock.datasets.split import home_of, splits_of
from aftershock.datasets.table import SPLITS

CONTROLS = ("neighbour", "same_subject", "control_same", "control_unrelated", "control_object")


def crossing(instances: pd.DataFrame, split: pd.DataFrame) -> tuple[int, int]:
    """Number of kept INSTANCES that a cut goes through, so that no split has them, and of all kept ones."""
    kept = instances[instances["kept"]]
    return int(home_of(kept, splits_of(split)).isna().sum()), len(kept)


def divided(instances: pd.DataFrame, split: pd.DataFrame) -> list[tuple[str, str, int, int, int]]:
    """(split, how assigned, entities, components, kept instances) of SPLIT rows, in the order of SPLITS."""
    kept = instances[instances["kept"]]
    assigned = dict(zip(split["entity_id"], split["assigned"], strict=True))
    homes = pd.DataFrame({"split": home_of(kept, splits_of(split)), "assigned": kept["x_id"].map(assigned)})
    numbers = homes.groupby(["split", "assigned"]).size()
    return [
        (name, how, len(rows), rows["component"].nunique(), int(numbers.get((name, how), 0)))
        for name in SPLITS
        for how, rows in split[split["split"] == name].groupby("assigned", sort=True)
    ]


def seen_elsewhere(
    cases: pd.DataFrame, edits: pd.DataFrame, probes: pd.DataFrame, splits: Mapping[str, str]
) -> list[tuple[str, int, int, int]]:
    """(what, distinct entities or facts, those of another split, those of none) of the test cases.

    A fact is of its subject's split. What is of no split may be written or asked in each: targets such as
    languages, of which there are too few to divide.
    """
    test = set(cases.loc[cases["split"] == "test", "case_id"])
    edits, probes = edits[edits["case_id"].isin(test)], probes[probes["case_id"].isin(test)]
    written = edits[edits["edit"].isin(["e1", "e2"])]
    own = probes[probes["role"].isin(["e1_true", "tied", "original", "object"])]
    near = probes[probes["role"].isin(CONTROLS)]
    parts = {
        "subjects of edits": {(s,): s for s in written["subject_id"]},
        "false objects written": {(o,): o for o in _false(written)},
        "true facts edited or tied": _facts(own),
        "objects of these": {(o,): o for o in own["object_id"]},
        "facts of neighbours and controls": _facts(near),
    }
    return [
        (
            what,
            len(found),
            sum(splits.get(entity, "test") != "test" for entity in found.values()),
            sum(entity not in splits for entity in found.values()),
        )
        for what, found in parts.items()
        if found
    ]


def _false(written: pd.DataFrame) -> pd.Series:
    """The targets other than the case's own old object: a round case's second edit writes a truth."""
    first = written[written["edit"] == "e1"].set_index("case_id")["target_true_id"]
    return written.loc[written["target_new_id"] != written["case_id"].map(first), "target_new_id"]


def _facts(rows: pd.DataFrame) -> dict[tuple, str]:
    """The subject of each distinct fact."""
    columns = (rows[name] for name in ("subject_id", "relation_id", "object_id"))
    return {fact: fact[0] for fact in zip(*columns, strict=True)}
