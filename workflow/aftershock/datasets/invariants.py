"""Invariants of every row of a dataset, our own or a published one.

Our own builds are stopped by `require`; `validate` counts the same breaches, and more oddities of labels, in
files of the published format.
"""

import unicodedata
from collections.abc import Callable
from typing import TypeAlias

import pandas as pd

from aftershock.datasets.graph_facts import FactIndex, rows_of
from aftershock.datasets.table import CONFLICT
from aftershock.kg.graph import graphs_of
from aftershock.matching import normal

LONG = 60  # characters
FALSE_ROLES = ("old", "new_exp", "new_imp", "neighbour_new", "target")  # of probes
Mask: TypeAlias = pd.Series


def violations(dataset: str, edits: pd.DataFrame, probes: pd.DataFrame, index: FactIndex) -> pd.DataFrame:
    """Breaches of the rules of `dataset`, a row (case_id, kind) each; none for our own builds.

    `edits` are EDITS rows, `probes` PROBES rows, `index` knows the true facts of the graph.
    """
    mentions = [
        edits[["case_id", f"{name}_id", name]].set_axis(["case_id", "entity_id", "label"], axis=1)
        for name in ("subject", "target_new", "target_true")
    ]
    found = [breaches(dataset, edits, probes, index), label_faults(pd.concat(mentions))]
    return (
        pd.concat([part[["case_id", "kind"]] for part in found])
        .drop_duplicates()
        .sort_values(["case_id", "kind"], ignore_index=True)
    )


def require(dataset: str, edits: pd.DataFrame, probes: pd.DataFrame, index: FactIndex) -> None:
    """Raise ValueError when a built case breaks an invariant: that would be a fault of the builder.

    Tables without a case break none.
    """
    found = violations(dataset, edits, probes, index)
    if len(found):
        counts = ", ".join(f"{kind}: {n}" for kind, n in found["kind"].value_counts().items())
        raise ValueError(f"dataset {dataset} breaks its invariants ({counts}); first case {found.case_id[0]}")


def breaches(dataset: str, edits: pd.DataFrame, probes: pd.DataFrame, index: FactIndex) -> pd.DataFrame:
    """Contradictions between edits, tied fact and true facts, a row (case_id, kind) each."""
    if edits.empty:
        return pd.DataFrame(columns=["case_id", "kind"])
    wide = _wide(edits)
    checks = _conflict_checks(dataset, wide, probes) if dataset in CONFLICT else _round_checks(wide, edits)
    checks |= _common_checks(dataset, wide, index)
    checks["a fact that has to be false is true"] = _false_probes(probes, index)
    found = [(case_id, kind) for kind, mask in checks.items() for case_id in mask.index[mask.to_numpy()]]
    return pd.DataFrame(found, columns=["case_id", "kind"])


def label_faults(mentions: pd.DataFrame) -> pd.DataFrame:
    """The rows of `mentions` (case_id, entity_id, label) whose label no case should have, with a `kind`."""
    found = _labels(
        mentions,
        {
            "empty label": lambda text: not text.strip(),
            "label without a letter": lambda text: bool(text.strip()) and not has_letter(text),
        },
    )
    pairs = list(zip(mentions["entity_id"], mentions["label"], strict=True))
    ids = {pair for pair in set(pairs) if _is_id(*pair)}
    named = mentions[pd.Series([pair in ids for pair in pairs], index=mentions.index, dtype=bool)]
    return pd.concat([found, named.assign(kind="label is an id")], ignore_index=True)


def _is_id(entity_id: str, label: str) -> bool:
    """True where an entity's label has the form of an id of its own graph: V2 is a rocket, Q2 is none."""
    return any(graph.is_id(label) for graph in graphs_of(str(entity_id)))


def label_oddities(mentions: pd.DataFrame) -> pd.DataFrame:
    """The rows of `mentions` with labels that a model or a program may mishandle, with a `kind`."""
    return _labels(
        mentions,
        {
            "label begins or ends with a space": lambda text: bool(text.strip()) and text != text.strip(),
            "label holds braces": lambda text: "{" in text or "}" in text,
            "label is not in Unicode's composed form (NFC)": lambda text: (
                not unicodedata.is_normalized("NFC", text)
            ),
        },
    )


