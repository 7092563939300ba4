"""All true objects of the subjects and relations that conflict cases may edit.

Of a large graph a sample has every listed fact of some subjects. Rules hold for others as well, and of these
only what the rules say has been read: what else is true of them is asked here, so that no false object of a
case is true after all. So is, of all subjects, what the graph says by statements that are not of the best
rank, such as former spouses: a target may not be one of these either.
"""

import logging
from collections import Counter, defaultdict

import pandas as pd

from aftershock.kg.logic import LogicRule
from aftershock.kg.pages import Found
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


def find_true_objects(source: Source, keys: Keys, read: pd.DataFrame) -> tuple[pd.DataFrame, Counter]:
    """TRUE_OBJECTS rows: the facts of `keys`, subjects by relation; and what was left out.

    Of these, and of the subjects of `read` (SAMPLE or OBJECTS rows), also what only statements of other ranks
    say. Each subject is asked for once, with all relations.
    """
    subjects = set().union(*keys.values())
    found = source.facts_about(subjects, sorted(keys)) if subjects else Found()
    best = {row for row in found.ids if row[0] in keys[row[1]]}
    known = {*best, *read[FACT_KEY].itertuples(index=False, name=None)}
    relation_ids = sorted({*keys, *read["relation_id"]})
    stated = source.stated_about({*subjects, *read["subject_id"]}, relation_ids)
    others = set(stated.ids) - known
    log.info("%d true objects of %d subjects that were not sampled", len(best), len(subjects))
    log.info("%d true objects by statements that are not of the best rank", len(others))
    rows = sorted([*((*row, True) for row in best), *((*row, False) for row in others)])
    frame = pd.DataFrame(rows, columns=[*FACT_KEY, "best"]).astype({"best": bool})
    return frame, found.odd
