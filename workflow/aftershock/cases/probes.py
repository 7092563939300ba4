"""What each case asks of the model, and the controls without which a change could be blamed on the conflict.

Roles of a conflict case:

    old             k_o, the fact that the first edit writes
    new_exp         k_n, explicit: the fact that the second edit writes
    new_imp         k_n, implicit: what follows from the second edit for the first one's relation
    tied            k_f, the tied fact (composite)
    e1_true         the true fact that the first edit replaces
    e2_true         the second edit's old object at its own prompt
    in_context      e2_true again, asked after the facts that it is deduced from: tied and e1_true (composite)
    control_same    another fact of the tied fact's subject
    control_unrelated   a tied fact of an unrelated case
    neighbour       the same relation of other subjects (coverage)
    neighbour_new   the second edit's new object for the neighbour's subject, in the neighbours' order
    same_subject    other facts of the same subject (coverage)

Roles of a round case: `original` (o1), `target` (o*), `object` (the other true objects) and
`control_object` (all true objects of another key).
"""

from collections.abc import Iterator, Sequence

import numpy as np

from aftershock.cases.conflict import ConflictCase
from aftershock.cases.graph_facts import Fact, FactIndex
from aftershock.cases.round_edit import RoundCase

ALL_PROMPTS, EDIT_PROMPT, IN_CONTEXT = "all", "edit", "context"
Probe = tuple[str, Fact, str]  # role, fact, which prompts are scored
NEIGHBOURS = 5
SAME_SUBJECT = 4


def conflict_probes(
    dataset: str,
    case: ConflictCase,
    others: Sequence[ConflictCase],
    index: FactIndex,
    rng: np.random.Generator,
) -> Iterator[Probe]:
    """The probes of `case`; `others` are unrelated cases that lend their tied facts."""
    yield "old", case.first.new, ALL_PROMPTS
    yield "new_exp", case.second.new, ALL_PROMPTS
    yield "new_imp", case.implicit, ALL_PROMPTS
    yield "e1_true", case.first.old, ALL_PROMPTS
    if case.second.old != case.first.new:
        yield "e2_true", case.second.old, ALL_PROMPTS
    if case.tied:
        yield "tied", case.tied, ALL_PROMPTS
        yield "in_context", case.second.old, IN_CONTEXT
        touched = {case.tied.relation_id, case.second.relation_id}
        same = [f for f in index.by_subject[case.tied.subject_id] if f.relation_id not in touched]
        yield from _some("control_same", same, 1, ALL_PROMPTS, index, rng)
        tied = sorted({other.tied for other in others if other.tied} - {case.tied})
        yield from _some("control_unrelated", tied, 1, ALL_PROMPTS, index, rng)
    if dataset == "coverage":
        key = case.first.old.key
        near = [f for f in index.by_relation[key[1]] if f.subject_id != key[0]]
        chosen = list(_some("neighbour", near, NEIGHBOURS, EDIT_PROMPT, index, rng))
        yield from chosen
        for _, fact, _ in chosen:
            new = Fact(fact.subject_id, fact.relation_id, case.second.new_id)
            yield "neighbour_new", new, EDIT_PROMPT
        same = [f for f in index.by_subject[key[0]] if f.relation_id != key[1]]
        yield from _some("same_subject", same, SAME_SUBJECT, EDIT_PROMPT, index, rng)


def round_probes(case: RoundCase, control: RoundCase | None) -> Iterator[Probe]:
    """The probes of `case`; `control` is another key whose objects should not move."""
    yield "original", Fact(*case.key, case.original_id), ALL_PROMPTS
    yield "target", Fact(*case.key, case.target_id), ALL_PROMPTS
    for object_id in case.object_ids:
        if object_id != case.original_id:
            yield "object", Fact(*case.key, object_id), ALL_PROMPTS
    if control:
        for object_id in control.object_ids:
            yield "control_object", Fact(*control.key, object_id), ALL_PROMPTS


def _some(
    role: str, facts: Sequence[Fact], n: int, prompts: str, index: FactIndex, rng: np.random.Generator
) -> Iterator[Probe]:
    """Up to `n` of `facts`, those that the model knows first: an unknown fact cannot be lost."""
    order = rng.permutation(len(facts))
    shuffled = sorted((facts[i] for i in order), key=lambda fact: not index.knows(fact))
    for fact in shuffled[:n]:
        yield role, fact, prompts
