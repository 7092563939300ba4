"""The sheets under resources/ that a person edits: relations, paraphrases, logic rules.

What their rows must look like is in workflow/schemas/, and what must hold between the sheets is checked
before any job starts (aftershock.config).
"""

import os
from pathlib import Path

import pandas as pd

from aftershock.kg.graph import find_graph
from aftershock.schema import read_schema, read_sheet


def read_relations(path: str | os.PathLike, namespace: str) -> pd.DataFrame:
    """The rows of relations.tsv about a namespace, in the sheet's order, all columns as text."""
    return _read(path, "relations", namespace)


def read_paraphrases(path: str | os.PathLike, namespace: str) -> pd.DataFrame:
    """The rows of paraphrases.tsv about a namespace, in the sheet's order."""
    return _read(path, "paraphrases", namespace)


def read_rules(path: str | os.PathLike, namespace: str) -> pd.DataFrame:
    """The rows of rules.tsv about a namespace, in the sheet's order."""
    return _read(path, "rules", namespace)


def kept_rules(resources: str | os.PathLike, namespace: str) -> list[str]:
    """The rules that rules.tsv marks keep, as written there."""
    rules = read_rules(Path(resources) / "rules.tsv", namespace)
    return rules.loc[rules["status"] == "keep", "rule"].tolist()


def one_to_many_relations(resources: str | os.PathLike, namespace: str) -> list[str]:
    """Ids of the relations whose subjects with several objects make RoundEdit cases."""
    relations = read_relations(Path(resources) / "relations.tsv", namespace)
    return relations.loc[relations["one_to_many"] == "yes", "relation_id"].tolist()


def list_prompts(relations: pd.DataFrame, paraphrases: pd.DataFrame) -> pd.DataFrame:
    """PROMPTS rows: number 0 is the edit prompt of relations.tsv, 1 to 10 its paraphrases."""
    given = relations[["relation_id", "prompt"]].rename(columns={"prompt": "template"})
    given = given.assign(prompt_id=0, source="relations.tsv")
    more = paraphrases[["relation_id", "template"]].assign(source="paraphrases.tsv")
    more["prompt_id"] = more.groupby("relation_id").cumcount() + 1
    prompts = pd.concat([given, more])[["relation_id", "prompt_id", "template", "source"]]
    return prompts.sort_values(["relation_id", "prompt_id"], ignore_index=True)


def _read(path: str | os.PathLike, name: str, namespace: str) -> pd.DataFrame:
    """The rows of one namespace; ValueError naming every row of the sheet that has a fault."""
    find_graph(namespace)
    rows, errors = read_sheet(Path(path), name)
    if errors:
        raise ValueError("\n".join(errors))
    return pd.DataFrame(
        [row for row in rows if row["namespace"] == namespace], columns=read_schema(name)["required"]
    )
