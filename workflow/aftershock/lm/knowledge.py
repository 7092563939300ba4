"""What a model knows before any edit: facts it says, and how likely each of several true objects is."""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from aftershock.lm.generation import continue_greedily
from aftershock.lm.model import LanguageModel
from aftershock.lm.scoring import score
from aftershock.matching import names
from aftershock.prompts import fill
from aftershock.requests import Query
from aftershock.tables import FACT_KEY, OBJECT_SCORES, VERIFIED

KEY = ["subject_id", "relation_id"]
KNOWN_PROBABILITY = 0.01  # of a one-to-many object, geometric mean over tokens, mean over prompts


def verify_facts(
    lm: LanguageModel, facts: pd.DataFrame, prompts: pd.DataFrame, n_tokens: int
) -> pd.DataFrame:
    """VERIFIED rows of `facts` (TAUGHT rows): whether the greedy continuation names the object.

    The continuation of the edit prompt has `n_tokens` tokens, fewer where the model's context ends.
    """
    templates = _templates(prompts, facts)
    asked = [fill(templates[f.relation_id][0], f.subject) for f in facts.itertuples(index=False)]
    said = dict(zip(asked, continue_greedily(lm, asked, n_tokens), strict=True))
    frame = facts[list(FACT_KEY)].assign(
        continuation=[said[prompt] for prompt in asked],
        known=[names(said[prompt], label) for prompt, label in zip(asked, facts["object"], strict=True)],
        probability=_probabilities(lm, facts, templates),
    )
    return frame[list(VERIFIED.columns)]


def score_objects(lm: LanguageModel, objects: pd.DataFrame, prompts: pd.DataFrame) -> pd.DataFrame:
    """OBJECT_SCORES rows of `objects` (TAUGHT rows): all true objects of (subject, relation) keys.

    The rank is among all labels of the relation's objects, by geometric mean token probability after the edit
    prompt. An object is known when its rank is within twice the number of the key's true objects and its
    probability over all prompts reaches KNOWN_PROBABILITY (the rank alone says little where labels are few).
    Similarity is the mean cosine of its label's embedding to those of the key's other objects.
    """
    templates = _templates(prompts, objects)
    parts = []
    for relation_id, rows in objects.groupby("relation_id", sort=True):
        labels = sorted(set(rows["object"]))
        ranks = _ranks(lm, rows, labels, templates[relation_id][0])
        similarities = _similarities(rows, labels, label_embeddings(lm, labels))
        parts.append(rows.assign(rank=ranks, similarity=similarities))
    if not parts:
        return OBJECT_SCORES.empty()
    frame = pd.concat(parts).loc[objects.index]
    frame["probability"] = _probabilities(lm, objects, templates)
    true = frame.groupby(KEY)["object_id"].transform("size")
    frame["known"] = (frame["rank"] <= 2 * true) & (frame["probability"] >= KNOWN_PROBABILITY)
    return frame[list(OBJECT_SCORES.columns)]


def _templates(prompts: pd.DataFrame, facts: pd.DataFrame) -> dict[str, list[str]]:
    """Templates of each relation, the edit prompt first."""
    ordered = prompts.sort_values(["relation_id", "prompt_id"])
    templates = ordered.groupby("relation_id")["template"].agg(list).to_dict()
    missing = sorted(set(facts["relation_id"]) - set(templates))
    if missing:
        raise ValueError(f"relations without prompts: {', '.join(missing)}")
    return templates


def _probabilities(lm: LanguageModel, facts: pd.DataFrame, templates: dict[str, list[str]]) -> list[float]:
    """p(k) of each fact: mean over prompts of the geometric mean of token probabilities."""
    queries, sizes = [], []
    for fact in facts.itertuples(index=False):
        asked = [Query(fill(template, fact.subject), fact.object) for template in templates[fact.relation_id]]
        queries += asked
        sizes.append(len(asked))
    values = iter([s.probability for s in score(lm, queries)])
    return [sum(next(values) for _ in range(size)) / size for size in sizes]


def _ranks(lm: LanguageModel, rows: pd.DataFrame, labels: Sequence[str], template: str) -> pd.Series:
    """Rank of each row's object among `labels` for its subject, 1 the likeliest."""
    subjects = sorted(set(rows["subject"]))
    queries = [Query(fill(template, subject), label) for subject in subjects for label in labels]
    found = torch.tensor([s.logprob / len(s.token_logprobs) for s in score(lm, queries)])
    table = found.view(len(subjects), len(labels))
    by_subject = dict(zip(subjects, table, strict=True))
    column = {label: i for i, label in enumerate(labels)}
    ranks = [
        1 + int((by_subject[row.subject] > by_subject[row.subject][column[row.object]]).sum())
        for row in rows.itertuples(index=False)
    ]
    return pd.Series(ranks, index=rows.index)


def label_embeddings(lm: LanguageModel, labels: Sequence[str]) -> Tensor:
    """Mean input embedding of each label's tokens, less the mean over labels, of norm one; (labels, d)."""
    table = lm.model.get_input_embeddings().weight
    means = torch.stack([table[torch.tensor(ids)].mean(dim=0) for ids in lm.encode_targets(labels)])
    centred = means - means.mean(dim=0)
    return centred / centred.norm(dim=1, keepdim=True).clamp(min=1e-12)


def _similarities(rows: pd.DataFrame, labels: Sequence[str], embeddings: Tensor) -> pd.Series:
    """Mean cosine of each row's object to the other objects of its subject; missing where there is none."""
    column = {label: i for i, label in enumerate(labels)}
    result = pd.Series(float("nan"), index=rows.index)
    for _, key in rows.groupby("subject_id"):
        if len(key) > 1:
            vectors = embeddings[[column[label] for label in key["object"]]]
            cosines = vectors @ vectors.T
            others = (cosines.sum(dim=1) - cosines.diagonal()) / (len(key) - 1)
            result[key.index] = others.tolist()
    return result
