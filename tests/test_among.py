"""Cases among unrelated edits: against each case by itself, one edit after another by the plain contract."""

import math

import pandas as pd
import pytest

from aftershock.datasets.table import AFTER, BEFORE, BETWEEN, CONFLICT_STATES, PLACES, UNEDITED
from aftershock.experiments.cases import run_cases, score_unedited
from aftershock.experiments.queries import list_prompts, requests_of
from aftershock.experiments.sequences.among import Unrelated, run_among
from aftershock.experiments.sequences.run import NOT_FINITE
from aftershock.lm.edits import EMPTY
from aftershock.lm.scoring import score
from aftershock.metrics import formulas
from aftershock.metrics.abilities.among import among_scores
from aftershock.metrics.run import score_cases
from aftershock.requests import Query
from aftershock.tables.abilities import AMONG_SCORES
from aftershock.tables.sequences import AMONG_OBSERVATIONS, AMONG_TELEMETRY
from editing import families_of, make
from sequenced import Faulty, edits, plan, run
from test_shard_invariance import dataset
from tiers import some
from tiny import tiny

NUMBERS = (0, 2, 3)
FEW = 2  # cases
EVERYWHERE = [("memit", {"steps": 3, "previous_keys": True}), ("ft", {"steps": 2})]
BETWEEN_ONLY = [
    ("rome", {"steps": 3}),
    ("ultraedit", {}),
    ("grace", {"steps": 3}),
    ("in_context", {}),
    ("mend", {"variant": "released"}),
]
"""Changes of low rank and of whole matrices, with a memory and without, a codebook, text, one case at a time.
"""
TRIED = [(*each, p) for each in EVERYWHERE for p in PLACES] + [(*each, BETWEEN) for each in BETWEEN_ONLY]


def editor_of(method, changes):
    return make(method, tiny(families_of(method)[0]), **changes)


def tables(cases=FEW):
    """CASES, PROBES, EDITS and PROMPTS of some cases of reverse."""
    return dataset("reverse", cases)


def unrelated(editor, place, folder, made=None):
    """The edits of a plan of three, in their order."""
    made = made or plan(2, 3)
    turns = [[edits(made.edits)[i - 1].request for i in turn.positions] for turn in made.turns]
    return Unrelated(place, NUMBERS, run(editor, made, folder / "log"), turns)


def asked(editor, place, n, first, second, around):
    """The states of one case, all deltas side by side: by number and name of the state."""
    steps = {
        BEFORE: [*around[:n], UNEDITED, first, "1", second, "2"],
        BETWEEN: [first, *around[:n], "1", second, "2"],
        AFTER: [first, "1", second, *around[:n], "2"],
    }[place]
    state, memory, found = EMPTY, None, {}
    for step in steps:
        if isinstance(step, str):
            found[step] = editor.scored(state)
        else:
            result = editor.edit([step], state, memory)
            state, memory = state + result.delta, result.memory
    return found


@pytest.mark.parametrize(
    ("method", "changes", "place"), some(TRIED, [*TRIED[:3], ("grace", {"steps": 3}, BETWEEN)])
)
def test_states_are_those_of_one_edit_after_another(method, changes, place, tmp_path):
    editor = editor_of(method, changes)
    _, probes, case_edits, prompts = tables()
    probes, prompts = probes[probes["role"].isin(["old", "new_exp"])], prompts[prompts["prompt_id"] < 2]
    found, telemetry = run_among(editor, case_edits, probes, prompts, unrelated(editor, place, tmp_path))
    AMONG_OBSERVATIONS.check(found)
    AMONG_TELEMETRY.check(telemetry)
    rows = found.set_index(["edits", "case_id", "state", "probe_id", "prompt_id"])["logprob"]
    around = [[edit.request] for edit in edits(3)]
    queried, n_rows = list_prompts(probes, prompts), 0
    for case in range(FEW):
        first, second = (requests_of(case_edits, name, [case])[0] for name in ("e1", "e2"))
        for n in NUMBERS:
            for state, deltas in asked(editor, place, n, first, second, around).items():
                wanted = score(editor.lm, [Query(q.prompt, q.target) for q in queried[case]], deltas)
                for q, s in zip(queried[case], wanted, strict=True):
                    key = (n, case, state, q.probe_id, q.prompt_id)
                    assert rows[key] == pytest.approx(s.logprob, abs=2e-5), key
                    n_rows += 1
    assert n_rows == len(rows)


