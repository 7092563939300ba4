"""The first edits of a dataset's test cases, as edits of a sequence; and whom a plan's cases are about."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import pandas as pd

from aftershock.datasets.edit_files.reading import Row
from aftershock.datasets.edit_files.record import SourceEdit
from aftershock.prompts import fill


def case_edits(
    cases: pd.DataFrame, edits: pd.DataFrame, probes: pd.DataFrame, templates: Mapping[str, Sequence[str]]
) -> Iterator[Row]:
    """Yield the first edit of each test case of CASES, EDITS and PROBES; coverage cases have neighbours.

    templates: of each relation its prompt, then its paraphrases.
    """
    tested = set(cases.loc[cases["split"] == "test", "case_id"])
    first = edits[edits["case_id"].isin(tested) & (edits["edit"] == "e1")]
    near = probes[(probes["role"] == "neighbour") & probes["case_id"].isin(tested)]
    others = {case_id: list(rows.itertuples()) for case_id, rows in near.groupby("case_id")}
    for edit in first.sort_values("case_id").itertuples():
        yield Row(
            SourceEdit(
                source_id=str(edit.case_id),
                prompt=edit.prompt,
                subject=edit.subject,
                target_new=edit.target_new,
                target_true=edit.target_true,
                relation=edit.relation_id,
                paraphrases=tuple(fill(t, edit.subject) for t in templates[edit.relation_id][1:]),
                neighbours=tuple(
                    (fill(edit.prompt, other.subject), other.object)
                    for other in others.get(edit.case_id, ())
                    if other.object != edit.target_new
                ),
            )
        )


def subjects_of_cases(cases: Iterable[pd.DataFrame], edits: Iterable[pd.DataFrame], quota: int) -> set[str]:
    """Return the labels of the subjects and true objects of the first `quota` test cases of each dataset.

    An edit about a true object would meet a case as well: the tied fact of a composite case is about one.
    """
    found: set[str] = set()
    for mine, theirs in zip(cases, edits, strict=True):
        ids = sorted(mine.loc[mine["split"] == "test", "case_id"])[:quota]
        own = theirs[theirs["case_id"].isin(ids) & (theirs["edit"] != "control")]
        found |= {*own["subject"], *own["target_true"]}
    return found
