"""Partition of a connected graph into parts of given sizes that cuts few edges.

Parts grow one after the other from the best connected node, the largest part first, always taking in the node
that keeps most edges inside (greedy graph growing, Karypis and Kumar 1998, section 4.2.2). Then single nodes
move to the part where most of their edges are, as long as sizes allow.
"""

import heapq
from collections import defaultdict
from collections.abc import Mapping

from aftershock.seeds import derive

SLACK = 0.05  # share of its size by which a part may grow or shrink when nodes move
SWEEPS = 10

Edges = Mapping[tuple[str, str], float]


def cut(edges: Edges, weight: Mapping[str, float], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """The part, one of `shares` by name, of each node of `edges`.

    `edges` maps pairs of nodes to what cutting them loses, `weight` nodes to what they count of a part's
    share; a node without weight counts nothing.
    """
    links: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for (left, right), value in edges.items():
        if left != right:
            links[left][right] += value
            links[right][left] += value
    nodes = sorted({node for pair in edges for node in pair})
    order = {node: derive(seed, "cut", node) for node in nodes}
    nodes.sort(key=lambda node: (-sum(links[node].values()), order[node]))
    sizes = {name: share * sum(weight.get(n, 0) for n in nodes) for name, share in shares.items() if share}
    names = sorted(sizes, key=lambda name: (-sizes[name], name))
    part: dict[str, str] = {}
    for name in names[:-1]:
        _grow(name, sizes[name], nodes, links, weight, order, part)
    for node in nodes:
        part.setdefault(node, names[-1])
    _refine(nodes, links, weight, sizes, part)
    return part


def _grow(
    name: str,
    size: float,
    nodes: list[str],
    links: Mapping[str, Mapping[str, float]],
    weight: Mapping[str, float],
    order: Mapping[str, int],
    part: dict[str, str],
) -> None:
    """Add nodes to part `name` until it has its size."""
    filled = 0.0
    inside: dict[str, float] = defaultdict(float)  # edges of an outer node into the part
    open_: dict[str, float] = {}  # edges of an outer node to nodes of no earlier part
    waiting: list[tuple[float, int, str]] = []
    seeds = iter([node for node in nodes if node not in part])
    while filled < size:
        node = heapq.heappop(waiting)[2] if waiting else next(seeds, None)
        if node is None:
            return
        if node in part:
            continue
        part[node] = name
        filled += weight.get(node, 0)
        for other, value in links[node].items():
            if other not in part:
                if other not in open_:
                    open_[other] = sum(v for n, v in links[other].items() if part.get(n, name) == name)
                inside[other] += value
                heapq.heappush(waiting, (open_[other] - 2 * inside[other], order[other], other))


def _refine(
    nodes: list[str],
    links: Mapping[str, Mapping[str, float]],
    weight: Mapping[str, float],
    sizes: Mapping[str, float],
    part: dict[str, str],
) -> None:
    """Move nodes to the part that most of their edges lead to, within the parts' size limits."""
    filled = dict.fromkeys(sizes, 0.0)
    for node in nodes:
        filled[part[node]] += weight.get(node, 0)
    for _ in range(SWEEPS):
        moved = False
        for node in nodes:
            pull: dict[str, float] = defaultdict(float)
            for other, value in links[node].items():
                pull[part[other]] += value
            here, mine = part[node], weight.get(node, 0)
            there = max(sorted(sizes), key=lambda name: pull[name])
            if (
                pull[there] > pull[here]
                and filled[there] + mine <= sizes[there] * (1 + SLACK)
                and filled[here] - mine >= sizes[here] * (1 - SLACK)
            ):
                part[node] = there
                filled[there] += mine
                filled[here] -= mine
                moved = True
        if not moved:
            return
