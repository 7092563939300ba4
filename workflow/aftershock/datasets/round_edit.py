"""RoundEdit: an edit away from one of several true objects and back again.

EASY edits an object that resembles the other true objects, HARD one that does not. The released files show
that the two differ in the choice of o1 only: the false object o* belongs to the (subject, relation).
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from aftershock.datasets import reasons
from aftershock.datasets.graph_facts import FactIndex, rows_of
from aftershock.datasets.targets import Targets
from aftershock.seeds import derive, generator

KEY = ["subject_id", "relation_id"]
PROFILES = {"paper": {2: 1456, 3: 509, 4: 220, 5: 137, 6: 69, 7: 45, 8: 30, 9: 22, 10: 12}}
"""Cases by number of true objects; `paper` is counted in each of the four released files."""


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

    @property
    def entities(self) -> tuple[str, ...]:
        """The entities that decide the cluster."""
        return (self.subject_id,)

    @property
    def rule(self) -> str:
        """The name under which the case is listed among the rules."""
        return rule_of(self.relation_id)


def rule_of(relation_id: str) -> str:
    """The name, 1-N@ and the relation, under which round cases of a relation are listed among the rules."""
    return f"1-N@{relation_id}"


@dataclass(frozen=True)
class RoundSelection:
    """Criteria for keys that become cases: see the `cases` section of the configuration."""

    min_known: int
    object_counts: str | Mapping[int, float] = "matched"
    balance: bool = False
    seed: int = 0

    @property
    def wanted(self) -> Mapping[int, float] | None:
        """Wanted proportions of cases by number of true objects; None only matches easy and hard."""
        if isinstance(self.object_counts, str):
            return PROFILES.get(self.object_counts)
        return {int(n): weight for n, weight in self.object_counts.items()}


def candidates(
    scores: pd.DataFrame, min_known: int, seed: int = 0
) -> tuple[dict[str, pd.DataFrame], dict[str, Counter]]:
    """Candidate rows, one per key, for `round_easy` and `round_hard`; keys dropped by (rule, reason).

    `scores` are OBJECT_SCORES rows, whose order decides nothing: a candidate row's label is its key. A key
    needs `min_known` known objects. Among the known objects of a key the one most (EASY) or least (HARD)
    similar to the key's other true objects becomes o1, provided that its similarity lies on that side of the
    median over all known objects of the relation. So a key with two objects, whose similarity is symmetric,
    is either easy or hard, and a seeded hash chooses between them; a longer one can be both.
    """
    keys = scores.drop_duplicates(KEY)[KEY]
    known = scores[scores["known"]]
    enough = known[known.groupby(KEY)["object_id"].transform("size") >= max(min_known, 1)]
    usable = enough[enough["similarity"].notna()]
    hashes = [derive(seed, "round tie", *row) for row in rows_of(usable, [*KEY, "object_id"])]
    ordered = usable.assign(hash=hashes).sort_values([*KEY, "similarity", "hash"]).drop(columns="hash")
    alike = ordered["similarity"] >= ordered.groupby("relation_id")["similarity"].transform("median")
    ordered.index = pd.Index([" ".join(key) for key in rows_of(ordered, KEY)], dtype=object)
    options = {
        "round_easy": ordered[alike.to_numpy()].drop_duplicates(KEY, keep="last"),
        "round_hard": ordered[~alike.to_numpy()].drop_duplicates(KEY, keep="first"),
    }
    dropped = {}
    for dataset, frame in options.items():
        stages = [keys, enough, usable, frame]
        left = [set(rows_of(stage, KEY)) for stage in stages]
        why = (reasons.few_known(min_known), reasons.NO_SIMILARITY, reasons.UNLIKE)
        dropped[dataset] = Counter(
            (rule_of(relation_id), reason)
            for before, after, reason in zip(left, left[1:], why, strict=False)
            for _, relation_id in before - after
        )
    return options, dropped


def choose(scores: pd.DataFrame, quotas: Mapping[str, int], selection: RoundSelection) -> dict[str, "Chosen"]:
    """The keys and edited objects of both datasets in one split, whose OBJECT_SCORES are `scores`.

    Easy and hard get the same number of keys for each number of objects. With `object_counts: matched` that
    is as far as both have them, and what is then missing is filled with any number of objects; with wanted
    proportions nothing is filled.
    """
    options, dropped = candidates(scores, selection.min_known, selection.seed)
    sizes = Counter(rows_of(scores, KEY))
    queues = {name: _queues(frame, sizes, selection.seed) for name, frame in options.items()}
    found = {}
    for name, mine in queues.items():
        shared = {n: min(len(queue[n]) for queue in queues.values()) for n in sorted(mine)}
        pick = _matched if selection.wanted is None else _wanted
        picked = pick(mine, shared, quotas.get(name, 0), selection)
        rows, rest = options[name].loc[picked], options[name].drop(picked)
        for relation_id, n in rest.groupby("relation_id").size().items():
            reason = reasons.QUOTA if len(picked) >= quotas.get(name, 0) else reasons.COUNT_FULL
            dropped[name][rule_of(relation_id), reason] += int(n)
        found[name] = Chosen(rows, dropped[name])
    return found


@dataclass(frozen=True)
class Chosen:
    """The OBJECT_SCORES rows of the edited objects, and the candidates dropped by (rule, reason)."""

    rows: pd.DataFrame
    dropped: Counter


def select(
    dataset: str,
    split: str,
    quotas: Mapping[str, int],
    scores: pd.DataFrame,
    index: FactIndex,
    splits: Mapping[str, str],
    selection: RoundSelection,
) -> tuple[list[RoundCase], Counter]:
    """Up to quotas[dataset] cases of one split, and the candidates dropped by (rule, reason).

    `scores` are the OBJECT_SCORES rows of the split.
    """
    chosen = choose(scores, quotas, selection)[dataset]
    true, known = _objects(scores), _objects(scores[scores["known"]])
    targets = draw_targets(scores, Targets(index, splits, split, selection.balance), selection.seed)
    cases = []
    for row in chosen.rows.itertuples(index=False):
        key = (row.subject_id, row.relation_id)
        target = targets[key]
        if target is None:
            chosen.dropped[rule_of(row.relation_id), reasons.NO_TARGET] += 1
            continue
        cases.append(RoundCase(*key, row.object_id, target, tuple(true[key]), frozenset(known[key])))
    return cases, chosen.dropped


def _objects(scores: pd.DataFrame) -> dict[tuple[str, str], list[str]]:
    """Sorted objects of each key."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for subject_id, relation_id, object_id in sorted(rows_of(scores, [*KEY, "object_id"])):
        found[subject_id, relation_id].append(object_id)
    return found


