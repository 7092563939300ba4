"""The entities for which a kept logic rule holds, and those with several objects."""

import logging
from collections import Counter

import pandas as pd

from aftershock.kg.filters import MOST_OBJECTS
from aftershock.kg.graph import Graph
from aftershock.kg.logic import BodyRule, LogicRule
from aftershock.kg.sampling import hash_limit, iri_hash
from aftershock.kg.source import Source

log = logging.getLogger(__name__)

REPEATED = "an entity twice in one instance"
NOT_SAMPLED = "not in the sample"


def find_combinations(
    source: Source, rule: LogicRule, max_combinations: int, seed: int, head_holds: bool = True
) -> tuple[pd.DataFrame, Counter]:
    """COMBINATIONS rows of one rule, x, y and z distinct (z is x in a binary rule), and what was left out.

    Of more than `max_combinations` those with the smallest seeded hashes are taken, and the others counted.
    Unless `head_holds`, the body is enough.
    """
    asked = rule if head_holds else BodyRule(rule.body, rule.head)
    total = source.count_instances(asked)
    limit = hash_limit(max_combinations, total)
    repeated: set[tuple[str, ...]] = set()  # no counter: a page may be read twice

    def hashed(ids: tuple[str, ...]) -> str:
        return iri_hash(seed, *map(source.graph.iri, ids))

    def usable(ids: tuple[str, ...]) -> bool:
        if len(set(ids)) < len(ids):
            repeated.add(ids)
            return False
        return limit is None or hashed(ids) < limit

    found = source.instances(asked, total, keep=usable)
    ids = found.ids
    if len(ids) > max_combinations:
        ids = sorted(sorted(ids, key=hashed)[:max_combinations])
    if not ids:
        log.warning("rule %s of rules.tsv has no instance in this graph", rule)
    rest = total - found.odd.total() - len(repeated) - len(ids)
    left = +(found.odd + Counter({REPEATED: len(repeated), NOT_SAMPLED: rest}))
    log.info("%d instances of %s; left out: %s", len(ids), rule, dict(left) or "nothing")
    rows = [(str(rule), *row, *row[: 3 - len(row)]) for row in ids]
    return pd.DataFrame(rows, columns=["rule", "x_id", "y_id", "z_id"]), left


def find_objects(
    source: Source,
    relation_id: str,
    least: int = 2,
    most: int = MOST_OBJECTS,
    max_keys: int | None = None,
    seed: int = 0,
) -> tuple[pd.DataFrame, Counter]:
    """OBJECTS rows of one relation: all objects of the subjects that have 2 to 10 of them; what was left out.

    The paper says "below 10", its released files go up to 10. Of more than `max_keys` such subjects those
    with the smallest seeded hashes are asked for, and the others counted.
    """
    counts = source.object_counts(relation_id, least)
    left: Counter = Counter()
    if max_keys is not None:
        counts = _sampled(source.graph, counts, most, max_keys, seed, left)
    found = source.objects(relation_id, counts)
    frame = pd.DataFrame(found.ids, columns=["subject_id", "object_id"])
    frame.insert(1, "relation_id", relation_id)
    numbers = frame.groupby("subject_id")["object_id"].transform("size")
    frame = frame[numbers.between(least, most)].reset_index(drop=True)
    if frame.empty:
        log.warning("no subject of %s has %d to %d objects in this graph", relation_id, least, most)
    left += found.odd
    log.info("%d subjects of %s; left out: %s", frame["subject_id"].nunique(), relation_id, dict(left))
    return frame, left


def _sampled(
    graph: Graph, counts: dict[str, int], most: int, max_keys: int, seed: int, left: Counter
) -> dict[str, int]:
    """The entries of `max_keys` subjects with the smallest hashes, of those with up to `most` objects.

    All entries where there are no more: a subject with more statements may have few that name entities.
    """
    usable = [s for s, number in counts.items() if number <= most]
    if len(usable) <= max_keys:
        return counts
    taken = sorted(usable, key=lambda s: iri_hash(seed, graph.iri(s)))[:max_keys]
    left[NOT_SAMPLED] += len(usable) - len(taken)
    return {s: counts[s] for s in taken}
