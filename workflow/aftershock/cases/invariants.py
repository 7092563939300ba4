"""What must hold in every row of a dataset, and the oddities that published rows show."""

import re
from collections.abc import Callable

import pandas as pd

from aftershock.cases import CONFLICT
from aftershock.cases.graph_facts import FactIndex

ID_LABEL = re.compile(r"^[A-Z]\d+$")
Mask = pd.Series


def violations(dataset: str, edits: pd.DataFrame, probes: pd.DataFrame, index: FactIndex) -> pd.DataFrame:
    """One row (case_id, kind) for each rule of `dataset` that a case breaks; none for our own builds.

    `edits` are EDITS rows, `probes` PROBES rows, `index` knows the true facts and labels of the graph.
    """
    wide = _wide(edits)
    checks = _conflict_checks(dataset, wide, probes) if dataset in CONFLICT else _round_checks(wide, edits)
    checks |= _common_checks(wide, edits, index)
    found = [(case_id, kind) for kind, mask in checks.items() for case_id in mask.index[mask.to_numpy()]]
    return pd.DataFrame(sorted(found), columns=["case_id", "kind"])


def require(dataset: str, edits: pd.DataFrame, probes: pd.DataFrame, index: FactIndex) -> None:
    """Raise ValueError when a built case breaks an invariant: that would be a fault of the builder."""
    found = violations(dataset, edits, probes, index)
    if len(found):
        counts = ", ".join(f"{kind}: {n}" for kind, n in found["kind"].value_counts().items())
        raise ValueError(f"dataset {dataset} breaks its invariants ({counts}); first case {found.case_id[0]}")


def _wide(edits: pd.DataFrame) -> pd.DataFrame:
    """One row per case, columns such as e1_subject_id, from the first request of each edit."""
    first = edits[edits["position"] == 0]
    wide = first.pivot(index="case_id", columns="edit")
    wide.columns = [f"{edit}_{column}" for column, edit in wide.columns]
    return wide


def _conflict_checks(dataset: str, wide: pd.DataFrame, probes: pd.DataFrame) -> dict[str, Mask]:
    e1, e2 = _part(wide, "e1"), _part(wide, "e2")
    checks = {"no-op second edit": e2.target_new_id == e2.target_true_id}
    if dataset == "coverage":
        return checks | {
            "second edit has another subject or relation": (e1.subject_id != e2.subject_id)
            | (e1.relation_id != e2.relation_id),
            "second edit does not start from the first one's target": e2.target_true_id != e1.target_new_id,
            "second edit restores the original object": e2.target_new_id == e1.target_true_id,
        }
    if dataset == "reverse":
        return checks | {
            "second edit's subject is not the first one's target": e2.subject_id != e1.target_new_id,
            "second edit's old object is not the first one's subject": e2.target_true_id != e1.subject_id,
            "second target is the first edit's subject or target": (e2.target_new_id == e1.subject_id)
            | (e2.target_new_id == e1.target_new_id),
        }
    tied = probes[probes["role"] == "tied"].set_index("case_id").reindex(wide.index)
    return checks | {
        "tied fact is not (second subject, r, first subject)": (tied["subject_id"] != e2.subject_id)
        | (tied["object_id"] != e1.subject_id),
        "edits start from different objects": e1.target_true_id != e2.target_true_id,
        "second target is the first edit's old or new object": (e2.target_new_id == e1.target_true_id)
        | (e2.target_new_id == e1.target_new_id),
    }


def _round_checks(wide: pd.DataFrame, edits: pd.DataFrame) -> dict[str, Mask]:
    e1, e2 = _part(wide, "e1"), _part(wide, "e2")
    multi = edits[edits["edit"] == "multi"].groupby("case_id")
    ids = multi["target_new_id"].agg(set).reindex(wide.index)
    labels = multi["target_new"].agg(lambda values: [v.casefold() for v in values]).reindex(wide.index)
    return {
        "second edit does not undo the first": (e1.target_true_id != e2.target_new_id)
        | (e1.target_new_id != e2.target_true_id),
        "original is not among the true objects": _each(lambda o, s: o not in s, e1.target_true_id, ids),
        "target is among the true objects": _each(lambda o, s: o in s, e1.target_new_id, ids)
        | _each(lambda o, s: o.casefold() in s, e1.target_new, labels),
        "fewer than 2 or more than 10 true objects": ids.map(lambda s: not 2 <= len(s) <= 10),
        "duplicate labels among the true objects": labels.map(lambda s: len(set(s)) < len(s)),
    }


def _common_checks(wide: pd.DataFrame, edits: pd.DataFrame, index: FactIndex) -> dict[str, Mask]:
    e1 = _part(wide, "e1")
    mine = edits[edits["edit"].isin(["e1", "e2"])]
    texts = mine[["subject", "target_new", "target_true"]]
    true = [
        row.target_new_id in index.objects.get((row.subject_id, row.relation_id), ())
        for row in mine.itertuples(index=False)
    ]
    round_back = (mine["edit"] == "e2") & mine["case_id"].isin(edits.loc[edits["edit"] == "multi", "case_id"])
    return {
        "no-op first edit": e1.target_new_id == e1.target_true_id,
        "new object is the subject": _any(mine, mine["target_new_id"] == mine["subject_id"], wide),
        "target is another true object": _any(mine, pd.Series(true, mine.index) & ~round_back, wide),
        "label without a letter": _any(mine, ~texts.map(has_letter).all(axis=1), wide),
        "label is an id": _any(mine, texts.map(lambda text: bool(ID_LABEL.match(text))).any(axis=1), wide),
    }


def has_letter(text: str) -> bool:
    """Whether `text` holds a letter of any script."""
    return any(character.isalpha() for character in text)


def _part(wide: pd.DataFrame, edit: str) -> pd.DataFrame:
    prefix = f"{edit}_"
    part = wide[[column for column in wide.columns if column.startswith(prefix)]]
    return part.rename(columns=lambda column: column.removeprefix(prefix))


def _each(test: Callable, left: pd.Series, right: pd.Series) -> Mask:
    return pd.Series([test(a, b) for a, b in zip(left, right, strict=True)], index=left.index, dtype=bool)


def _any(rows: pd.DataFrame, mask: pd.Series, wide: pd.DataFrame) -> Mask:
    return wide.index.to_series().isin(rows.loc[mask, "case_id"])
