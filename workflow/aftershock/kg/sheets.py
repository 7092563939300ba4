"""The hand-edited sheets under resources/: relations, paraphrases, logic rules.

What their rows must look like is in workflow/schemas/, and what must hold between the sheets is checked
before any job starts (aftershock.config).
"""

import os
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from aftershock.kg.graph import find_graph
from aftershock.kg.logic import LogicRule
from aftershock.prompts import read_template
from aftershock.schema import read_schema, read_sheet

TEMPLATES = ["prompt", "template"]  # the columns of templates that a target follows
PARAPHRASES = 10  # of each relation, after Li et al. (2024)


def read_relations(path: str | os.PathLike, namespace: str | None) -> pd.DataFrame:
    """The rows of relations.tsv about a namespace, in the sheet's order, all columns as text.

    A run without a graph has None, and no rows.
    """
    if namespace is None:
        return pd.DataFrame(columns=read_schema("relations")["required"])
    return _read(path, "relations", namespace)


def read_paraphrases(path: str | os.PathLike, namespace: str) -> pd.DataFrame:
    """The rows of paraphrases.tsv about a namespace, kept and dropped ones, in the sheet's order."""
    return _read(path, "paraphrases", namespace)


def read_rules(path: str | os.PathLike, namespace: str) -> pd.DataFrame:
    """The rows of rules.tsv about a namespace, in the sheet's order."""
    return _read(path, "rules", namespace)


def kept_rules(
    resources: str | os.PathLike,
    namespace: str,
    chosen: Collection[str] | None = None,
    functional_heads: bool = False,
) -> list[str]:
    """The rules that rules.tsv marks keep, as written there.

    Of a namespace that `chosen` names rules of, only these are taken; with `functional_heads` only those
    whose head relations.tsv calls functional.
    """
    rules = read_rules(Path(resources) / "rules.tsv", namespace)
    kept = rules.loc[rules["status"] == "keep", "rule"].tolist()
    kept = [rule for rule in kept if rule in chosen] or kept if chosen else kept
    if functional_heads:
        relations = read_relations(Path(resources) / "relations.tsv", namespace)
        heads = set(relations.loc[relations["functional"] == "yes", "relation_id"])
        kept = [rule for rule in kept if LogicRule.parse(rule).head in heads]
    return kept


def one_to_many_relations(resources: str | os.PathLike, namespace: str) -> list[str]:
    """Ids of the relations whose subjects with several objects make RoundEdit cases."""
    relations = read_relations(Path(resources) / "relations.tsv", namespace)
    return relations.loc[relations["one_to_many"] == "yes", "relation_id"].tolist()


def list_prompts(
    relations: pd.DataFrame,
    paraphrases: pd.DataFrame,
    generated: pd.DataFrame | None = None,
    generator: str = "generated",
) -> pd.DataFrame:
    """PROMPTS rows: number 0 is the edit prompt of relations.tsv, 1 to 10 its paraphrases.

    These are the kept rows of paraphrases.tsv; where there are fewer than ten, ranked rows of `generated`
    (PARAPHRASES, by a model called `generator`) follow them. ValueError names relations that then lack some.
    """
    given = relations[["relation_id", "prompt"]].rename(columns={"prompt": "template"})
    given = given.assign(prompt_id=0, source="relations.tsv")
    kept = paraphrases[paraphrases["status"] == "keep"]
    more = [kept[["relation_id", "template"]].assign(source="paraphrases.tsv")]
    if generated is not None:
        ranked = generated.dropna(subset=["rank"]).sort_values("rank", kind="stable")
        more.append(ranked[["relation_id", "template"]].assign(source=generator))
    more = pd.concat(more)
    more["prompt_id"] = more.groupby("relation_id").cumcount() + 1
    more = more[more["prompt_id"] <= PARAPHRASES]
    counts = more["relation_id"].value_counts().reindex(relations["relation_id"], fill_value=0)
    short = [f"{relation_id} has {n}" for relation_id, n in counts.items() if n < PARAPHRASES]
    if short:
        raise ValueError(
            f"relations need {PARAPHRASES} paraphrases each: {', '.join(short)}. Add rows to paraphrases.tsv "
            "or set more paraphrases.requests or another model; paraphrases.parquet says why candidates were "
            "dropped"
        )
    prompts = pd.concat([given, more])[["relation_id", "prompt_id", "template", "source"]]
    return prompts.sort_values(["relation_id", "prompt_id"], ignore_index=True)


def _read(path: str | os.PathLike, name: str, namespace: str) -> pd.DataFrame:
    """The rows of one namespace; ValueError naming every row of the sheet that has a fault."""
    find_graph(namespace)
    rows, errors = read_sheet(Path(path), name)
    if errors:
        raise ValueError("\n".join(errors))
    found = pd.DataFrame(
        [row for row in rows if row["namespace"] == namespace], columns=read_schema(name)["required"]
    )
    for column in found.columns.intersection(TEMPLATES):
        found[column] = found[column].map(read_template)
    return found
