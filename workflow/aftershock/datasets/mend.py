"""Training edits of MEND's hypernetwork: facts whose entities lie in the train or the dev split.

An edit writes a false object of the same split; it is made with the relation's edit prompt and asked for with
paraphrases. The last paraphrases are left out, so that those held out from a model stay unseen here as well.
Texts that an edit should leave alone are true facts of the same split, or come from a file (see `locality`).
"""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from aftershock.datasets.asked import facts_of_instances
from aftershock.datasets.graph_facts import Fact, FactIndex, as_facts
from aftershock.datasets.split import split_of
from aftershock.datasets.targets import Targets
from aftershock.prompts import fill
from aftershock.seeds import generator

SPLITS = ("train", "dev")
KINDS = {"all": ("conflict", "round"), "conflict": ("conflict",), "round": ("round",)}
"""Kinds of cases whose facts a hypernetwork is trained on."""
HELD_OUT = 3  # last paraphrases of a relation, which no training text has
TARGETS = 8  # false objects that are written for one fact, each an edit of its own

EDIT_COLUMNS = ["split", "subject_id", "subject", "relation_id", "prompts", "target_new"]
LOCAL_COLUMNS = ["split", "subject", "relation_id", "prompt", "target"]


def training_edits(
    kind: str,
    instances: pd.DataFrame,
    objects: pd.DataFrame,
    prompts: pd.DataFrame,
    index: FactIndex,
    splits: Mapping[str, str],
    seed: int = 0,
    targets: int = TARGETS,
) -> pd.DataFrame:
    """EDIT_COLUMNS: `prompts` are filled with the subject, the edit prompt first, paraphrases after it.

    `instances` are INSTANCES rows, `objects` OBJECTS or OBJECT_SCORES, `splits` has the split of each entity
    that can be the subject of an edit, the same as when cases are built. A fact belongs to a split when its
    subject does and its object does not lie in another one; so does the false object that is written.
    """
    texts = templates(prompts)
    rows = []
    for split in SPLITS:
        pool = Targets(index, splits, split)
        for fact in _facts(kind, instances, objects, index, splits, split):
            rng = generator(seed, "mend targets", split, *fact)
            subject = index.labels[fact.subject_id]
            avoid: list[str] = []
            for _ in range(targets):
                target = pool.draw(*fact.key, avoid, rng)
                if target is None:
                    break
                avoid.append(target)
                asked = [fill(template, subject) for template in texts[fact.relation_id]]
                row = (fact.subject_id, subject, fact.relation_id, asked, index.labels[target])
                rows.append((split, *row))
    edits = pd.DataFrame(rows, columns=EDIT_COLUMNS)
    for split in SPLITS:
        if split not in set(edits["split"]):
            raise ValueError(
                f"there is no edit to train on in split {split!r} of kind {kind!r}: raise cases.split.{split}"
            )
    return edits


def graph_locality(
    instances: pd.DataFrame,
    objects: pd.DataFrame,
    prompts: pd.DataFrame,
    index: FactIndex,
    splits: Mapping[str, str],
) -> pd.DataFrame:
    """LOCAL_COLUMNS: every true fact of train and dev after every prompt that training may use."""
    texts, labels = templates(prompts), index.labels
    rows = [
        (
            split,
            labels[fact.subject_id],
            fact.relation_id,
            fill(template, labels[fact.subject_id]),
            labels[fact.object_id],
        )
        for split in SPLITS
        for fact in _facts("all", instances, objects, index, splits, split)
        for template in texts[fact.relation_id]
    ]
    return pd.DataFrame(rows, columns=LOCAL_COLUMNS)


def templates(prompts: pd.DataFrame) -> dict[str, Sequence[str]]:
    """The edit prompt of each relation and its paraphrases but the last ones."""
    ordered = prompts.sort_values(["relation_id", "prompt_id"])
    return {name: list(rows["template"])[:-HELD_OUT] for name, rows in ordered.groupby("relation_id")}


def _facts(
    kind: str,
    instances: pd.DataFrame,
    objects: pd.DataFrame,
    index: FactIndex,
    splits: Mapping[str, str],
    split: str,
) -> Iterator[Fact]:
    """The kept facts of one split, sorted."""
    parts = {"conflict": facts_of_instances(instances), "round": objects}
    columns = ["subject_id", "relation_id", "object_id"]
    rows = pd.concat([parts[part][columns] for part in KINDS[kind]]).drop_duplicates().sort_values(columns)
    for fact in as_facts(rows):
        mine = split_of((fact.subject_id, fact.object_id), splits) == split
        if mine and fact.subject_id in splits and fact in index.facts:
            yield fact
