"""Edits of facts that a model knows: each is given a false object, as conflict cases get theirs.

Facts of test subjects come first, then those of dev subjects, both in random order. Those of train subjects
are left out, as MEND and SERAC learn from edits of them.
"""

from collections.abc import Iterator, Mapping, Sequence

from aftershock.datasets.edit_files.reading import Row
from aftershock.datasets.edit_files.record import SourceEdit
from aftershock.datasets.graph_facts import Fact, FactIndex
from aftershock.datasets.probes import Neighbours
from aftershock.datasets.targets import Targets
from aftershock.prompts import fill
from aftershock.seeds import generator

SPLITS = ("test", "dev")


def graph_edits(
    index: FactIndex,
    splits: Mapping[str, str],
    templates: Mapping[str, Sequence[str]],
    seed: int,
    neighbours: int,
) -> Iterator[Row]:
    """Yield an edit for each fact that the model knows, or why there is none.

    templates: of each relation its prompt, then its paraphrases; neighbours: facts of other subjects to give.
    """
    for split in SPLITS:
        mine = sorted(fact for fact in index.known & index.facts if splits.get(fact.subject_id) == split)
        near, targets = Neighbours(index, splits, split), Targets(index, splits, split)
        for place in generator(seed, "sequence", split).permutation(len(mine)):
            fact = mine[place]
            rng = generator(seed, "sequence", *fact)
            target = targets.draw(fact.subject_id, fact.relation_id, (), rng)
            if target is None:
                yield Row(None, f"no other object is known for {index.labels[fact.subject_id]!r}")
                continue
            others = near.draw(fact.subject_id, fact.relation_id, neighbours, rng, target)
            yield Row(_edit(index, fact, target, templates[fact.relation_id], others))


def _edit(
    index: FactIndex, fact: Fact, target: str, templates: Sequence[str], others: Sequence[Fact]
) -> SourceEdit:
    labels = index.labels
    prompt, *paraphrases = templates
    subject, new = labels[fact.subject_id], labels[target]
    return SourceEdit(
        source_id=" ".join(fact),
        prompt=prompt,
        subject=subject,
        target_new=new,
        target_true=labels[fact.object_id],
        relation=fact.relation_id,
        paraphrases=tuple(fill(template, subject) for template in paraphrases),
        neighbours=tuple(
            (fill(prompt, labels[other.subject_id]), labels[other.object_id]) for other in others
        ),
    )
