"""Which facts a model trained from scratch is taught."""

from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest

import pandas as pd

from aftershock.kg.logic import LogicRule
from aftershock.seeds import generator
from aftershock.tables import TAUGHT

KEY = ["subject_id", "relation_id"]
RULE_SHARE = 0.6
MOST_OBJECTS = 10

Key = tuple[str, str]


def select_taught(
    instances: pd.DataFrame, objects: pd.DataFrame, facts: pd.DataFrame, keys: int | None, seed: int
) -> pd.DataFrame:
    """TAUGHT rows: every kept fact, or those of about `keys` (subject, relation) keys that cases can use.

    Of a limited number, .6 are keys of rule instances, drawn from every rule in turn, whole instances at a
    time; the rest have two to ten objects, drawn from every relation in turn. A key comes with all its kept
    objects.
    """
    kept = facts[facts["kept"]]
    if keys is not None:
        known = set(kept[KEY].itertuples(index=False, name=None))
        chosen: dict[Key, None] = {}
        _take(chosen, _instance_keys(instances[instances["kept"]], seed), known, round(RULE_SHARE * keys))
        _take(chosen, _several_keys(objects, seed), known, keys)
        kept = kept[[key in chosen for key in kept[KEY].itertuples(index=False, name=None)]]
    return kept.sort_values([*KEY, "object_id"])[list(TAUGHT.columns)].reset_index(drop=True)


def _take(chosen: dict[Key, None], groups: Iterator[Sequence[Key]], known: set[Key], wanted: int) -> None:
    """Add whole groups of known keys until there are `wanted` keys, or no more groups."""
    for group in groups:
        if len(chosen) >= wanted:
            return
        if known.issuperset(group):
            chosen.update(dict.fromkeys(group))


def _instance_keys(instances: pd.DataFrame, seed: int) -> Iterator[Sequence[Key]]:
    """The keys of each instance, one instance of every rule in turn."""
    queues = []
    for name, rows in instances.groupby("rule", sort=True):
        rule = LogicRule.parse(name)
        triples = rows.sort_values(["x_id", "y_id", "z_id"])[["x_id", "y_id", "z_id"]].to_numpy()
        order = generator(seed, "taught instances", name).permutation(len(triples))
        queues.append([_keys_of(rule, *triples[index][:2]) for index in order])
    return _in_turn(queues)


def _keys_of(rule: LogicRule, x: str, y: str) -> list[Key]:
    """(subject, relation) of every fact of an instance."""
    if len(rule.body) == 1:
        return [(x, rule.body[0]), (y, rule.head)]
    return [(x, rule.body[0]), (y, rule.body[1]), (x, rule.head)]


def _several_keys(objects: pd.DataFrame, seed: int) -> Iterator[Sequence[Key]]:
    """The keys with two to ten objects, one of every relation in turn."""
    sizes = objects.groupby(KEY).size()
    several = sizes[sizes.between(2, MOST_OBJECTS)].index.to_frame(index=False)
    queues = []
    for relation_id, rows in several.groupby("relation_id", sort=True):
        subjects = sorted(rows["subject_id"])
        order = generator(seed, "taught objects", relation_id).permutation(len(subjects))
        queues.append([[(subjects[index], relation_id)] for index in order])
    return _in_turn(queues)


def _in_turn(queues: Sequence[Sequence[Sequence[Key]]]) -> Iterator[Sequence[Key]]:
    """The first of every queue, then the second of every queue, and so on."""
    return (group for group in chain.from_iterable(zip_longest(*queues)) if group is not None)
