"""Filters of the facts, rule instances and one-to-many keys that can become cases, with reasons.

Labels with braces, quotes or markup pass: they are data. Dropped is what a prompt cannot say or a score
cannot distinguish.
"""

import logging
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from aftershock.kg.graph import Graph
from aftershock.kg.logic import LogicRule
from aftershock.kg.sampling import iri_hash
from aftershock.kg.screen import Screen
from aftershock.matching import normal
from aftershock.prompts import JOINT, names_in_examples

log = logging.getLogger(__name__)

REDIRECT = "redirect"
MISSING = "missing label"
ID_LIKE = "label equals an id"
NO_LETTER = "label without a letter"
UNREADABLE = "label with control characters, line breaks or spaces around it"
IDENTICAL = "identical subject and object"
SAME_LABEL = "two entities with the same label"
TWIN = "duplicate label among the true objects"
LIVING = "living person"
EXAMPLE = "an example sentence of the prompt names the subject"
BESIDE = "true, but beside the sample"
OTHER_RANK = "true, but not by a statement of the best rank"
LONELY = "the only object left of its key"
CROWDED = "more than ten objects of its key, since redirects were followed"
RULE_DROPPED = "the rule was dropped after it was measured"
SEVERAL_ANSWERS = "the head's subject has several objects"
SUBJECT_OFTEN = "a subject serves the rule often enough"
TIED_OFTEN = "the tied fact serves the rule often enough"

UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # Unicode categories; Cf, which holds direction marks, is fine
MOST_OBJECTS = 10  # of a one-to-many key
KEY = ["subject_id", "relation_id"]
FACT_KEY = [*KEY, "object_id"]


def label_fault(label: str, graph: Graph) -> str | None:
    """The reason that a label cannot be used in a prompt; None when it can."""
    if graph.is_id(label):
        return ID_LIKE
    if label != label.strip().strip(JOINT) or any(
        unicodedata.category(char) in UNPRINTABLE for char in label
    ):
        return UNREADABLE
    if not any(char.isalpha() for char in label):
        return NO_LETTER
    return None


class Names:
    """Labels of entities, and their faults."""

    def __init__(
        self,
        labels: pd.DataFrame,
        graph: Graph,
        screen: Screen | None = None,
        living: Collection[str] = (),
    ) -> None:
        """Read LABELS rows; labels that `screen` rejects and entities among the `living` are faulty."""
        self.graph = graph
        screen, living = screen or Screen(), set(living)
        self.labels: dict[str, str | None] = {}
        self.faults: dict[str, str] = {}
        for row in labels.itertuples(index=False):
            label = row.label if isinstance(row.label, str) else None
            self.labels[row.entity_id] = label
            fault = MISSING if label is None else label_fault(label, graph) or screen.fault(label)
            fault = LIVING if row.entity_id in living else fault
            fault = REDIRECT if isinstance(row.redirect, str) else fault
            if fault:
                self.faults[row.entity_id] = fault

    def of(self, entity_ids: pd.Series) -> pd.Series:
        """The label of each, None where there is none; ValueError when an entity was not looked up."""
        try:
            labels = [self.labels[entity_id] for entity_id in entity_ids]
        except KeyError as error:
            raise ValueError(
                f"no label was looked up for {error}; delete the labels and run again"
            ) from error
        return pd.Series(labels, index=entity_ids.index, dtype=object)

    def fault(self, *columns: pd.Series) -> pd.Series:
        """Per row the first fault of its entities; None when they have none and differ in their labels."""
        rows = zip(*columns, strict=True)
        return pd.Series([self._fault(row) for row in rows], index=columns[0].index, dtype=object)

    def _fault(self, entity_ids: tuple[str, ...]) -> str | None:
        for entity_id in entity_ids:
            if entity_id in self.faults:
                return self.faults[entity_id]
        different = set(entity_ids)
        names = {normal(self.labels[e] or "") for e in different}
        return SAME_LABEL if len(names) < len(different) else None


