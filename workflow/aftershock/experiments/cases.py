"""Running cases through their states: which edits come first, what is scored when, and what is written down.

Cases are independent. They are edited and scored in blocks of 32 consecutive case ids, whatever the shard, so
that a number does not depend on how a run was divided.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from aftershock.editors.contract import Editor
from aftershock.lm.edits import EMPTY, State, random_like, scatter_cases, select, state_norm
from aftershock.lm.generation import continue_greedily
from aftershock.lm.memory import byte_budget
from aftershock.lm.model import LanguageModel
from aftershock.lm.scoring import Score, score, score_states
from aftershock.progress import Progress
from aftershock.prompts import SLOT, TEXT, fill
from aftershock.requests import EditRequest, Query
from aftershock.second_edit import second_rows
from aftershock.seeds import derive
from aftershock.tables.runs import OBSERVATIONS, TELEMETRY

BLOCK = 32
CONFLICT_STATES = ("1", "2", "e2_only", "control")
ROUND_STATES = ("1", "2", "random")


@dataclass(frozen=True)
class Continuations:
    """Which probes' edit prompts a model goes on from in every state, and how far; none with 0 tokens."""

    tokens: int = 0
    roles: Sequence[str] = ()


SILENT = Continuations()


@dataclass(frozen=True)
class Asked:
    """One observation to make: a probe's object after one of its prompts."""

    case_id: int
    probe_id: int
    prompt_id: int
    prompt: str
    target: str


