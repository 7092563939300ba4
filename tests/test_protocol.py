"""Cases that go through their states, and the choice of settings on dev cases."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from aftershock.datasets.table import CONFLICT_STATES, ROUND_STATES
from aftershock.editors.contract import Editor, EditResult
from aftershock.experiments import queries
from aftershock.experiments.cases import run_cases, score_unedited
from aftershock.experiments.queries import list_prompts
from aftershock.experiments.tuning import draw_trials, tune
from aftershock.lm.edits import EMPTY, LowRank, state_norm
from aftershock.lm.scoring import score
from aftershock.progress import Progress
from aftershock.requests import Query
from aftershock.tables.cases import EDITS, PROBES
from aftershock.tables.graph import PROMPTS
from aftershock.tables.runs import OBSERVATIONS, TELEMETRY, TRIALS
from editing import SETTINGS, make
from tiny import CITIES, NAMES, TEMPLATES, saying, tiny

# --- the protocol ------------------------------------------------------------------------------------------
TEMPLATE_ROWS = pd.DataFrame(
    [("R1", i, template, "sheet") for i, template in enumerate(TEMPLATES)], columns=list(PROMPTS.columns)
)


def tables(n, round_case=False):
    """Edits and probes of n cases; some without a control edit."""
    edits, probes = [], []
    for case_id in range(n):
        name = NAMES[case_id % 8]
        o1, o2, o3 = (CITIES[(case_id + j) % 8] for j in range(3))
        made = {"e1": [(o2, o1)], "e2": [(o1, o2) if round_case else (o3, o2)]}
        if round_case:
            made["multi"] = [(o1, o2), (o3, o2)]
        elif case_id % 3:
            made["control"] = [(o1, o3)]
        for edit, targets in made.items():
            subject = NAMES[(case_id + 4) % 8] if edit == "control" else name
            edits += [
                (case_id, edit, i, f"E{subject}", subject, "R1", TEMPLATES[0], f"C{new}", new, f"C{old}", old)
                for i, (new, old) in enumerate(targets)
            ]
        asked = [("old", name, o2, "all"), ("new_exp", name, o3, "all"), ("new_imp", name, o3, "all")]
        asked += [("neighbour", NAMES[(case_id + 1) % 8], o1, "edit")]
        numbers = {("old"): 0, ("new_exp"): 1, ("new_imp"): 1, ("neighbour"): 2}
        probes += [
            (case_id, role, 0, numbers[role], f"E{subject}", subject, "R1", f"C{city}", city, prompts)
            for role, subject, city, prompts in asked
        ]
    return pd.DataFrame(edits, columns=list(EDITS.columns)), pd.DataFrame(
        probes, columns=list(PROBES.columns)
    )


def test_conflict_cases_go_through_their_states():
    lm = tiny()
    edits, probes = tables(4)
    editor = make("rome", lm)
    observations, telemetry = run_cases(lm, editor, edits, probes, TEMPLATE_ROWS, CONFLICT_STATES)
    OBSERVATIONS.check(observations)
    TELEMETRY.check(telemetry)
    counts = observations.groupby("state").size().to_dict()
    # 3 + 3 + 1 per case; two are without control
    assert counts == {"1": 28, "2": 28, "e2_only": 28, "control": 14}
    request = {name: queries.requests_of(edits, name, [2]) for name in ("e1", "e2", "control")}
    first = editor.edit(request["e1"]).delta
    states = {
        "1": first,
        "2": first + editor.edit(request["e2"], first).delta,
        "e2_only": editor.edit(request["e2"]).delta,
        "control": first + editor.edit(request["control"], first).delta,
    }
    wanted = list_prompts(probes, TEMPLATE_ROWS)[2]
    for name, state in states.items():
        rows = observations[(observations["case_id"] == 2) & (observations["state"] == name)]
        scores = score(lm, [Query(a.prompt, a.target) for a in wanted], state)
        assert rows["logprob"].tolist() == pytest.approx([s.logprob for s in scores], abs=1e-6)
        assert rows["argmax_match"].tolist() == [s.argmax_match for s in scores]
        norm = telemetry.set_index(["case_id", "state"]).loc[(2, name), "delta_norm"]
        assert norm == pytest.approx(state_norm(state).item(), rel=1e-6)


def test_round_cases_end_in_a_random_change_of_equal_size():
    lm = tiny()
    edits, probes = tables(3, round_case=True)
    editor = make("memit", lm)
    plain, telemetry = run_cases(lm, editor, edits, probes, TEMPLATE_ROWS, ROUND_STATES)
    norms = telemetry.pivot(index="case_id", columns="state", values="delta_norm")
    assert norms["random"].tolist() == pytest.approx(norms["2"].tolist())
    assert telemetry.loc[telemetry["state"] == "random", "loss"].isna().all()
    several, _ = run_cases(lm, editor, edits, probes, TEMPLATE_ROWS, ROUND_STATES, "multi_label")
    other, _ = run_cases(lm, editor, edits, probes, TEMPLATE_ROWS, ROUND_STATES, seed=1)

    def same_as(found):
        both = plain.merge(found, on=["case_id", "state", "probe_id", "prompt_id"])
        return ((both["logprob_x"] - both["logprob_y"]).abs() < 1e-9).groupby(both["state"])

    assert same_as(several).all()["1"]
    assert not same_as(several).any()["2"]
    assert same_as(other).all().to_dict() == {"1": True, "2": True, "random": False}


def test_progress_counts_the_states_of_a_block_one_by_one():
    told = []
    progress = Progress(tell=lambda done, total, unit: told.append((done, total, unit)))
    editor = make("ft", tiny(), steps=1)
    run_cases(editor.lm, editor, *tables(34), TEMPLATE_ROWS, CONFLICT_STATES, progress=progress)
    steps = [32 * n / 5 for n in range(6)] + [32 + 2 * n / 5 for n in range(1, 6)]
    assert [done for done, *_ in told] == pytest.approx(steps)
    assert {(total, unit) for _, total, unit in told} == {(34, "case")}


def test_shards_that_cut_no_block_give_the_same_numbers():
    lm = tiny(dtype=torch.float32)
    edits, probes = tables(40)
    editor = make("ft", lm, steps=2)
    whole, _ = run_cases(lm, editor, edits, probes, TEMPLATE_ROWS, CONFLICT_STATES[:1])
    parts = [
        run_cases(lm, editor, edits[part(edits)], probes[part(probes)], TEMPLATE_ROWS, CONFLICT_STATES[:1])[0]
        for part in (lambda f: f["case_id"] < 32, lambda f: f["case_id"] >= 32)
    ]
    pd.testing.assert_frame_equal(whole, pd.concat(parts, ignore_index=True))


class Stubborn(Editor):
    """Refuses some subjects."""

    def edit(self, cases, state=EMPTY, memory=None):
        d_out, d_in = self.lm.weight(self.lm.projection(0)).shape
        u, v = (torch.ones(len(cases), 1, d, dtype=self.lm.dtype) for d in (d_in, d_out))
        reasons = tuple("no" if case[0].target_new in self.settings.refused else None for case in cases)
        delta = LowRank(self.lm.projection(0), u, v).without(torch.tensor([r is not None for r in reasons]))
        return EditResult((delta,), (1,) * len(cases), (0.5,) * len(cases), reasons)


def test_failed_edits_leave_a_reason_and_no_observations():
    lm = tiny()
    edits, probes = tables(3)
    refused = {CITIES[1], CITIES[4]}  # the first edit of case 0, the second of case 2
    editor = Stubborn(lm, SimpleNamespace(layers=(0,), refused=refused))
    observations, telemetry = run_cases(lm, editor, edits, probes, TEMPLATE_ROWS, CONFLICT_STATES[:3])
    found = set(zip(observations["case_id"], observations["state"], strict=True))
    assert found == {(0, "e2_only"), (1, "1"), (1, "2"), (1, "e2_only"), (2, "1")}
    reasons = telemetry.set_index(["case_id", "state"])["reason"].dropna().to_dict()
    assert reasons == {
        (0, "1"): "no",
        (0, "2"): "after a failed first edit: no",
        (2, "2"): "no",
        (2, "e2_only"): "no",
    }
    norms = telemetry.set_index(["case_id", "state"])["delta_norm"]
    assert norms[1, "2"] == pytest.approx(2 * norms[1, "1"])
    assert norms[2, "2"] == norms[2, "1"]


def test_the_unedited_model_is_asked_the_same():
    lm = tiny()
    _, probes = tables(5)
    found = score_unedited(lm, probes, TEMPLATE_ROWS)
    OBSERVATIONS.check(found)
    assert len(found) == 5 * 7
    a = list_prompts(probes, TEMPLATE_ROWS)[3][2]
    row = found.set_index(["case_id", "probe_id", "prompt_id"]).loc[(3, a.probe_id, a.prompt_id)]
    assert row["logprob"] == pytest.approx(score(lm, [Query(a.prompt, a.target)])[0].logprob)
    with pytest.raises(ValueError, match="relation R1 of a probe of case 0 has no prompts"):
        score_unedited(lm, probes, TEMPLATE_ROWS[:0])


# --- tuning ------------------------------------------------------------------------------------------------
GRID = {"lr": [0.02, 0.5], "steps": [2, 3]}


def test_trials_begin_with_the_given_settings_and_do_not_repeat():
    given = {**SETTINGS["ft"], "steps": 2}
    drawn = draw_trials("ft", given, GRID, 4, seed=0)
    assert drawn[0] == {"lr": 0.02, "steps": 2}
    assert len({json.dumps(values, sort_keys=True) for values in drawn}) == 4
    assert drawn == draw_trials("ft", given, GRID, 4, seed=0)
    assert draw_trials("ft", given, {}, 1, seed=0) == [{}]
    with pytest.raises(
        ValueError, match="5 trials need 4 settings besides the given ones, but its search grid has 3"
    ):
        draw_trials("ft", given, GRID, 5, seed=0)


def known_cases(n):
    """Dev cases of a model that says the same city of everyone: its neighbours are known."""
    edits, probes = tables(n)
    probes.loc[probes["role"] == "neighbour", "object"] = "Oslo"
    return saying("Oslo"), edits, probes


def test_the_best_trial_is_marked():
    lm, edits, probes = known_cases(8)
    trials = tune(lm, "ft", SETTINGS["ft"], GRID, 3, edits, probes, TEMPLATE_ROWS)
    TRIALS.check(trials)
    assert trials["chosen"].sum() == 1
    assert trials.loc[trials["chosen"], "objective"].item() == trials["objective"].max()
    product = trials["success"] * trials["paraphrase"] * trials["locality"]
    assert trials["objective"].tolist() == pytest.approx(product.tolist())
    chosen = json.loads(trials.loc[trials["chosen"], "settings"].item())
    assert set(chosen) == {"lr", "steps"}
    with pytest.raises(ValueError, match="no dev case to tune on"):
        tune(lm, "ft", SETTINGS["ft"], GRID, 1, edits[:0], probes, TEMPLATE_ROWS)
    without = probes[probes["role"] != "neighbour"]
    with pytest.raises(ValueError, match="knows no neighbour"):
        tune(lm, "ft", SETTINGS["ft"], GRID, 1, edits, without, TEMPLATE_ROWS)