def draw_targets(scores: pd.DataFrame, targets: Targets, seed: int) -> dict[tuple[str, str], str | None]:
    """o* of every key of OBJECT_SCORES rows: drawn once, so that it is the same in easy and hard."""
    found = {}
    for key in sorted(set(rows_of(scores, KEY)), key=lambda key: derive(seed, "round order", *key)):
        subject_id, relation_id = key
        found[key] = target = targets.draw(subject_id, relation_id, (), generator(seed, "round target", *key))
        if target:
            targets.use(relation_id, target)
    return found


def _queues(frame: pd.DataFrame, sizes: Mapping[tuple[str, str], int], seed: int) -> dict[int, list[str]]:
    """Row labels of candidates in seeded order, by number of true objects."""
    queues = defaultdict(list)
    keys = dict(zip(frame.index, rows_of(frame, KEY), strict=True))
    for i in sorted(keys, key=lambda i: derive(seed, "round order", *keys[i])):
        queues[sizes[keys[i]]].append(i)
    return queues


def _matched(
    mine: Mapping[int, list[str]], shared: Mapping[int, int], quota: int, selection: RoundSelection
) -> list[str]:
    share = min(1.0, quota / max(1, sum(shared.values())))
    picked = [i for n in shared for i in mine[n][: round(share * shared[n])]]
    taken = set(picked)
    rest = [i for n in sorted(mine) for i in mine[n] if i not in taken]
    rest.sort(key=lambda i: derive(selection.seed, "round rest", i))
    return (picked + rest)[:quota]


def _wanted(
    mine: Mapping[int, list[str]], shared: Mapping[int, int], quota: int, selection: RoundSelection
) -> list[str]:
    seats = apportion(selection.wanted or {}, quota)
    return [i for n in shared for i in mine[n][: min(shared[n], seats.get(n, 0))]]


def apportion(weights: Mapping[int, float], quota: int) -> dict[int, int]:
    """`quota` divided in proportion to `weights`, in whole numbers, by largest remainders (Hamilton)."""
    total = sum(weights.values())
    exact = {n: quota * weight / total for n, weight in weights.items()}
    seats = {n: int(value) for n, value in exact.items()}
    last = sorted(exact, key=lambda n: (seats[n] - exact[n], n))
    for n in last[: quota - sum(seats.values())]:
        seats[n] += 1
    return seats
