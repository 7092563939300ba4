"""Editing and scoring of cases in all their states, block by block.

Cases are independent. They are edited and scored in blocks of 32 consecutive case ids, whatever the shard, so
that a number does not depend on how a run was divided.
"""

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from aftershock.datasets.table import UNEDITED, State
from aftershock.editors.contract import Editor
from aftershock.experiments.health import Health
from aftershock.experiments.lengths import check_lengths, edit_texts, prompt_texts
from aftershock.experiments.queries import ScoredPrompt, list_prompts, requests_of, second_requests
from aftershock.experiments.states import Reached, Walk
from aftershock.lm.edits import EMPTY
from aftershock.lm.edits import State as Deltas
from aftershock.lm.generation import continue_greedily
from aftershock.lm.memory import byte_budget
from aftershock.lm.model import LanguageModel
from aftershock.lm.scoring import Score, score, score_states
from aftershock.progress import Progress
from aftershock.requests import Query
from aftershock.tables.runs import OBSERVATIONS, TELEMETRY

BLOCK = 32


@dataclass(frozen=True)
class Continuations:
    """The roles of probes whose edit prompts a model continues in every state, and for how many tokens."""

    tokens: int = 0
    roles: Sequence[str] = ()


NO_CONTINUATIONS = Continuations()
Probe = tuple[int, int]
"""Case id and number of a probe."""


