"""Conversion between the tables of a published file and those of our own datasets.

The published format holds an edit's old object as `object`, our EDITS as `target_true`. Its composite rows
keep the original object in the second edit; no released metric reads the field in which the published
models' files differ.
"""

import json
from collections.abc import Mapping

import pandas as pd

from aftershock.datasets.conflict import ConflictCase, Edit
from aftershock.datasets.graph_facts import Fact
from aftershock.datasets.released import EDIT, ENTITY, RELATION, TRIPLE, Published
from aftershock.datasets.round_edit import RoundCase
from aftershock.datasets.table import CONFLICT, find_dataset
from aftershock.tables.cases import EDITS, PROBES, RELEASED_ROWS, STATEMENTS

TO_EDITS = {
    "row": "case_id",
    "object_id": "target_true_id",
    "object": "target_true",
    "new_object_id": "target_new_id",
    "new_object": "target_new",
}
TO_STATEMENTS = {ours: theirs for theirs, ours in TO_EDITS.items()}
SWAP = {"target_true_id": "target_new_id", "target_new_id": "target_true_id"}
SWAP |= {"target_true": "target_new", "target_new": "target_true"}


# --- from published files -----------------------------------------------------------------------------------
def edits_of(published: Published) -> pd.DataFrame:
    """EDITS rows: e1 and e2 of every row, and as `multi` the true objects of a round row."""
    found = published.statements.rename(columns=TO_EDITS)
    conflict = found[found["part"] == "edits"]
    conflict = conflict.assign(edit=conflict["position"].map({0: "e1", 1: "e2"}), position=0)
    first = found[found["part"] == "edit"].assign(edit="e1", position=0)
    second = first.rename(columns=SWAP).assign(edit="e2")
    multi = found[found["part"] == "true_objects"].drop(columns=["target_new_id", "target_new"])
    multi = multi.rename(columns=SWAP).assign(edit="multi")
    targets = first[["case_id", "target_new_id", "target_new"]].rename(columns=SWAP)
    multi = multi.merge(targets, on="case_id")
    parts = [part[list(EDITS.columns)] for part in (conflict, first, second, multi) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else EDITS.empty()


def tied_of(published: Published) -> pd.DataFrame:
    """The tied facts as PROBES rows."""
    tied = published.statements.query("part == 'triples' and position == 0")
    found = tied.rename(columns={"row": "case_id"}).assign(role="tied", probe_id=0, prompts="all")
    return found[list(PROBES.columns)]


def cases_of(dataset: str, published: Published) -> list[ConflictCase] | list[RoundCase]:
    """The case that each row describes, in the order of the rows."""
    edits = edits_of(published).set_index("case_id")
    ids = ["subject_id", "relation_id", "target_true_id", "target_new_id"]
    first, second = (edits.loc[edits["edit"] == name, ids] for name in ("e1", "e2"))
    pairs = [
        (Edit(*e1), Edit(*e2))
        for e1, e2 in zip(first.to_numpy().tolist(), second.to_numpy().tolist(), strict=True)
    ]
    if dataset not in CONFLICT:
        objects = edits[edits["edit"] == "multi"].groupby(level=0)["target_new_id"].agg(tuple)
        return [
            RoundCase(*e1.old.key, e1.old_id, e1.new_id, known, frozenset())
            for (e1, _), known in zip(pairs, objects, strict=True)
        ]
    if dataset == "coverage":
        return [ConflictCase(e1.relation_id, e1, e2, e1.relation_id, e2.new) for e1, e2 in pairs]
    rules = published.rows["rule"]
    if dataset == "reverse":
        return [
            ConflictCase(rule, e1, e2, e2.relation_id, Fact(e2.new_id, e1.relation_id, e1.new_id))
            for rule, (e1, e2) in zip(rules, pairs, strict=True)
        ]
    tied = tied_of(published)[["subject_id", "relation_id", "object_id"]].to_numpy().tolist()
    return [
        ConflictCase(rule, e1, e2, e2.relation_id, Fact(*e1.old.key, e2.new_id), Fact(*fact))
        for rule, (e1, e2), fact in zip(rules, pairs, tied, strict=True)
    ]


# --- to published files -------------------------------------------------------------------------------------
def publish(
    dataset: str, cases: pd.DataFrame, edits: pd.DataFrame, probes: pd.DataFrame, relations: pd.DataFrame
) -> Published:
    """The rows of CASES as a published file; rows are numbered from 0 in the order of `cases`.

    `relations` has relation_id, label, prompt and query.
    """
    numbers = {case_id: row for row, case_id in enumerate(cases["case_id"])}
    edits = edits[edits["case_id"].isin(numbers)]
    parts = _conflict(dataset, edits, probes) if dataset in CONFLICT else _round(edits)
    found = pd.concat([frame.assign(part=part, position=i) for part, i, frame in parts])
    about = relations.rename(columns={"label": "relation"})[["relation_id", "relation", "prompt", "query"]]
    found = found.drop(columns="prompt").merge(about, on="relation_id", how="left")
    found["row"] = found["row"].map(numbers)
    found = found.reindex(columns=list(STATEMENTS.columns)).sort_values(["row", "part", "position"])
    rows = pd.DataFrame({"row": range(len(cases)), "extra": None})
    if dataset in CONFLICT:
        rows["type"], rows["prerequisites"] = dataset, "[0]" if dataset == "composite" else "[]"
        rows["rule"] = None if dataset == "coverage" else cases["rule"].to_numpy()
        rows["layout"] = json.dumps(_conflict_layout(dataset))
    else:
        sizes = found[found["part"] == "true_objects"].groupby("row").size()
        relation = found[found["part"] == "edit"].set_index("row")["relation_id"]
        rows["type"] = [f"1-{n}@{r}" for n, r in zip(sizes, relation, strict=True)]
        rows["rule"] = rows["prerequisites"] = None
        rows["layout"] = [json.dumps(_round_layout(n)) for n in sizes]
    return Published(rows[list(RELEASED_ROWS.columns)], found.reset_index(drop=True))


def _conflict(dataset: str, edits: pd.DataFrame, probes: pd.DataFrame) -> list[tuple[str, int, pd.DataFrame]]:
    """(part, position, statements) of all cases at once."""
    e1, e2 = (_part(edits, name) for name in ("e1", "e2"))
    old = ["row", "relation_id", "prompt", "subject_id", "subject", "object_id", "object"]
    first, second = e1[old], e2[old]
    if dataset == "coverage":
        triples = [first]
    elif dataset == "reverse":
        names = {
            "subject_id": "object_id",
            "object_id": "subject_id",
            "subject": "object",
            "object": "subject",
        }
        inverse = first.rename(columns=names).assign(relation_id=e2["relation_id"].to_numpy())
        triples = [first, inverse]
    else:
        tied = probes[(probes["role"] == "tied") & probes["case_id"].isin(e1["row"])]
        tied = tied.rename(columns=TO_STATEMENTS).assign(prompt=None)
        triples = [tied[old], first, second]
        target = e1[["new_object_id", "new_object"]].to_numpy()
        e2 = e2.assign(true_object_id=target[:, 0], true_object=target[:, 1])
    return [*(("triples", i, part) for i, part in enumerate(triples)), ("edits", 0, e1), ("edits", 1, e2)]


def _round(edits: pd.DataFrame) -> list[tuple[str, int, pd.DataFrame]]:
    multi = edits[edits["edit"] == "multi"].drop(columns=["target_true_id", "target_true"])
    multi = multi.rename(columns={"case_id": "row", "target_new_id": "object_id", "target_new": "object"})
    return [
        ("edit", 0, _part(edits, "e1")),
        *(("true_objects", i, part) for i, part in multi.groupby("position")),
    ]


def _part(edits: pd.DataFrame, name: str) -> pd.DataFrame:
    part = edits[(edits["edit"] == name) & (edits["position"] == 0)]
    return part.rename(columns=TO_STATEMENTS).sort_values("row")


def _conflict_layout(dataset: str) -> dict:
    """The keys of a row in the order of the published GPT2-XL files."""
    edit = _blank({key: shape for key, shape in EDIT.items() if key != "true_object"})
    row = {
        "triples": [_blank(TRIPLE)] * find_dataset(dataset).triples,
        "prerequisites": [None] if dataset == "composite" else [],
        "type": None,
        "edits": [edit, _blank(EDIT) if dataset == "composite" else edit],
    }
    return row if dataset == "coverage" else {"rule": None, **row}


def _round_layout(n_objects: int) -> dict:
    parts = {"relation": RELATION, **dict.fromkeys(("subject", "new_object", "object"), ENTITY)}
    return {"type": None, "edit": _blank(parts), "true_objects": [_blank(ENTITY)] * n_objects}


def _blank(shape: Mapping) -> dict:
    return {key: _blank(part) if isinstance(part, Mapping) else None for key, part in shape.items()}
