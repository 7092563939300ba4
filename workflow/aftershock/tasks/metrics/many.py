"""Values of many items, from a table with the fields of Score and `group` as columns."""

import math

import numpy as np
import pandas as pd

from aftershock.tasks.agreement import f1

LARGEST = 700.0
"""Surprise per token, in nats, beyond which a perplexity is no number that a computer has."""


def mean(scores: pd.DataFrame) -> float:
    return float(scores["value"].mean())


def mean_of_parsed(scores: pd.DataFrame) -> float:
    """Return the mean over the answers that could be read, 0 where there are none of some items."""
    parsed = scores.loc[scores["parsed"], "value"]
    return 0.0 if parsed.empty and len(scores) else float(parsed.mean())


def mean_of_classes(scores: pd.DataFrame) -> float:
    return float(scores.groupby("gold")["value"].mean().mean())


def area(scores: pd.DataFrame) -> float:
    """Return the probability that an item of the second class is above one of the first, ties as a half."""
    right = scores["hits"].to_numpy() > 0
    ranks = scores["value"].rank().to_numpy()
    n, m = int(right.sum()), int((~right).sum())
    return float((ranks[right].sum() - n * (n + 1) / 2) / (n * m)) if n and m else math.nan


def weighted_f1(scores: pd.DataFrame) -> float:
    """Return the mean of the classes' F1, weighted by how many items have the class."""
    predicted, gold = scores["prediction"].where(scores["parsed"], ""), scores["gold"]
    total = 0.0
    for name, wanted in gold.value_counts().items():
        hits = ((predicted == name) & (gold == name)).sum()
        total += wanted * f1(hits, (predicted == name).sum(), wanted)
    return float(total / len(scores)) if len(scores) else math.nan


def micro_f1(scores: pd.DataFrame) -> float:
    return float(f1(scores["hits"].sum(), scores["found"].sum(), scores["wanted"].sum()))


def recall_of_groups(scores: pd.DataFrame) -> float:
    sums = scores.groupby("group")[["hits", "wanted"]].sum()
    return float((sums["hits"] / sums["wanted"].where(sums["wanted"] > 0)).mean())


def per_found(scores: pd.DataFrame) -> float:
    return float(scores["hits"].sum() / scores["found"].sum())


def perplexity(scores: pd.DataFrame) -> float:
    """Return the perplexity of all texts together, at most e to the power of LARGEST."""
    return float(np.exp(np.minimum(per_found(scores), LARGEST)))
