"""Conversion of tables of cases to edit requests and scored prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from aftershock.prompts import SLOT, TEXT, fill, join
from aftershock.requests import EditRequest
from aftershock.second_edit import second_rows
from aftershock.tables.cases import EDITS


@dataclass(frozen=True)
class ScoredPrompt:
    """One observation to make: the target of a probe after one of its prompts."""

    case_id: int
    probe_id: int
    prompt_id: int
    prompt: str
    target: str


def list_prompts(probes: pd.DataFrame, prompts: pd.DataFrame) -> dict[int, list[ScoredPrompt]]:
    """Return the prompts to score, by case: each fact once, after its edit prompt and any marked paraphrases.

    A fact that is probed in context has the case's tied fact and the first edit's true one before its edit
    prompt.
    """
    templates: dict[str, list[tuple[int, str]]] = {TEXT: [(0, SLOT)]}
    for row in prompts.sort_values(["relation_id", "prompt_id"]).itertuples(index=False):
        templates.setdefault(row.relation_id, []).append((row.prompt_id, row.template))
    context = _contexts(probes, templates)
    found: dict[int, list[ScoredPrompt]] = {}
    for row in probes.drop_duplicates(["case_id", "probe_id"]).itertuples(index=False):
        if row.relation_id not in templates:
            raise ValueError(f"relation {row.relation_id} of a probe of case {row.case_id} has no prompts")
        for prompt_id, template in templates[row.relation_id]:
            if prompt_id == 0 or row.prompts == "all":
                before = context[row.case_id] if row.prompts == "context" else ""
                prompt = before + fill(template, row.subject)
                found.setdefault(row.case_id, []).append(
                    ScoredPrompt(row.case_id, row.probe_id, prompt_id, prompt, row.object)
                )
    return found


def _contexts(probes: pd.DataFrame, templates: Mapping[str, list[tuple[int, str]]]) -> dict[int, str]:
    """The tied fact and the first edit's true fact as sentences, for each case with a probe in context."""
    wanted = set(probes.loc[probes["prompts"] == "context", "case_id"])
    rows = probes[probes["case_id"].isin(wanted) & probes["role"].isin(["tied", "e1_true"])]
    texts: dict[int, str] = dict.fromkeys(wanted, "")
    for row in rows.sort_values(["case_id", "role"], ascending=[True, False]).itertuples(index=False):
        if row.relation_id in templates:
            fact = join(fill(templates[row.relation_id][0][1], row.subject), row.object)
            texts[row.case_id] += f"{fact}. "
    return texts


def requests_of(edits: pd.DataFrame, name: str, case_ids: Sequence[int]) -> list[list[EditRequest]]:
    """Return the requests called `name` of each case, in order; an empty list for a case without any."""
    return _requests(edits[edits["edit"] == name].sort_values(["case_id", "position"]), case_ids)


def load_first_edits(path: str | Path, *_: Any) -> list[EditRequest]:
    """Return the first edits of all cases of a dataset, from its file of EDITS rows; equal ones once."""
    edits = EDITS.read(path)
    found = requests_of(edits, "e1", sorted(edits["case_id"].unique().tolist()))
    return list(dict.fromkeys(request for case in found for request in case))


def second_requests(
    edits: pd.DataFrame, case_ids: Sequence[int], second_edit: str, labels: int | str
) -> list[list[EditRequest]]:
    """Return the requests that follow the first edit of each case, see `second_edit.second_rows`."""
    return _requests(second_rows(edits, second_edit, labels), case_ids)


def _requests(rows: pd.DataFrame, case_ids: Sequence[int]) -> list[list[EditRequest]]:
    by_case: dict[int, list[EditRequest]] = {case_id: [] for case_id in case_ids}
    for row in rows[rows["case_id"].isin(case_ids)].itertuples(index=False):
        by_case[row.case_id].append(EditRequest(row.prompt, row.subject, row.target_new, row.target_true))
    return list(by_case.values())
