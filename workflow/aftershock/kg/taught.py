"""Selection of the training facts of a model trained from scratch."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest

import pandas as pd

from aftershock.kg.filters import MOST_OBJECTS
from aftershock.kg.logic import LogicRule
from aftershock.seeds import generator
from aftershock.tables.models import TAUGHT

KEY = ["subject_id", "relation_id"]
RULE_SHARE = 0.6
MOST_USES = 3

Key = tuple[str, str]
Instance = frozenset[Key]
"""The (subject, relation) of every fact of a rule's instance."""


def select_taught(
    instances: pd.DataFrame, objects: pd.DataFrame, facts: pd.DataFrame, keys: int | None, seed: int
) -> pd.DataFrame:
    """TAUGHT rows: every kept fact, or those of about `keys` (subject, relation) keys that cases can use.

    Of a limited number, .6 are keys of rule instances, whole instances at a time, every rule in turn; the
    rest have two to ten objects, every relation in turn. A key comes with all its kept objects.
    """
    kept = facts[facts["kept"]]
    if keys is not None:
        known = set(kept[KEY].itertuples(index=False, name=None))
        queues = [
            [instance for instance in queue if instance <= known]
            for queue in _instances(instances[instances["kept"]], seed)
        ]
        chosen = _draw_instances(queues, round(RULE_SHARE * keys))
        for key in _keys_with_several(objects, seed):
            if len(chosen) >= keys:
                break
            chosen |= {key} & known
        kept = kept[[key in chosen for key in kept[KEY].itertuples(index=False, name=None)]]
    return kept.sort_values([*KEY, "object_id"])[list(TAUGHT.columns)].reset_index(drop=True)


def _draw_instances(queues: Sequence[Sequence[Instance]], wanted: int) -> set[Key]:
    """Keys of instances, until there are `wanted` or no instance is left.

    Every rule in turn adds the instance that needs the fewest further keys, the first of those in its queue:
    a family's facts then serve several rules. No key serves more than three added instances of one rule, or
    all holders of an office would come from the same country.
    """
    chosen: set[Key] = set()
    waiting = [list(queue) for queue in queues]
    uses: list[Counter[Key]] = [Counter() for _ in queues]
    while len(chosen) < wanted and any(waiting):
        for number, used in enumerate(uses):
            queue = [
                instance
                for instance in waiting[number]
                if not instance <= chosen and all(used[key] < MOST_USES for key in instance)
            ]
            waiting[number] = queue
            if queue and len(chosen) < wanted:
                added = min(queue, key=lambda instance: len(instance - chosen))
                chosen |= added
                used.update(added)
    return chosen


def _instances(instances: pd.DataFrame, seed: int) -> Iterator[list[Instance]]:
    """The instances of each rule, in an order that depends on the seed."""
    for name, rows in instances.groupby("rule", sort=True):
        rule = LogicRule.parse(name)
        pairs = rows.sort_values(["x_id", "y_id", "z_id"])[["x_id", "y_id"]].to_numpy()
        order = generator(seed, "taught instances", name).permutation(len(pairs))
        yield [_instance(rule, *pairs[index]) for index in order]


def _instance(rule: LogicRule, x: str, y: str) -> Instance:
    if len(rule.body) == 1:
        return frozenset({(x, rule.body[0]), (y, rule.head)})
    return frozenset({(x, rule.body[0]), (y, rule.body[1]), (x, rule.head)})


def _keys_with_several(objects: pd.DataFrame, seed: int) -> Iterator[Key]:
    """The keys with two to ten objects, one of every relation in turn."""
    sizes = objects.groupby(KEY).size()
    several = sizes[sizes.between(2, MOST_OBJECTS)].index.to_frame(index=False)
    queues = []
    for relation_id, rows in several.groupby("relation_id", sort=True):
        subjects = sorted(rows["subject_id"])
        order = generator(seed, "taught objects", relation_id).permutation(len(subjects))
        queues.append([(subjects[index], relation_id) for index in order])
    return (key for key in chain.from_iterable(zip_longest(*queues)) if key is not None)
