"""Facets for breakdowns: a level of each property in which cases differ.

    rule             the logic rule, or 1-N@ and the relation
    relation         of the first edit
    strict           old and new cannot both hold: yes, no
    n_objects        true objects of a round case
    target_tokens    single when the objects of both edits have one token each, else multi
    equal_tokens     the objects whose probabilities are compared have equally many tokens: yes, no
    e1_success       the first edit made its object likelier: yes, no
    e2_success       so did the second edit: for conflict cases than before any edit
    tied_known       the model says the tied fact before any edit: yes, no (likewise the next three)
    knows_first      the fact that the first edit replaces: of a chain, (y, r1, z)
    knows_head       the fact that the second edit replaces: of a chain, (x, r2, z)
    in_context       (x, r2, z) when its prompt follows the two facts that it is deduced from
    popularity       facts of the graph about the first edit's subject, in thirds of a dataset's cases: low,
                     middle, high

The model says a fact when greedy decoding gives its object after the edit prompt; for the tied fact, when the
object occurs in its continuation.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from aftershock.metrics import formulas
from aftershock.metrics.observed import FIRST, SECOND, UNEDITED, Facts, Readings
from aftershock.tables.runs import FACETS

ANSWERED = {"knows_first": "e1_true", "knows_head": "e2_true", "in_context": "in_context"}


def facets(
    cases: pd.DataFrame, edits: pd.DataFrame, facts: Facts, graph: pd.DataFrame | None = None
) -> pd.DataFrame:
    """FACETS of `cases` with their EDITS; `graph` has the columns subject_id and object_id of FACTS."""
    read = Readings(cases, facts)
    about = cases.set_index("case_id")
    first = edits[edits["edit"] == "e1"].set_index("case_id").reindex(read.cases)
    levels = {
        "rule": about["rule"],
        "relation": first["relation_id"],
        "strict": _yes(about["strict"].astype(float)),
        "n_objects": about["n_objects"].where(about["n_objects"] > 0).astype("Int64").astype("str"),
        "tied_known": _yes(about["tied_known"].astype("Float64").astype(float)),
        **dict(_of_readings(read)),
    }
    if graph is not None:
        levels["popularity"] = _thirds(first["subject_id"].map(_mentions(graph)).astype(float))
    long = pd.DataFrame(levels, index=read.cases).rename_axis(index="case_id", columns="facet")
    long = long.stack().dropna().rename("level").reset_index()
    return long[list(FACETS.columns)].astype({"case_id": "int64", "facet": "str", "level": "str"})


def _of_readings(read: Readings) -> Iterator[tuple[str, pd.Series]]:
    """Facets that follow from what was observed."""
    is_round = "original" in read.roles or "target" in read.roles
    old, new = ("target", "original") if is_round else ("old", "new_exp")
    sizes = [read.one(role, "n_tokens").max(axis=1) for role in (old, new)]
    missing = sizes[0].isna() | sizes[1].isna()
    single = np.where((sizes[0] == 1) & (sizes[1] == 1), "single", "multi")
    yield "target_tokens", pd.Series(single, read.cases, dtype="str").mask(missing)
    yield "equal_tokens", _yes((sizes[0] == sizes[1]).astype(float).mask(missing))
    first, second = read.one(old), read.one(new)
    yield "e1_success", _yes(formulas.exceeds(first[FIRST], first[UNEDITED]))
    yield "e2_success", _yes(formulas.exceeds(second[SECOND], second[FIRST if is_round else UNEDITED]))
    for facet, role in ANSWERED.items():
        yield facet, _yes(read.one(role, "exact")[UNEDITED])


def _yes(flags: pd.Series) -> pd.Series:
    """yes for 1, no for 0, nothing otherwise."""
    return flags.map({1.0: "yes", 0.0: "no"})


def _mentions(graph: pd.DataFrame) -> pd.Series:
    """Number of facts in which each entity occurs."""
    return pd.concat([graph["subject_id"], graph["object_id"]]).value_counts()


def _thirds(counts: pd.Series) -> pd.Series:
    """low, middle or high by terciles, equal counts alike; nothing when all are equal or unknown."""
    low, high = counts.quantile([1 / 3, 2 / 3])
    if not counts.min() < counts.max():
        return pd.Series(np.nan, counts.index, dtype="str")
    level = np.select([counts <= low, counts <= high], ["low", "middle"], "high")
    return pd.Series(level, counts.index, dtype="str").mask(counts.isna())
