"""Classification of facts and objects as known to a model, by the configured criterion."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from aftershock.datasets.graph_facts import parse_rule
from aftershock.datasets.table import ROUND
from aftershock.tables.graph import FACT_KEY
from aftershock.tables.models import OBJECT_SCORES, VERIFIED

KEY = ["subject_id", "relation_id"]
CRITERIA = ("continuation", "probability", "rank")
RULE, RELATION = "rule", "relation"
COUNTS = ["of", "name", "asked", *CRITERIA, "known"]


def judge_facts(answers: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DataFrame:
    """VERIFIED rows of FACT_ANSWERS: known by the `criterion` of `cases.verification`."""
    known = _by_criterion(answers, settings)[settings["criterion"]]
    return answers.assign(known=known)[list(VERIFIED.columns)]


def _by_criterion(answers: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DataFrame:
    """True for each known fact, a column per criterion."""
    return pd.DataFrame(
        {
            "continuation": answers["said"],
            "probability": answers["probability"] >= settings["min_probability"],
            "rank": answers["rank"] <= settings["max_rank"],
        }
    )


def judge_objects(answers: pd.DataFrame, limits: Mapping[str, Any]) -> pd.DataFrame:
    """OBJECT_SCORES rows of OBJECT_ANSWERS: known within all `limits`; a limit of null does not count."""
    true = answers.groupby(KEY)["object_id"].transform("size")
    known = pd.Series(True, index=answers.index)
    if limits["max_rank"] is not None:
        known &= answers["rank"] <= limits["max_rank"]
    if limits["max_rank_per_object"] is not None:
        known &= answers["rank"] <= limits["max_rank_per_object"] * true
    if limits["min_probability"] is not None:
        known &= answers["probability"] >= limits["min_probability"]
    return answers.assign(known=known)[list(OBJECT_SCORES.columns)]


def count_facts(
    verified: pd.DataFrame, settings: Mapping[str, Any], instances: pd.DataFrame | None
) -> pd.DataFrame:
    """COUNTS: per relation facts, per logic rule instances, and how many of them each criterion calls known.

    An instance (kept rows of INSTANCES whose facts were asked about) counts where all is known that a case
    needs: the fact that the first edit changes, and the tied fact of a chain. `known` is by the configured
    criterion.
    """
    holds = _by_criterion(verified, settings)
    sums = holds.assign(name=verified["relation_id"], asked=1).groupby("name", sort=True).sum()
    parts = [sums.reset_index().assign(of=RELATION)]
    if instances is not None:
        keys = pd.MultiIndex.from_frame(verified[list(FACT_KEY)])
        rows = [
            {"of": RULE, "name": rule, "asked": len(found)}
            | {name: int(found[name].sum()) for name in CRITERIA}
            for rule, found in _instances(instances, holds.set_index(keys))
        ]
        parts.append(pd.DataFrame(rows, columns=COUNTS[:-1]))
    counts = pd.concat(parts, ignore_index=True)
    return counts.assign(known=counts[settings["criterion"]])[COUNTS]


def _instances(instances: pd.DataFrame, holds: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Each rule with a row of `holds` per instance that was asked about: all facts that a case needs are
    known."""
    for rule, rows in instances[instances["kept"]].groupby("rule", sort=True):
        body, _ = parse_rule(rule)
        x, y, z = (rows[name].to_numpy() for name in ("x_id", "y_id", "z_id"))
        needed = [(x, body[0], y)] + ([(y, body[1], z)] if len(body) == 2 else [])
        looked = [
            holds.reindex(pd.MultiIndex.from_arrays([s, [r] * len(rows), o])).reset_index(drop=True)
            for s, r, o in needed
        ]
        asked = pd.concat([found.notna().all(axis=1) for found in looked], axis=1).all(axis=1)
        both = looked[0][asked].astype(bool)
        for found in looked[1:]:
            both &= found[asked].astype(bool)
        yield rule, both


def count_objects(scores: pd.DataFrame, min_known: int) -> pd.DataFrame:
    """Per relation of OBJECT_SCORES: keys, those with `min_known` known objects, objects, and known ones."""
    keys = scores.groupby([*KEY[::-1]])["known"].agg(["size", "sum"]).reset_index()
    keys["usable"] = keys["sum"] >= min_known
    found = keys.groupby("relation_id", sort=True).agg(
        keys=("usable", "size"), usable_keys=("usable", "sum"), objects=("size", "sum"), known=("sum", "sum")
    )
    return found.reset_index()


def shortages(counts: pd.DataFrame, quotas: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Warnings where known facts allow fewer cases than the quotas: how many, and which setting to relax.

    `counts` are those of `count_facts`. Reverse and composite cases are made of instances, coverage cases of
    the facts of binary rules.
    """
    rules = counts[counts["of"] == RULE]
    chain = rules["name"].str.contains("&", regex=False).astype(bool)
    binary = {relation_id for rule in rules["name"][~chain] for relation_id in rule.split(">")}
    facts = counts[(counts["of"] == RELATION) & counts["name"].isin(binary)]
    sources = {
        "coverage": (facts, "knows {} of {} facts"),
        "reverse": (rules[~chain], "knows what {} of {} instances rest on"),
        "composite": (rules[chain], "knows what {} of {} instances rest on"),
    }
    found = []
    for dataset, (mine, text) in sources.items():
        wanted = _wanted(quotas, dataset)
        if len(rules) and mine["known"].sum() < wanted:
            rows = mine.itertuples(index=False)
            listed = "; ".join(f"{row.name} {row.known} of {row.asked}" for row in rows) or "no rule has any"
            known = text.format(mine["known"].sum(), mine["asked"].sum())
            by_each = ", ".join(f"{name} {mine[name].sum()}" for name in CRITERIA)
            found.append(
                f"{dataset}: the quotas ask for {wanted} cases, and the model {known} ({listed}). By each "
                f"criterion: {by_each}. To get more: another cases.verification.criterion or its limit, more "
                "cases.continuation_tokens, more instances (mining.max_combinations); or lower cases.quotas"
            )
    return found


def object_shortages(
    counts: pd.DataFrame, quotas: Mapping[str, Mapping[str, int]], min_known: int
) -> list[str]:
    """Warnings for round datasets, as `shortages`, from the counts of `count_objects`."""
    usable, asked = int(counts["usable_keys"].sum()), int(counts["keys"].sum())
    rows = counts.itertuples(index=False)
    listed = "; ".join(f"{row.relation_id} {row.usable_keys} of {row.keys}" for row in rows)
    return [
        f"{dataset}: the quotas ask for {_wanted(quotas, dataset)} cases, and {usable} of {asked} (subject, "
        f"relation) have {min_known} objects that the model knows ({listed or 'none was asked about'}). To "
        "get more: wider limits in cases.known_objects, a lower cases.min_known_objects, more keys "
        "(mining.max_keys); or lower cases.quotas"
        for dataset in ROUND
        if usable < _wanted(quotas, dataset)
    ]


def _wanted(quotas: Mapping[str, Mapping[str, int]], dataset: str) -> int:
    """Number of cases that the quotas of all splits ask for."""
    return sum(quota.get(dataset, 0) for quota in quotas.values())