def test_edits_of_a_case_are_in_no_log(tmp_path):
    editor = editor_of("memit", {"steps": 3, "previous_keys": True})
    around = unrelated(editor, BEFORE, tmp_path)
    before = {path.name: path.read_bytes() for path in (tmp_path / "log").iterdir()}
    _, probes, case_edits, prompts = tables(2)
    run_among(editor, case_edits, probes, prompts, around)
    assert {path.name: path.read_bytes() for path in (tmp_path / "log").iterdir()} == before


def test_without_edits_around_them_cases_have_the_scores_of_a_run_without_a_plan(tmp_path):
    editor = editor_of("rome", {"steps": 3})
    about, probes, case_edits, prompts = tables()
    alone, told = run_cases(editor.lm, editor, case_edits, probes, prompts, CONFLICT_STATES)
    unedited = score_unedited(editor.lm, probes, prompts)
    ranges = [f"00000-{FEW - 1:05d}"]
    wanted = score_cases(about, probes, unedited, {ranges[0]: alone}, told, "reverse", ranges).scores
    wanted = wanted.set_index(["metric", "case_id"])["value"]
    for place in PLACES:
        found, telemetry = run_among(
            editor, case_edits, probes, prompts, unrelated(editor, place, tmp_path / place)
        )
        rows = among_scores(about, probes, unedited, {ranges[0]: found}, telemetry, "reverse", place, ranges)
        AMONG_SCORES.check(rows)
        assert set(rows["checkpoint"]) == set(NUMBERS)
        here = rows[rows["checkpoint"] == 0]
        for row in here.itertuples():
            metric = row.measure.removesuffix(f":{place}:reverse")
            assert row.value == pytest.approx(wanted[metric, row.unit], abs=1e-5, nan_ok=True)
        assert {m.partition(":")[0] for m in here["measure"]} >= {"conflict_score_exp", "conflict_magnitude"}


def test_a_drop_is_from_right_before_the_second_edit_to_the_end(tmp_path):
    editor = editor_of("rome", {"steps": 3})
    about, probes, case_edits, prompts = tables()
    found, telemetry = run_among(editor, case_edits, probes, prompts, unrelated(editor, BETWEEN, tmp_path))
    ranges = [f"00000-{FEW - 1:05d}"]
    unedited = score_unedited(editor.lm, probes, prompts)
    rows = among_scores(about, probes, unedited, {ranges[0]: found}, telemetry, "reverse", BETWEEN, ranges)
    old = probes[probes["role"] == "old"].set_index("case_id")["probe_id"]
    for row in rows[rows["measure"] == "conflict_magnitude:between:reverse"].itertuples():
        mine = found[(found["edits"] == row.checkpoint) & (found["case_id"] == row.unit)]
        mine = mine[mine["probe_id"] == old[row.unit]]
        p = [
            sum(math.exp(r.logprob / r.n_tokens) for r in mine[mine["state"] == state].itertuples())
            / (mine["state"] == state).sum()
            for state in ("1", "2")
        ]
        assert row.value == pytest.approx(formulas.relative_drop(pd.Series(p[:1]), pd.Series(p[1:]))[0])


def test_checkpoints_that_a_sequence_did_not_reach_have_no_rows(tmp_path):
    lm = tiny()
    around = unrelated(Faulty(lm, {3: math.nan}), BEFORE, tmp_path)
    editor = editor_of("rome", {"steps": 2})
    _, probes, case_edits, prompts = tables(1)
    found, _ = run_among(editor, case_edits, probes, prompts, around)
    assert set(found["edits"]) == {0, 2}


def test_a_case_ends_where_its_weights_would_not_be_finite(tmp_path):
    lm = tiny()
    around = unrelated(Faulty(lm, {}), BETWEEN, tmp_path)
    about, probes, case_edits, prompts = tables(1)
    # a case's first edit, its second one with none between, two others, its second one, and the faulty one
    found, telemetry = run_among(Faulty(lm, {6: math.nan}), case_edits, probes, prompts, around)
    assert set(found["edits"]) == {0, 2}
    ended = telemetry[telemetry["edits"] == 3]
    assert ended["reason"].tolist() == [NOT_FINITE, f"after a failed first edit: {NOT_FINITE}"]
    unedited = score_unedited(lm, probes, prompts)
    scores = among_scores(
        about, probes, unedited, {"00000-00000": found}, telemetry, "reverse", BETWEEN, ["00000-00000"]
    )
    assert scores[scores["checkpoint"] == 3]["value"].isna().all()
    assert scores[scores["checkpoint"] == 2]["value"].notna().any()
