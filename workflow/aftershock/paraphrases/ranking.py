"""Ranking of candidates by diversity, and the rows to paste into paraphrases.tsv.

The first choice is the candidate farthest from the prompt and the reviewed templates, then the one farthest
from all chosen so far (greedy max-min), ties going to the earlier candidate. Distance is one less the share
of common one- and two-word sequences (Jaccard). With a ranking model only the likelier half of a relation's
candidates takes part, by the mean log-probability that the model gives to true objects after them.
"""

from collections.abc import Collection, Sequence
from math import ceil

import pandas as pd

from aftershock.paraphrases.asking import Relation
from aftershock.paraphrases.validation import normal
from aftershock.tables.graph import PARAPHRASES

COLUMNS = ("namespace", "relation_id", "template", "status", "source")


def shingles(template: str) -> frozenset[tuple[str, ...]]:
    """The sequences of one and two words in a template, its slot being a word."""
    words = normal(template)
    return frozenset([*((word,) for word in words), *zip(words, words[1:], strict=False)])


def distance(one: Collection[tuple[str, ...]], other: Collection[tuple[str, ...]]) -> float:
    """Jaccard distance of the shingles of two templates: 0 equal, 1 nothing in common."""
    union = len(set(one) | set(other))
    return 1 - len(set(one) & set(other)) / union if union else 0.0


def most_diverse(candidates: Sequence[str], given: Sequence[str], count: int) -> list[int]:
    """Indices of up to `count` candidates, each the farthest from `given` and from those before it."""
    marks = [shingles(text) for text in candidates]
    fixed = [shingles(text) for text in given]
    nearest = [min((distance(mark, other) for other in fixed), default=1.0) for mark in marks]
    chosen: list[int] = []
    while len(chosen) < min(count, len(candidates)):
        best = max((i for i in range(len(marks)) if i not in chosen), key=lambda i: (nearest[i], -i))
        chosen.append(best)
        nearest = [min(old, distance(mark, marks[best])) for old, mark in zip(nearest, marks, strict=True)]
    return chosen


def choose(
    relations: Sequence[Relation],
    candidates: pd.DataFrame,
    wanted: int,
    scores: pd.DataFrame | None = None,
    ranking_model: str | None = None,
) -> pd.DataFrame:
    """PARAPHRASES rows: all candidates (PARAPHRASE_CANDIDATES), the first ones of each relation ranked.

    Of a relation that lacks kept rows as many are ranked as it lacks, else `wanted`. `scores` has
    PARAPHRASE_SCORES rows of `ranking_model`.
    """
    frame = candidates.assign(rank=pd.NA, logprob=float("nan"), facts=pd.NA, ranking_model=ranking_model)
    frame["ranking_model"] = frame["ranking_model"].astype("object")
    if scores is not None:
        frame = candidates.merge(scores, on=["relation_id", "candidate"], how="left")
        frame = frame.assign(rank=pd.NA, ranking_model=ranking_model)
    for relation in relations:
        count = relation.lacks or wanted
        mine = frame[(frame["relation_id"] == relation.relation_id) & frame["kept"]]
        if mine["logprob"].notna().any():
            likely = mine.sort_values(["logprob", "candidate"], ascending=[False, True])
            mine = likely.head(max(count, ceil(len(mine) / 2))).sort_values("candidate")
        places = most_diverse(list(mine["template"]), [relation.prompt, *relation.reviewed], count)
        frame.loc[mine.index[places], "rank"] = range(1, len(places) + 1)
    return frame.astype({"rank": "Int64", "facts": "Int64"})[list(PARAPHRASES.columns)]


def suggestions(chosen: pd.DataFrame, namespace: str, source: str) -> pd.DataFrame:
    """Rows for paraphrases.tsv: ranked candidates to keep, in order, and the other good ones to drop."""
    good = chosen[chosen["kept"]].sort_values(["relation_id", "rank", "candidate"], kind="stable")
    order = {relation_id: place for place, relation_id in enumerate(chosen["relation_id"].unique())}
    good = good.sort_values("relation_id", key=lambda ids: ids.map(order), kind="stable")
    status = good["rank"].notna().map({True: "keep", False: "drop"})
    return good.assign(namespace=namespace, status=status, source=source)[list(COLUMNS)]