def filter_facts(
    sample: pd.DataFrame,
    names: Names,
    prompts: Mapping[str, str] | None = None,
    beside: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """FACTS rows: every fact of the sample with its labels, whether it is kept, and if not the reason.

    Of objects of one key with the same label, the one with the first id is kept. `prompts` are the relations'
    edit prompts: none may state facts about the subject before its query. Facts that only `beside` has
    (TRUE_OBJECTS rows) are dropped: they say what is true, but nothing is made of them, and what else is true
    of their objects was not asked.
    """
    facts = sample.assign(subject=names.of(sample["subject_id"]), object=names.of(sample["object_id"]))
    reason = names.fault(facts["subject_id"], facts["object_id"])
    reason = reason.mask(facts["subject_id"] == facts["object_id"], IDENTICAL)
    reason = reason.mask(reason.isna() & _told(facts, names, prompts), EXAMPLE)
    facts = _judged(facts, _mark_twins(facts, reason))
    return facts if beside is None else _with_others(facts, beside, names)


def _with_others(facts: pd.DataFrame, beside: pd.DataFrame, names: Names) -> pd.DataFrame:
    """FACTS rows of `facts` and, dropped, of what else is true."""
    once = beside.sort_values("best", ascending=False).drop_duplicates(FACT_KEY)  # redirects make some equal
    more = once.merge(facts[FACT_KEY], how="left", indicator=True)
    more = more[more["_merge"] == "left_only"]
    if more.empty:
        return facts
    reason = more["best"].map({True: BESIDE, False: OTHER_RANK})
    labels = {"subject": names.of(more["subject_id"]), "object": names.of(more["object_id"])}
    more = more[FACT_KEY].assign(**labels, kept=False, reason=reason)
    return pd.concat([facts, more]).sort_values(FACT_KEY, ignore_index=True)


@dataclass(frozen=True)
class Limits:
    """Number of cases that an entity or a fact may serve per logic rule; whether answers must be unique."""

    max_per_subject: int | None = None
    max_per_tied_fact: int | None = None
    unique_answers: bool = False
    seed: int = 0


def complete(
    sample: pd.DataFrame,
    combinations: pd.DataFrame,
    objects: pd.DataFrame,
    head_holds: bool,
    true_objects: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """SAMPLE rows of the sample, of all rule instances and of all one-to-many keys, each once, sorted.

    Of a large graph the sample has only a part. Unless `head_holds`, instances were asked for without their
    heads, and only those that `true_objects` (TRUE_OBJECTS rows) have are taken.
    """
    parts = [sample[FACT_KEY], objects[FACT_KEY]]
    for text, rows in combinations.groupby("rule"):
        *body, head = (_facts_of(rows, fact) for fact in LogicRule.parse(text).facts)
        parts += body
        if head_holds:
            parts.append(head)
        elif true_objects is not None:
            parts.append(head.merge(true_objects.loc[true_objects["best"], FACT_KEY]))
    whole = pd.concat(parts, ignore_index=True).astype("str").drop_duplicates()
    return whole.sort_values(FACT_KEY, ignore_index=True)


def _facts_of(instances: pd.DataFrame, fact: tuple[str, str, str]) -> pd.DataFrame:
    """One fact of a rule (subject variable, relation, object variable), for each of its instances."""
    subject, relation_id, found = fact
    ids = {"subject_id": instances[f"{subject}_id"], "object_id": instances[f"{found}_id"]}
    return pd.DataFrame(ids).assign(relation_id=relation_id)[FACT_KEY]


def filter_instances(
    combinations: pd.DataFrame,
    facts: pd.DataFrame,
    names: Names,
    limits: Limits | None = None,
    kept_rules: Collection[str] | None = None,
) -> pd.DataFrame:
    """INSTANCES rows: every combination, whether it is kept, and if not the reason.

    `facts` are FACTS rows: an instance falls with any fact that it is made of, and where one would link an
    entity with itself: entities that differed may redirect to one. Rules that are not among
    `kept_rules` were dropped after their instances had been looked for.
    """
    limits = limits or Limits()
    reason = names.fault(*(combinations[name] for name in ("x_id", "y_id", "z_id")))
    dropped = facts[~facts["kept"]]
    fallen = dict(zip(dropped[FACT_KEY].itertuples(index=False, name=None), dropped["reason"], strict=True))
    for text, rows in combinations.groupby("rule"):
        for subject, relation_id, found in LogicRule.parse(text).facts:
            ids = zip(rows[f"{subject}_id"], rows[f"{found}_id"], strict=True)
            faults = [IDENTICAL if s == o else fallen.get((s, relation_id, o)) for s, o in ids]
            of_fact = pd.Series(faults, rows.index, dtype=object)
            reason = reason.where(reason.notna(), of_fact.reindex(reason.index))
    if kept_rules is not None:
        reason = reason.mask(reason.isna() & ~combinations["rule"].isin(kept_rules), RULE_DROPPED)
    if limits.unique_answers:
        reason = reason.mask(reason.isna() & _ambiguous(combinations, facts), SEVERAL_ANSWERS)
    return _judged(combinations, _capped(combinations, reason, limits, names.graph))


def _ambiguous(combinations: pd.DataFrame, facts: pd.DataFrame) -> pd.Series:
    """True for each combination whose head subject has several objects of the head's relation."""
    several = set(facts.loc[facts.duplicated(KEY), KEY].itertuples(index=False, name=None))
    found = pd.Series(False, index=combinations.index)
    for text, rows in combinations.groupby("rule"):
        subject, relation_id, _ = LogicRule.parse(text).facts[-1]
        found[rows.index] = [(s, relation_id) in several for s in rows[f"{subject}_id"]]
    return found


def _capped(combinations: pd.DataFrame, reason: pd.Series, limits: Limits, graph: Graph) -> pd.Series:
    """`reason`, with one for each instance that is not among the first of its subject or tied fact.

    First are those with the smallest seeded hashes. An instance has to be among the first of x, of y and of
    the fact between them, whatever else falls: the choice depends on no order of steps.
    """
    caps: Sequence[tuple[list[str], int | None, str]] = (
        (["rule", "x_id"], limits.max_per_subject, SUBJECT_OFTEN),
        (["rule", "y_id"], limits.max_per_subject, SUBJECT_OFTEN),
        (["rule", "x_id", "y_id"], limits.max_per_tied_fact, TIED_OFTEN),
    )
    usable = combinations[reason.isna()]
    rows = usable[["x_id", "y_id", "z_id"]].itertuples(index=False, name=None)
    hashes = pd.Series(
        [iri_hash(limits.seed, *map(graph.iri, row)) for row in rows], usable.index, dtype=object
    )
    ordered = usable.assign(hash=hashes).sort_values(["hash", "x_id", "y_id", "z_id"])
    for columns, cap, text in caps:
        if cap is not None:
            surplus = ordered.index[ordered.groupby(columns).cumcount() >= cap]
            reason = reason.mask(reason.isna() & reason.index.isin(surplus), text)
    return reason


def filter_objects(
    objects: pd.DataFrame, names: Names, prompts: Mapping[str, str] | None = None
) -> tuple[pd.DataFrame, Counter]:
    """OBJECTS rows of the keys that keep two to ten objects, and how many rows were dropped by reason.

    `prompts` as in `filter_facts`.
    """
    objects = objects.reset_index(drop=True)
    reason = names.fault(objects["subject_id"], objects["object_id"])
    reason = reason.mask(reason.isna() & _told(objects, names, prompts), EXAMPLE)
    reason = _mark_twins(objects.assign(object=names.of(objects["object_id"])), reason)
    kept = objects[reason.isna()]
    sizes = kept.groupby(KEY)["object_id"].transform("size")
    dropped = Counter(reason.dropna())
    dropped[LONELY], dropped[CROWDED] = int((sizes < 2).sum()), int((sizes > MOST_OBJECTS).sum())
    return kept[sizes.between(2, MOST_OBJECTS)].reset_index(drop=True), +dropped


def _told(facts: pd.DataFrame, names: Names, prompts: Mapping[str, str] | None) -> pd.Series:
    """True for facts whose prompt's example sentences name the subject, and so give the answer away."""
    found = pd.Series(False, index=facts.index)
    for relation_id, rows in facts.groupby("relation_id"):
        if prompt := (prompts or {}).get(relation_id):
            labels = names.of(rows["subject_id"])
            found[rows.index] = [bool(label) and names_in_examples(prompt, label) for label in labels]
    return found


def sample_keys(objects: pd.DataFrame, max_keys: int | None, seed: int, graph: Graph) -> pd.DataFrame:
    """The OBJECTS rows of `max_keys` (subject, relation) keys, those with the smallest seeded hashes."""
    keys = list(objects[KEY].drop_duplicates().itertuples(index=False, name=None))
    if max_keys is None or len(keys) <= max_keys:
        return objects
    taken = set(sorted(keys, key=lambda key: (iri_hash(seed, graph.iri(key[0]), key[1]), key))[:max_keys])
    chosen = [key in taken for key in objects[KEY].itertuples(index=False, name=None)]
    return objects[chosen].reset_index(drop=True)


def _judged(frame: pd.DataFrame, reason: pd.Series) -> pd.DataFrame:
    return frame.assign(kept=reason.isna(), reason=reason.where(reason.notna(), None))


def _mark_twins(facts: pd.DataFrame, reason: pd.Series) -> pd.Series:
    """`reason`, and TWIN for each fact whose key has a usable object of the same label with an earlier id."""
    usable = facts[reason.isna()].sort_values(FACT_KEY)
    usable = usable.assign(object=usable["object"].map(normal))
    twins = usable.index[usable.duplicated([*KEY, "object"])]
    return reason.mask(reason.index.isin(twins), TWIN)
