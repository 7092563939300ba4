"""Continuations of a model in every state, and facts that are asked in context."""

import pandas as pd

from aftershock.datasets.table import CONFLICT, CONFLICT_STATES, ROUND_STATES
from aftershock.experiments.cases import Continuations, run_cases, score_unedited
from aftershock.experiments.queries import list_prompts, requests_of
from aftershock.lm.generation import continue_greedily
from aftershock.prompts import fill
from aftershock.tables.cases import PROBES
from aftershock.tables.graph import PROMPTS
from aftershock.tables.runs import OBSERVATIONS
from editing import make
from families import dataset_of
from test_protocol import TEMPLATE_ROWS, tables
from tiny import NAMES, TEMPLATES, tiny

ROLES = Continuations(4, ["old", "new_exp", "new_imp"])


def test_a_model_goes_on_by_itself_in_every_state():
    lm, (edits, probes) = tiny(), tables(3)
    editor = make("memit", lm)
    found, _ = run_cases(lm, editor, edits, probes, TEMPLATE_ROWS, CONFLICT_STATES, continuations=ROLES)
    OBSERVATIONS.check(found)
    silent, _ = run_cases(lm, editor, edits, probes, TEMPLATE_ROWS, CONFLICT_STATES)
    assert silent["continuation"].isna().all()
    pd.testing.assert_frame_equal(found.drop(columns="continuation"), silent.drop(columns="continuation"))

    of_old = found[(found["probe_id"] == 0) & (found["prompt_id"] == 0)].set_index(["case_id", "state"])
    for case in range(3):
        # One case at a time, as its own only case.
        first = editor.edit(requests_of(edits, "e1", [case])).delta
        second = editor.edit(requests_of(edits, "e2", [case]), first).delta
        for state, delta in (("1", first), ("2", first + second)):
            text = fill(TEMPLATES[0], NAMES[case % 8])
            (said,) = continue_greedily(lm, [text], 4, delta)
            assert of_old.loc[(case, state), "continuation"] == said
    assert found.loc[found["prompt_id"] > 0, "continuation"].isna().all()
    assert found.loc[found["probe_id"] == 2, "continuation"].isna().all()  # the neighbour was not asked for
    assert of_old["continuation"].nunique() > 1


def test_an_edit_changes_what_is_said_and_the_unedited_model_is_continued_alike():
    lm, (edits, probes) = tiny(), tables(2, round_case=True)
    before = score_unedited(lm, probes, TEMPLATE_ROWS, ROLES)
    OBSERVATIONS.check(before)
    after, _ = run_cases(
        lm, make("ft", lm, steps=40, lr=0.05), edits, probes, TEMPLATE_ROWS, ROUND_STATES, continuations=ROLES
    )
    prompt = [fill(TEMPLATES[0], NAMES[case]) for case in range(2)]
    said = before[(before["probe_id"] == 0) & (before["prompt_id"] == 0)].set_index("case_id")["continuation"]
    assert said.tolist() == continue_greedily(lm, prompt, 4)
    edited = after[(after["state"] == "1") & (after["probe_id"] == 0) & (after["prompt_id"] == 0)]
    written = requests_of(edits, "e1", [0, 1])
    for row, (request,), old in zip(edited.itertuples(), written, said, strict=True):
        if row.argmax_match:  # the tokens of teacher forcing are those of free generation
            assert row.continuation.startswith(f" {request.target_new}")
            assert row.continuation != old
    assert edited["argmax_match"].any()


def test_a_head_is_asked_after_the_facts_that_it_follows_from():
    rows = [
        (0, "tied", 0, 0, "E1", "Ada", "R1", "E2", "Bela", "all"),
        (0, "e1_true", 0, 1, "E2", "Bela", "R2", "E3", "Ulm", "all"),
        (0, "e2_true", 0, 2, "E1", "Ada", "R3", "E3", "Ulm", "all"),
        (0, "in_context", 0, 3, "E1", "Ada", "R3", "E3", "Ulm", "context"),
    ]
    prompts = [("R1", 0, "The child of {} is"), ("R2", 0, "{} lives in"), ("R3", 0, "{} was born in")]
    prompts += [(relation, 1, f"other {text}") for relation, _, text in prompts]
    asked = list_prompts(
        pd.DataFrame(rows, columns=list(PROBES.columns)),
        pd.DataFrame([(*row, "sheet") for row in prompts], columns=list(PROMPTS.columns)),
    )[0]
    (in_context,) = [a for a in asked if a.probe_id == 3]
    assert in_context.prompt == "The child of Ada is Bela. Bela lives in Ulm. Ada was born in"
    assert (in_context.prompt_id, in_context.target) == (0, "Ulm")
    assert [a.prompt for a in asked if a.probe_id == 2] == ["Ada was born in", "other Ada was born in"]


def test_cases_ask_in_context_and_for_the_new_object_of_neighbours(graph):
    for dataset in CONFLICT:
        probes = dataset_of(dataset, *graph).probes
        roles = set(probes["role"])
        assert ("in_context" in roles) == (dataset == "composite")
        assert ("neighbour_new" in roles) == (dataset == "coverage")
        by_role = probes.set_index(["role", "case_id", "position"])
        if dataset == "composite":
            context, plain = (by_role.loc[role].reset_index() for role in ("in_context", "e2_true"))
            assert (context["object_id"] == plain["object_id"]).all()
            assert (context["probe_id"] != plain["probe_id"]).all()
            assert set(context["prompts"]) == {"context"}
            assert set(plain["prompts"]) == {"all"}
        if dataset == "coverage":
            own, new = by_role.loc["neighbour"], by_role.loc["neighbour_new"]
            assert own.index.equals(new.index)
            assert (own["subject_id"] == new["subject_id"]).all()
            written = by_role.loc["new_exp"].droplevel("position")["object_id"]
            assert (new["object_id"] == written.reindex(new.index.get_level_values("case_id")).values).all()
