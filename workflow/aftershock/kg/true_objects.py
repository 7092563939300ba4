"""All true objects of the subjects and relations that conflict cases may edit.

Of a large graph a sample has every listed fact of some subjects. Rules hold for others as well, and of these
only what the rules say has been read: what else is true of them is asked here, so that no false object of a
case is true after all.
"""

import logging
from collections import Counter, defaultdict

import pandas as pd

from aftershock.kg.logic import LogicRule
from aftershock.kg.source import Source

log = logging.getLogger(__name__)

FACT_KEY = ["subject_id", "relation_id", "object_id"]
Keys = dict[str, set[str]]


def keys_of_cases(sample: pd.DataFrame, combinations: pd.DataFrame, objects: pd.DataFrame) -> Keys:
    """Subjects by relation of the facts that cases may edit, less those of which the sample has all facts.

    Cases edit the facts of a rule's instances (COMBINATIONS rows). A reverse case's second edit is about the
    first one's target, which may be any object of the body's relation in SAMPLE or OBJECTS rows or instances.
    """
    keys: Keys = defaultdict(set)
    values: Keys = defaultdict(set)
    heads: dict[str, set[str]] = defaultdict(set)
    for frame in (sample, objects):
        for relation_id, found in frame.groupby("relation_id")["object_id"]:
            values[relation_id].update(found)
    for text, rows in combinations.groupby("rule"):
        rule = LogicRule.parse(text)
        for subject, relation_id, found in rule.facts:
            keys[relation_id].update(rows[f"{subject}_id"])
            values[relation_id].update(rows[f"{found}_id"])
        if len(rule.body) == 1:
            heads[rule.body[0]].add(rule.head)
    for relation_id, wanted in heads.items():
        for head in wanted:
            keys[head] |= values[relation_id]
    sampled = set(sample["subject_id"])
    return {relation_id: found - sampled for relation_id, found in sorted(keys.items())}


def find_true_objects(source: Source, keys: Keys) -> tuple[pd.DataFrame, Counter]:
    """TRUE_OBJECTS rows: the facts of `keys`, subjects by relation; and what was left out.

    Each subject is asked for once, with all relations.
    """
    subjects = set().union(*keys.values())
    found = source.facts_about(subjects, sorted(keys)) if subjects else None
    rows = [row for row in found.ids if row[0] in keys[row[1]]] if found else []
    log.info("%d true objects of %d subjects that were not sampled", len(rows), len(subjects))
    return pd.DataFrame(rows, columns=FACT_KEY), found.odd if found else Counter()