def label_remarks(mentions: pd.DataFrame) -> pd.DataFrame:
    """The rows of `mentions` with labels that are correct but unusual, with a `kind`."""
    return _labels(
        mentions,
        {
            f"label of more than {LONG} characters": lambda text: len(text) > LONG,
            "label beyond ASCII": lambda text: not text.isascii(),
            "label with letters that are not Latin": has_other_script,
        },
    )


def has_letter(text: str) -> bool:
    """True if `text` holds a letter of any script."""
    return any(character.isalpha() for character in text)


def has_other_script(text: str) -> bool:
    """True if `text` holds a letter of a script other than Latin."""
    letters = (c for c in text if not c.isascii() and unicodedata.category(c) in ("Ll", "Lu", "Lo"))
    return any("LATIN" not in unicodedata.name(c, "LATIN") for c in letters)


def _labels(mentions: pd.DataFrame, tests: dict[str, Callable[[str], bool]]) -> pd.DataFrame:
    texts = pd.Series(mentions["label"].unique(), dtype=object)
    found = []
    for kind, test in tests.items():
        bad = texts[[test(text) for text in texts]]
        found.append(mentions[mentions["label"].isin(bad)].assign(kind=kind))
    return pd.concat(found, ignore_index=True)


def _wide(edits: pd.DataFrame) -> pd.DataFrame:
    """The first request of each edit in one row per case, with columns such as e1_subject_id."""
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
    labels = multi["target_new"].agg(lambda values: list(map(normal, values))).reindex(wide.index)
    return {
        "second edit does not undo the first": (e1.target_true_id != e2.target_new_id)
        | (e1.target_new_id != e2.target_true_id),
        "original is not among the true objects": _each(lambda o, s: o not in s, e1.target_true_id, ids),
        "target is among the true objects": _each(lambda o, s: o in s, e1.target_new_id, ids)
        | _each(lambda o, s: normal(o) in s, e1.target_new, labels),
        "fewer than 2 or more than 10 true objects": ids.map(lambda s: not 2 <= len(s) <= 10),
        "duplicate labels among the true objects": labels.map(lambda s: len(set(s)) < len(s)),
    }


def _common_checks(dataset: str, wide: pd.DataFrame, index: FactIndex) -> dict[str, Mask]:
    e1, e2 = _part(wide, "e1"), _part(wide, "e2")
    checks = {
        "no-op first edit": e1.target_new_id == e1.target_true_id,
        "new object is the subject": (e1.target_new_id == e1.subject_id)
        | (e2.target_new_id == e2.subject_id),
        "first edit's target is a true object": _true(e1, index),
    }
    if dataset in CONFLICT:  # the second edit of a round case restores one
        checks["second edit's target is a true object"] = _true(e2, index)
    return checks


def _true(part: pd.DataFrame, index: FactIndex) -> Mask:
    keys = zip(part["subject_id"], part["relation_id"], strict=True)
    true = [target in index.true_of(*key) for key, target in zip(keys, part["target_new_id"], strict=True)]
    return pd.Series(true, index=part.index, dtype=bool)


def _false_probes(probes: pd.DataFrame, index: FactIndex) -> Mask:
    """By case: True if a probe of a false fact asks for what is true."""
    rows = probes[probes["role"].isin(FALSE_ROLES)]
    facts = rows_of(rows, ["subject_id", "relation_id", "object_id"])
    found = pd.Series([o in index.true_of(s, r) for s, r, o in facts], rows["case_id"], dtype=bool)
    return found.groupby(level=0).any()


def _part(wide: pd.DataFrame, edit: str) -> pd.DataFrame:
    prefix = f"{edit}_"
    part = wide[[column for column in wide.columns if column.startswith(prefix)]]
    return part.rename(columns=lambda column: column.removeprefix(prefix))


def _each(test: Callable, left: pd.Series, right: pd.Series) -> Mask:
    return pd.Series([test(a, b) for a, b in zip(left, right, strict=True)], index=left.index, dtype=bool)