def run_cases(
    lm: LanguageModel,
    editor: Editor,
    edits: pd.DataFrame,
    probes: pd.DataFrame,
    prompts: pd.DataFrame,
    states: Sequence[str],
    second_edit: str = "plain",
    seed: int = 0,
    labels: int | str = "all",
    continuations: Continuations = SILENT,
    progress: Progress | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """OBSERVATIONS and TELEMETRY of all cases in `edits` (EDITS rows), in each of `states`.

    State "1" follows edit e1; "2" adds e2, or with `second_edit` multi_label several `labels` at once (see
    `second_requests`); "e2_only" is e2 alone; "control" adds the control edit to e1; "random" is a random
    change as large as that of state "2". A case whose edit failed has the reason in its telemetry, and no
    observations in the states that hold it. `continuations` says after which prompts the model's own words
    are recorded.
    """
    asked = list_asked(probes, prompts)
    spoken = _spoken(probes, continuations)
    observations, telemetry = [], []
    all_ids, progress = sorted(edits["case_id"].unique().tolist()), progress or Progress()
    progress.begin("Editing", len(all_ids), "case")
    for case_ids in _blocks(all_ids, editor, len(states)):
        block = edits[edits["case_id"].isin(case_ids)]
        second = second_requests(block, case_ids, second_edit, labels)
        reached = list(_states(editor, block, case_ids, states, second, seed))
        rows = [(i, a) for i, case_id in enumerate(case_ids) for a in asked.get(case_id, [])]
        queries = [Query(a.prompt, a.target, i) for i, a in rows]
        found = score_states(lm, queries, [state.delta for state in reached])
        for state, scores in zip(reached, found, strict=True):
            telemetry += state.telemetry(case_ids)
            sound = state.sound
            kept = [(i, a, s) for (i, a), s in zip(rows, scores, strict=True) if i in sound]
            said = _continue(lm, [(i, a) for i, a, _ in kept], spoken, continuations.tokens, state.delta)
            observations += _rows(state.name, ((a, s) for _, a, s in kept), said)
        progress.step(len(case_ids))
    return (
        pd.DataFrame(observations, columns=list(OBSERVATIONS.columns)),
        pd.DataFrame(telemetry, columns=list(TELEMETRY.columns)),
    )


def score_unedited(
    lm: LanguageModel,
    probes: pd.DataFrame,
    prompts: pd.DataFrame,
    continuations: Continuations = SILENT,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """OBSERVATIONS of all `probes` in state "0"; a fact that several cases ask for is scored once."""
    rows = [a for asked in list_asked(probes, prompts).values() for a in asked]
    scores = score(lm, [Query(a.prompt, a.target) for a in rows], progress=progress)
    spoken = _spoken(probes, continuations)
    said = _continue(lm, [(0, a) for a in rows], spoken, continuations.tokens)
    return pd.DataFrame(_rows("0", zip(rows, scores, strict=True), said), columns=list(OBSERVATIONS.columns))


def _spoken(probes: pd.DataFrame, continuations: Continuations) -> set[tuple[int, int]]:
    """The case and number of the probes after whose edit prompt the model goes on."""
    chosen = probes[probes["role"].isin(continuations.roles)] if continuations.tokens else probes[:0]
    return set(zip(chosen["case_id"], chosen["probe_id"], strict=True))


def _continue(
    lm: LanguageModel,
    rows: Iterable[tuple[int, Asked]],
    spoken: set[tuple[int, int]],
    n_tokens: int,
    state: State = EMPTY,
) -> dict[tuple[int, int], str]:
    """What the model says after the edit prompts of `spoken` probes, by case id and probe.

    `rows` has the place of each case in `state`; a prompt that several probes share is run once.
    """
    texts = {
        (a.case_id, a.probe_id): (i, a.prompt)
        for i, a in rows
        if a.prompt_id == 0 and (a.case_id, a.probe_id) in spoken
    }
    distinct = list(dict.fromkeys(texts.values()))
    found = continue_greedily(lm, [text for _, text in distinct], n_tokens, state, [i for i, _ in distinct])
    said = dict(zip(distinct, found, strict=True))
    return {probe: said[text] for probe, text in texts.items()}


def list_asked(probes: pd.DataFrame, prompts: pd.DataFrame) -> dict[int, list[Asked]]:
    """What to observe, by case: each fact once, after its edit prompt and, if so marked, its paraphrases.

    A fact asked in context has the case's tied fact and the first edit's true one before its edit prompt.
    """
    templates: dict[str, list[tuple[int, str]]] = {TEXT: [(0, SLOT)]}
    for row in prompts.sort_values(["relation_id", "prompt_id"]).itertuples(index=False):
        templates.setdefault(row.relation_id, []).append((row.prompt_id, row.template))
    context = _contexts(probes, templates)
    asked: dict[int, list[Asked]] = {}
    for row in probes.drop_duplicates(["case_id", "probe_id"]).itertuples(index=False):
        if row.relation_id not in templates:
            raise ValueError(f"relation {row.relation_id} of a probe of case {row.case_id} has no prompts")
        for prompt_id, template in templates[row.relation_id]:
            if prompt_id == 0 or row.prompts == "all":
                before = context[row.case_id] if row.prompts == "context" else ""
                prompt = before + fill(template, row.subject)
                asked.setdefault(row.case_id, []).append(
                    Asked(row.case_id, row.probe_id, prompt_id, prompt, row.object)
                )
    return asked


def _contexts(probes: pd.DataFrame, templates: Mapping[str, list[tuple[int, str]]]) -> dict[int, str]:
    """The tied fact and the first edit's true fact as sentences, for each case with a probe in context."""
    wanted = set(probes.loc[probes["prompts"] == "context", "case_id"])
    rows = probes[probes["case_id"].isin(wanted) & probes["role"].isin(["tied", "e1_true"])]
    texts: dict[int, str] = dict.fromkeys(wanted, "")
    for row in rows.sort_values(["case_id", "role"], ascending=[True, False]).itertuples(index=False):
        if row.relation_id in templates:
            texts[row.case_id] += f"{fill(templates[row.relation_id][0][1], row.subject)} {row.object}. "
    return texts


def requests_of(edits: pd.DataFrame, name: str, case_ids: Sequence[int]) -> list[list[EditRequest]]:
    """The requests called `name` of each case, in order; an empty list for a case without any."""
    return _requests(edits[edits["edit"] == name].sort_values(["case_id", "position"]), case_ids)


def second_requests(
    edits: pd.DataFrame, case_ids: Sequence[int], second_edit: str, labels: int | str
) -> list[list[EditRequest]]:
    """What follows the first edit of each case, see `second_edit.second_rows`."""
    return _requests(second_rows(edits, second_edit, labels), case_ids)


def _requests(rows: pd.DataFrame, case_ids: Sequence[int]) -> list[list[EditRequest]]:
    by_case: dict[int, list[EditRequest]] = {case_id: [] for case_id in case_ids}
    for row in rows[rows["case_id"].isin(case_ids)].itertuples(index=False):
        by_case[row.case_id].append(EditRequest(row.prompt, row.subject, row.target_new, row.target_true))
    return list(by_case.values())


def _blocks(case_ids: Sequence[int], editor: Editor, n_states: int) -> Iterator[list[int]]:
    """Cases in blocks of BLOCK consecutive ids, cut further where the states of a block do not fit memory.

    An editor whose edits depend on those before them gets one case at a time, all its states in turn.
    """
    size = BLOCK
    if editor.sequential:
        size = 1
    elif editor.case_bytes:
        size = max(1, min(BLOCK, byte_budget(editor.lm) // (n_states * editor.case_bytes)))
    for _, group in itertools.groupby(case_ids, key=lambda i: i // BLOCK):
        block = list(group)
        yield from (block[start : start + size] for start in range(0, len(block), size))


@dataclass(frozen=True)
class _State:
    """The cases of a block after some edits. Cases that never had the edit are not in `tried`."""

    name: str
    delta: State
    tried: tuple[int, ...]
    steps: Mapping[int, int]
    losses: Mapping[int, float]
    reasons: Mapping[int, str | None]

    @property
    def sound(self) -> set[int]:
        """Cases whose edits all worked."""
        return {i for i in self.tried if self.reasons[i] is None}

    def telemetry(self, case_ids: Sequence[int]) -> Iterator[tuple]:
        """TELEMETRY rows; a random change has no steps and no loss."""
        norms = state_norm(self.delta).tolist()
        for i in self.tried:
            loss = self.losses.get(i)
            yield case_ids[i], self.name, self.steps.get(i, 0), loss, norms[i], self.reasons[i]


def _states(
    editor: Editor,
    edits: pd.DataFrame,
    case_ids: Sequence[int],
    names: Sequence[str],
    second: Sequence[Sequence[EditRequest]],
    seed: int,
) -> Iterator[_State]:
    """The states of one block, each as soon as it is reached."""
    first = _edit(editor, "1", requests_of(edits, "e1", case_ids))
    if "1" in names:
        yield first
    if {"2", "random"} & set(names):
        both = _edit(editor, "2", second, first)
        if "2" in names:
            yield both
        if "random" in names:
            seeds = [derive(seed, "random change", case_id) for case_id in case_ids]
            yield _State("random", random_like(both.delta, seeds), both.tried, {}, {}, both.reasons)
    if "e2_only" in names:
        yield _edit(editor, "e2_only", requests_of(edits, "e2", case_ids))
    if "control" in names:
        yield _edit(editor, "control", requests_of(edits, "control", case_ids), first)


def _edit(
    editor: Editor, name: str, requests: Sequence[Sequence[EditRequest]], before: _State | None = None
) -> _State:
    """Edit every case of a block that has requests and whose edits `before` worked."""
    tried = [i for i, asked in enumerate(requests) if asked]
    reasons: dict[int, str | None] = dict.fromkeys(tried)
    if before:
        for i in tried:
            if (reason := before.reasons.get(i, "it was not asked for")) is not None:
                reasons[i] = f"after a failed first edit: {reason}"
    able = [i for i in tried if reasons[i] is None]
    start = before.delta if before else EMPTY
    if not able:
        return _State(name, start, tuple(tried), {}, {}, reasons)
    result = editor.edit([requests[i] for i in able], select(start, able))
    reasons.update(zip(able, result.reasons, strict=True))
    delta = start + scatter_cases(result.delta, able, len(requests))
    steps, losses = (dict(zip(able, values, strict=True)) for values in (result.steps, result.losses))
    return _State(name, delta, tuple(tried), steps, losses, reasons)


def _rows(
    state: str, found: Iterable[tuple[Asked, Score]], said: Mapping[tuple[int, int], str]
) -> Iterator[tuple]:
    """OBSERVATIONS rows; `said` has the continuation of edit prompts, by case id and probe."""
    for a, s in found:
        logprobs, matched = list(s.token_logprobs), sum(s.token_matches)
        words = said.get((a.case_id, a.probe_id)) if a.prompt_id == 0 else None
        scored = s.logprob, len(logprobs), logprobs, s.argmax_match, matched, words
        yield a.case_id, state, a.probe_id, a.prompt_id, *scored
