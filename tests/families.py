"""Small hand-made families that cases are built from."""

import pandas as pd

from aftershock.datasets.build import Dataset, build
from aftershock.datasets.graph_facts import Context, Fact, FactIndex
from aftershock.datasets.split import split_entities, splits_of
from aftershock.datasets.table import DATASETS
from aftershock.seeds import generator
from aftershock.tables.graph import FACT_KEY

SETTINGS = {
    "split": {"test": 0.5, "dev": 0.25, "train": 0.25},
    "quotas": {"test": dict.fromkeys(DATASETS, 8), "dev": {"coverage": 4}, "train": {}},
    "strict_only": True,
    "max_per_first_edit": 3,
    "max_per_tied_fact": None,
    "max_per_object": None,
    "balance_targets": False,
    "min_known_objects": 2,
    "verification": {"criterion": "continuation"},
    "object_counts": "matched",
}
PROMPTS_BY_RELATION = {"R1": "The spouse of {} is", "R2": "The mother of {} is", "R3": "The father of {} is"}
PROMPTS_BY_RELATION |= {"R4": "{} received the award", "R5": "{} lives in"}
SHEET = pd.DataFrame(
    [(r, p.split()[1], p, p + "?") for r, p in PROMPTS_BY_RELATION.items()],
    columns=["relation_id", "label", "prompt", "query"],
)
FUNCTIONAL = dict.fromkeys(["R1", "R2", "R3", "R5"], 1.0) | {"R4": 0.4}
AWARDS = 7


def families(n: int) -> tuple[list[Fact], dict[str, str]]:
    """`n` couples with two children each, awards and towns: ids M0 F0 A0 B0 ..."""
    facts = []
    for i in range(n):
        facts += [Fact(f"M{i}", "R1", f"F{i}"), Fact(f"F{i}", "R1", f"M{i}")]
        for child in (f"A{i}", f"B{i}"):
            facts += [Fact(child, "R2", f"M{i}"), Fact(child, "R3", f"F{i}")]
        for j in range(2 + i % 3):
            facts += [Fact(f"M{i}", "R4", f"W{(i + j * (1 + i % 2)) % AWARDS}")]
        facts += [Fact(f"A{i}", "R5", f"T{i % 4}"), Fact(f"M{i}", "R5", f"T{(i + 1) % 4}")]
    ids = {e for f in facts for e in (f.subject_id, f.object_id)}
    return sorted(set(facts)), {entity: f"Label {entity}" for entity in ids}


def frame(facts: list[Fact], **columns) -> pd.DataFrame:
    rows = pd.DataFrame([(f.subject_id, f.relation_id, f.object_id) for f in facts], columns=list(FACT_KEY))
    return rows.assign(**columns)


def instances_of(n: int) -> pd.DataFrame:
    rows = []
    for i in range(n):
        rows += [("R1>R1", f"M{i}", f"F{i}", f"M{i}"), ("R1>R1", f"F{i}", f"M{i}", f"F{i}")]
        rows += [("R2&R1>R3", f"{child}{i}", f"M{i}", f"F{i}") for child in "AB"]
    found = pd.DataFrame(rows, columns=["rule", "x_id", "y_id", "z_id"])
    return found.assign(kept=True, reason=None)


def scores_of(facts: list[Fact], unknown: set[Fact] = frozenset()) -> pd.DataFrame:
    awards = [f for f in facts if f.relation_id == "R4"]
    rng = generator(1, "similarity")
    return frame(
        awards,
        probability=0.5,
        rank=1,
        known=[f not in unknown for f in awards],
        similarity=rng.random(len(awards)),
    )


def context_of(facts: list[Fact], labels: dict[str, str]) -> Context:
    """All facts are known; spouse, mother and father are functional."""
    index = FactIndex(frozenset(facts), labels, frozenset(facts))
    return Context(index, PROMPTS_BY_RELATION, FUNCTIONAL, frozenset(["R1", "R2", "R3"]), 0.9, 7)


def graph_of(n: int = 24) -> tuple[pd.DataFrame, pd.DataFrame, Context]:
    """Instances, scores and context of `n` families."""
    facts, labels = families(n)
    return instances_of(n), scores_of(facts), context_of(facts, labels)


def division(
    instances: pd.DataFrame, scores: pd.DataFrame, context: Context, settings: dict | None = None
) -> pd.DataFrame:
    """SPLIT rows of what cases are made of."""
    facts = frame(sorted(context.index.facts), kept=True)
    names = {side: facts[f"{side}_id"].map(context.index.labels) for side in ("subject", "object")}
    facts = facts.assign(**names)
    return split_entities(instances, scores, facts, (settings or SETTINGS)["split"], context.seed)


def dataset_of(
    dataset: str,
    instances: pd.DataFrame,
    scores: pd.DataFrame,
    context: Context,
    texts: pd.DataFrame | None = None,
    **changes,
) -> Dataset:
    """A dataset of the families, with some of SETTINGS changed, and `texts` to leave alone."""
    settings = SETTINGS | changes
    splits = splits_of(division(instances, scores, context, settings))
    return build(dataset, instances, scores, splits, context, settings, texts)
