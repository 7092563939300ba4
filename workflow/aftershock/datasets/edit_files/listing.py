"""The edits of a plan and what a model is asked about them, as tables."""

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import pandas as pd

from aftershock.datasets.edit_files.choose import REASONS, Listed, counts
from aftershock.datasets.edit_files.record import SourceEdit
from aftershock.prompts import fill
from aftershock.tables.sequences import SEQUENCE_EDITS, SEQUENCE_PROBES

EDIT, PARAPHRASE, NEIGHBOUR = "edit", "paraphrase", "neighbour"
NO_EDIT = SourceEdit("", "", "", "")


def templates_of(prompts: pd.DataFrame) -> dict[str, list[str]]:
    """Return the templates of each relation of PROMPTS: its prompt, then its paraphrases."""
    ordered = prompts.sort_values(["relation_id", "prompt_id"])
    return ordered.groupby("relation_id")["template"].agg(list).to_dict()


def account(listed: Iterable[Listed]) -> str:
    """Return how many edits are made and left out, with what is odd about them, in a line."""
    found = counts(listed)
    parts = [f"{sum(n for (kept, _), n in found.items() if kept)} edits"]
    for (kept, reason), n in sorted(found.items()):
        if reason:
            parts.append(f"{n} {'made although' if kept else 'left out, as'} {REASONS[reason]}")
    return "; ".join(parts)


def edit_table(listed: Iterable[Listed]) -> pd.DataFrame:
    """Return SEQUENCE_EDITS; a row that cannot be read has its number and the reason."""
    return pd.DataFrame([_edit(each) for each in listed], columns=list(SEQUENCE_EDITS.columns))


def _edit(listed: Listed) -> dict[str, Any]:
    edit = listed.row.edit or NO_EDIT
    return {
        "edit_id": listed.edit_id,
        "source_id": edit.source_id,
        "prompt": edit.prompt,
        "subject": edit.subject,
        "target_new": edit.target_new,
        "target_true": edit.target_true,
        "relation": edit.relation,
        "kept": listed.kept,
        "reason": listed.reason,
    }


def probe_table(listed: Iterable[Listed], paraphrases: int, neighbours: int) -> pd.DataFrame:
    """Return SEQUENCE_PROBES of the edits that are made, with so many probes of a kind at most.

    A neighbour whose prompt another edit is made with is left out: it is meant to change.
    """
    made = {each.edit_id: each.row.edit for each in listed if each.kept and each.row.edit}
    edited = {fill(edit.prompt, edit.subject) for edit in made.values()}
    rows = [
        (edit_id, *probe)
        for edit_id, edit in made.items()
        for probe in _probes(edit, paraphrases, neighbours, edited)
    ]
    return pd.DataFrame(rows, columns=list(SEQUENCE_PROBES.columns))


def _probes(
    edit: SourceEdit, paraphrases: int, neighbours: int, edited: Collection[str]
) -> Iterator[tuple[str, int, str, str, str | None]]:
    """Role, number, prompt, target and other object of each probe of an edit."""
    new, true = edit.target_new, edit.target_true or None
    yield EDIT, 0, fill(edit.prompt, edit.subject), new, true
    for number, prompt in enumerate(edit.paraphrases[:paraphrases]):
        yield PARAPHRASE, number, prompt, new, true
    apart = [pair for pair in edit.neighbours if pair[0] not in edited]
    for number, (prompt, target) in enumerate(apart[:neighbours]):
        yield NEIGHBOUR, number, prompt, target, new if edit.alike else None
