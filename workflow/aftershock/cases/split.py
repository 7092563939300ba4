"""Train, dev and test: entities are divided once per graph, before any case is built.

Two entities that are subjects of one rule instance always fall into the same split, so no test case shares a
subject or a tied fact with training or tuning. Where one connected component is too large for that, its
entities are divided one by one and the instances that cross splits are lost.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping

import pandas as pd

from aftershock.seeds import derive

DOMINANT = 0.5  # a component with more than this share of all instances is cut


def components(pairs: Iterable[tuple[Hashable, Hashable]]) -> dict[Hashable, Hashable]:
    """The representative (smallest member) of each node's connected component."""
    parent: dict[Hashable, Hashable] = {}

    def root(node):
        while parent.setdefault(node, node) != node:
            parent[node] = node = parent[parent[node]]
        return node

    for left, right in pairs:
        a, b = root(left), root(right)
        if a != b:
            parent[max(a, b)] = min(a, b)
    return {node: root(node) for node in parent}


def split_entities(
    instances: pd.DataFrame, objects: pd.DataFrame, shares: Mapping[str, float], seed: int
) -> dict[str, str]:
    """The split of every entity that is a subject of a rule instance or of a one-to-many key.

    `instances` are INSTANCES or COMBINATIONS rows, `objects` OBJECTS rows, `shares` sums to one. Components
    are handed out from the largest to the smallest, each to the split that is furthest behind its share.
    """
    weight = Counter(instances["x_id"]) + Counter(objects["subject_id"].drop_duplicates())
    pairs = [
        *zip(instances["x_id"], instances["y_id"], strict=True),
        *((e, e) for e in objects["subject_id"]),
    ]
    groups = defaultdict(list)
    for entity, representative in components(pairs).items():
        groups[representative].append(entity)
    total = sum(weight.values())
    units = []
    for representative, members in groups.items():
        size = sum(weight[entity] for entity in members)
        if size > DOMINANT * total and len(members) > 2:
            units += [(weight[entity], entity, [entity]) for entity in members]
        else:
            units.append((size, representative, members))
    units.sort(key=lambda unit: (-unit[0], derive(seed, "split", unit[1])))
    filled = dict.fromkeys(shares, 0.0)
    assigned = {}
    for size, _, members in units:
        behind = min(
            (name for name in shares if shares[name] > 0), key=lambda name: filled[name] / shares[name]
        )
        filled[behind] += size + 1e-6  # weightless units are spread as well
        assigned.update(dict.fromkeys(members, behind))
    return assigned


def split_of(entities: Iterable[str], splits: Mapping[str, str]) -> str | None:
    """The split that all `entities` share, or None when they lie in different ones."""
    found = {splits[entity] for entity in entities if entity in splits}
    return found.pop() if len(found) == 1 else None
