"""Train, dev and test splits: entities are divided once per graph, before any case is built.

Two entities that are subjects of one rule instance always fall into the same split, so no test case shares a
subject or a tied fact with training or tuning. Nor does it share a subject's name, by which alone a model
knows the subject: namesakes count as one entity. Where one connected component is too large for that, it is
cut by edge, and the instances that cross are lost. All datasets, tuning and MEND read the same table SPLIT.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import TypeVar

import pandas as pd

from aftershock.datasets.cut import cut
from aftershock.datasets.graph_facts import rows_of
from aftershock.kg.logic import LogicRule
from aftershock.matching import normal
from aftershock.seeds import derive
from aftershock.tables.graph import SPLIT

DOMINANT = 0.5  # a component with more than this share of all instances is cut
Node = TypeVar("Node", bound=str | tuple)

WHOLE, CUT = "component", "cut"


def components(pairs: Iterable[tuple[Node, Node]]) -> dict[Node, Node]:
    """The representative (smallest member) of each node's connected component."""
    parent: dict[Node, Node] = {}

    def root(node: Node) -> Node:
        while parent.setdefault(node, node) != node:
            parent[node] = node = parent[parent[node]]
        return node

    for left, right in pairs:
        a, b = root(left), root(right)
        if a != b:
            parent[max(a, b)] = min(a, b)
    return {node: root(node) for node in parent}


def split_entities(
    instances: pd.DataFrame,
    objects: pd.DataFrame,
    facts: pd.DataFrame,
    shares: Mapping[str, float],
    seed: int,
) -> pd.DataFrame:
    """SPLIT rows of every entity that can be the subject of an edit.

    These are the subjects of the kept `instances` (INSTANCES) and of `objects` (OBJECTS), and whatever the
    kept `facts` (FACTS) have as object of a binary rule's relation: a reverse case's second edit is about the
    first one's target. `shares` sums to one. Components are handed out from the largest to the smallest, each
    to the split that is furthest behind its share; a dominant one is cut before.
    """
    instances = instances[instances["kept"]]
    pairs = list(rows_of(instances, ["x_id", "y_id"]))
    several = objects["subject_id"].unique().tolist()
    loners = sorted({*several, *_second_subjects(instances, facts)})
    namesake = _namesakes({*chain.from_iterable(pairs), *loners}, facts)
    pairs = [(namesake[x], namesake[y]) for x, y in pairs]
    weight = Counter(x for x, _ in pairs) + Counter(namesake[entity] for entity in several)
    loners = sorted({namesake[entity] for entity in loners})
    member: dict[str, str] = components([*pairs, *zip(loners, loners, strict=True)])
    groups = defaultdict(list)
    for entity, representative in member.items():
        groups[representative].append(entity)
    size = {name: sum(weight[entity] for entity in members) for name, members in groups.items()}
    total = sum(size.values())
    behind = _Shares(shares)
    assigned: dict[str, str] = {}
    dominant = {name for name in groups if size[name] > DOMINANT * total and len(groups[name]) > 2}
    for name in sorted(dominant):
        edges = Counter(pair for pair in pairs if member[pair[0]] == name)
        for entity, split in cut(edges, weight, shares, seed).items():
            assigned[entity] = split
            behind.filled[split] += weight[entity]
    whole = sorted(groups.keys() - dominant, key=lambda name: (-size[name], derive(seed, "split", name)))
    for name in whole:
        split = behind.take(size[name])
        assigned.update(dict.fromkeys(groups[name], split))
    rows = [
        (entity, member[one], assigned[one], CUT if member[one] in dominant else WHOLE)
        for entity, one in sorted(namesake.items())
    ]
    return pd.DataFrame(rows, columns=list(SPLIT.columns))


def splits_of(table: pd.DataFrame) -> dict[str, str]:
    """The split of each entity of SPLIT rows."""
    return dict(rows_of(table, ["entity_id", "split"]))


def split_of(entities: Iterable[str], splits: Mapping[str, str]) -> str | None:
    """The split that all `entities` share, or None when they lie in different ones."""
    found = {splits[entity] for entity in entities if entity in splits}
    return found.pop() if len(found) == 1 else None


def home_of(instances: pd.DataFrame, splits: Mapping[str, str]) -> pd.Series:
    """The split of each of `instances`, missing where its entities lie in different ones."""
    homes = [
        splits.get(x) if splits.get(x) == splits.get(y) else None
        for x, y in rows_of(instances, ["x_id", "y_id"])
    ]
    return pd.Series(homes, index=instances.index, dtype=object)


def _namesakes(entities: Iterable[str], facts: pd.DataFrame) -> dict[str, str]:
    """The first of the `entities` with the same name, for each of them; `facts` have the names."""
    names: dict[str, str] = {}
    for side in ("subject", "object"):
        named = rows_of(facts, [f"{side}_id", side])
        names.update((entity, name) for entity, name in named if isinstance(name, str))
    first: dict[str, str] = {}
    return {
        entity: first.setdefault(normal(names[entity]), entity) if entity in names else entity
        for entity in sorted(entities)
    }


def _second_subjects(instances: pd.DataFrame, facts: pd.DataFrame) -> set[str]:
    rules = map(LogicRule.parse, instances["rule"].unique())
    relations = {rule.body[0] for rule in rules if len(rule.body) == 1}
    return set(facts.loc[facts["kept"] & facts["relation_id"].isin(relations), "object_id"].unique())


class _Shares:
    """Shares filled so far, by split."""

    def __init__(self, shares: Mapping[str, float]) -> None:
        self.shares = {name: share for name, share in shares.items() if share > 0}
        self.filled = dict.fromkeys(self.shares, 0.0)

    def take(self, size: float) -> str:
        """Give `size` to the split that is furthest behind its share, the larger one of two equals."""
        name = min(self.shares, key=lambda s: (self.filled[s] / self.shares[s], -self.shares[s], s))
        self.filled[name] += size + 1e-6  # units without weight are distributed as well
        return name
