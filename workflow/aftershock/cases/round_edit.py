"""RoundEdit: an edit away from one of several true objects and back again.

EASY edits an object that resembles the other true objects, HARD one that does not. The released files show
that the two differ in the choice of o1 only: the false object o* belongs to the (subject, relation).
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from aftershock.cases.graph_facts import FactIndex
from aftershock.cases.targets import Targets
from aftershock.seeds import derive, generator


@dataclass(frozen=True)
class RoundCase:
    """(subject, relation: original -> target -> original) among all true objects."""

    subject_id: str
    relation_id: str
    original_id: str  # o1
    target_id: str  # o*
    object_ids: tuple[str, ...]  # all true objects, o1 among them
    known_ids: frozenset[str]  # those that the unedited model knows

    @property
    def key(self) -> tuple[str, str]:
        """(subject, relation)."""
        return self.subject_id, self.relation_id


def candidates(scores: pd.DataFrame, min_known: int) -> tuple[dict[str, pd.DataFrame], Counter]:
    """One candidate row per key for `round_easy` and `round_hard`, and the keys dropped by reason.

    `scores` are OBJECT_SCORES rows. A key needs `min_known` known objects. Among the known objects of a key
    the one most (EASY) or least (HARD) similar to the key's other true objects becomes o1, provided that its
    similarity lies on that side of the median over all known objects of the relation. So a key with two
    objects, whose similarity is symmetric, is either easy or hard; a longer one can be both.
    """
    known = scores[scores["known"]]
    counts = known.groupby(["subject_id", "relation_id"])["object_id"].transform("size")
    usable = known[(counts >= min_known) & known["similarity"].notna()]
    n_keys = len(scores[["subject_id", "relation_id"]].drop_duplicates())
    n_usable = len(usable[["subject_id", "relation_id"]].drop_duplicates())
    dropped = Counter({f"fewer than {min_known} objects known to the model": n_keys - n_usable})
    ordered = usable.sort_values(["subject_id", "relation_id", "similarity", "object_id"])
    alike = ordered["similarity"] >= ordered.groupby("relation_id")["similarity"].transform("median")
    by_key = ["subject_id", "relation_id"]
    return {
        "round_easy": ordered[alike].drop_duplicates(by_key, keep="last"),
        "round_hard": ordered[~alike].drop_duplicates(by_key, keep="first"),
    }, dropped


def select(
    dataset: str,
    split: str,
    quota: int,
    scores: pd.DataFrame,
    index: FactIndex,
    splits: Mapping[str, str],
    min_known: int,
    seed: int,
) -> tuple[list[RoundCase], Counter]:
    """Up to `quota` cases of one split, and the candidates dropped by reason.

    Both datasets get the same number of keys for each number of objects as far as both have them; what is
    then missing is filled with any number of objects.
    """
    scores = scores[[splits.get(subject) == split for subject in scores["subject_id"]]]
    options, dropped = candidates(scores, min_known)
    sizes = scores.groupby(["subject_id", "relation_id"])["object_id"].agg(lambda ids: tuple(sorted(ids)))
    known = scores[scores["known"]].groupby(["subject_id", "relation_id"])["object_id"].agg(frozenset)
    chosen = _matched(options, sizes.map(len), dataset, quota, seed)
    targets = Targets(index, splits, split)
    cases = []
    for row in chosen.itertuples(index=False):
        key = (row.subject_id, row.relation_id)
        target = targets.draw(*key, (), generator(seed, "round target", *key))
        if target is None:
            dropped["no false object to draw"] += 1
            continue
        cases.append(RoundCase(*key, row.object_id, target, sizes[key], known[key]))
    dropped["beyond the quota"] += len(options[dataset]) - len(chosen)
    return cases, dropped


def _matched(
    options: dict[str, pd.DataFrame], sizes: pd.Series, dataset: str, quota: int, seed: int
) -> pd.DataFrame:
    queues = {}
    for name, frame in options.items():
        queues[name] = defaultdict(list)
        keys = dict(
            zip(frame.index, zip(frame["subject_id"], frame["relation_id"], strict=True), strict=True)
        )
        for i in sorted(keys, key=lambda i: derive(seed, "round order", *keys[i])):
            queues[name][sizes[keys[i]]].append(i)
    mine = queues[dataset]
    shared = {n: min(len(queue[n]) for queue in queues.values()) for n in sorted(mine)}
    share = min(1.0, quota / max(1, sum(shared.values())))
    picked = [i for n in shared for i in mine[n][: round(share * shared[n])]]
    taken = set(picked)
    rest = [i for n in sorted(mine) for i in mine[n] if i not in taken]
    rest.sort(key=lambda i: derive(seed, "round rest", i))
    return options[dataset].loc[(picked + rest)[:quota]]