def run_cases(
    lm: LanguageModel,
    editor: Editor,
    edits: pd.DataFrame,
    probes: pd.DataFrame,
    prompts: pd.DataFrame,
    states: Sequence[State],
    second_edit: str = "plain",
    seed: int = 0,
    labels: int | str = "all",
    continuations: Continuations = NO_CONTINUATIONS,
    progress: Progress | None = None,
    health: Health | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return OBSERVATIONS and TELEMETRY of all cases in `edits` (EDITS rows), in each of `states`.

    Edit `second` of a state is e2, or with `second_edit` multi_label several `labels` at once (see
    `second_requests`). A case whose edit failed has the reason in its telemetry, and no observations in the
    states that hold it. `seed` is that of random changes. `health` is shown every state.
    """
    queried = list_prompts(probes, prompts)
    check_lengths(lm, itertools.chain(edit_texts(edits), prompt_texts(queried, probes)))
    continued = _continued_probes(probes, continuations)
    observations: list[Any] = []
    telemetry: list[Any] = []
    all_ids, progress = sorted(edits["case_id"].unique().tolist()), progress or Progress()
    progress.begin("Editing", len(all_ids), "case")
    walk = Walk(editor, states, seed)
    for case_ids in blocks(all_ids, _block_size(editor, len(states))):
        block = edits[edits["case_id"].isin(case_ids)]
        requests = {
            name: second_requests(block, case_ids, second_edit, labels)
            if name == "second"
            else requests_of(block, name, case_ids)
            for name in {state.edit for state in states if state.edit}
        }
        share = len(case_ids) / (len(states) + 1)  # each state is edited, then all are scored
        reached = []
        for state in walk.reach(requests, case_ids):
            reached.append(state)
            progress.step(share)
        seen, told = observe(lm, reached, case_ids, queried, continued, continuations.tokens)
        observations += seen
        telemetry += told
        if health:
            health.observe(reached, case_ids)
        progress.step(share)
    return (
        pd.DataFrame(observations, columns=list(OBSERVATIONS.columns)),
        pd.DataFrame(telemetry, columns=list(TELEMETRY.columns)),
    )


def observe(
    lm: LanguageModel,
    reached: Sequence[Reached],
    case_ids: Sequence[int],
    queried: Mapping[int, Sequence[ScoredPrompt]],
    continued: Collection[Probe] = (),
    n_tokens: int = 0,
) -> tuple[list[tuple], list[tuple]]:
    """Return OBSERVATIONS and TELEMETRY rows of one block of cases in every state that it reached.

    `queried` has the prompts of each case; those of the probes `continued` are continued by `n_tokens`.
    """
    observations: list[tuple] = []
    telemetry: list[tuple] = []
    rows = [(i, scored) for i, case_id in enumerate(case_ids) for scored in queried.get(case_id, [])]
    queries = [Query(scored.prompt, scored.target, i) for i, scored in rows]
    found = score_states(lm, queries, [state.scored for state in reached])
    for state, scores in zip(reached, found, strict=True):
        telemetry += state.telemetry(case_ids)
        sound = state.sound
        kept = [(i, scored, s) for (i, scored), s in zip(rows, scores, strict=True) if i in sound]
        prompted = [(i, scored) for i, scored, _ in kept]
        texts = _continue(lm, prompted, continued, n_tokens, state.scored)
        observations += _rows(state.name, ((scored, s) for _, scored, s in kept), texts)
    return observations, telemetry


def score_unedited(
    lm: LanguageModel,
    probes: pd.DataFrame,
    prompts: pd.DataFrame,
    continuations: Continuations = NO_CONTINUATIONS,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Return OBSERVATIONS of all `probes` in the unedited state; a fact of several cases is scored once."""
    queried = list_prompts(probes, prompts)
    check_lengths(lm, prompt_texts(queried, probes))
    rows = [scored for mine in queried.values() for scored in mine]
    scores = score(lm, [Query(scored.prompt, scored.target) for scored in rows], progress=progress)
    continued = _continued_probes(probes, continuations)
    texts = _continue(lm, [(0, scored) for scored in rows], continued, continuations.tokens)
    found = _rows(UNEDITED, zip(rows, scores, strict=True), texts)
    return pd.DataFrame(found, columns=list(OBSERVATIONS.columns))


def _continued_probes(probes: pd.DataFrame, continuations: Continuations) -> set[Probe]:
    """Return the probes after whose edit prompt the model's continuation is recorded."""
    chosen = probes[probes["role"].isin(continuations.roles)] if continuations.tokens else probes[:0]
    return set(zip(chosen["case_id"], chosen["probe_id"], strict=True))


def _continue(
    lm: LanguageModel,
    rows: Iterable[tuple[int, ScoredPrompt]],
    continued: Collection[Probe],
    n_tokens: int,
    delta: Deltas = EMPTY,
) -> dict[Probe, str]:
    """Return the greedy continuation of the edit prompt of each `continued` probe.

    `rows` has the place of each case in `delta`; a prompt that several probes share is run once.
    """
    texts = {
        (scored.case_id, scored.probe_id): (i, scored.prompt)
        for i, scored in rows
        if scored.prompt_id == 0 and (scored.case_id, scored.probe_id) in continued
    }
    distinct = list(dict.fromkeys(texts.values()))
    found = continue_greedily(lm, [text for _, text in distinct], n_tokens, delta, [i for i, _ in distinct])
    by_text = dict(zip(distinct, found, strict=True))
    return {probe: by_text[text] for probe, text in texts.items()}


def _block_size(editor: Editor, n_states: int) -> int:
    """Return the cases that are edited together: BLOCK, or fewer where their states do not fit memory.

    An editor whose edits depend on earlier ones gets one case at a time, all its states in turn.
    """
    if editor.in_order:
        return 1
    return block_within(editor, n_states * editor.case_bytes)


def block_within(editor: Editor, case_bytes: int) -> int:
    """Return the cases of a block, each of which takes `case_bytes`."""
    return max(1, min(BLOCK, byte_budget(editor.lm) // case_bytes)) if case_bytes else BLOCK


def blocks(case_ids: Sequence[int], size: int) -> Iterator[list[int]]:
    """Yield cases in blocks of BLOCK consecutive ids, cut further to `size` cases."""
    for _, group in itertools.groupby(case_ids, key=lambda i: i // BLOCK):
        block = list(group)
        yield from (block[start : start + size] for start in range(0, len(block), size))


def _rows(
    state: str, found: Iterable[tuple[ScoredPrompt, Score]], texts: Mapping[Probe, str]
) -> Iterator[tuple]:
    """Yield OBSERVATIONS rows; `texts` has the continuations of edit prompts."""
    for scored, s in found:
        logprobs, matched = list(s.token_logprobs), sum(s.token_matches)
        text = texts.get((scored.case_id, scored.probe_id)) if scored.prompt_id == 0 else None
        values = s.logprob, len(logprobs), logprobs, s.argmax_match, matched, text
        yield scored.case_id, state, scored.probe_id, scored.prompt_id, *values
