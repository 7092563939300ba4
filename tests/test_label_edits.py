"""Edits of several labels of one subject: which labels, and the ways to write them."""

import math

import pandas as pd
import pytest
import torch
from scipy.stats import chisquare

from aftershock.datasets.graph_facts import Context, Fact, FactIndex
from aftershock.experiments.cases import second_requests
from aftershock.lm.edits import state_norm
from aftershock.lm.optimisation.objective import Objective
from aftershock.lm.optimisation.value_problem import write_texts
from aftershock.lm.optimisation.values import solve_values
from aftershock.lm.scoring import score
from aftershock.requests import EditRequest, Query
from aftershock.second_edit import second_rows
from aftershock.tables.cases import EDITS
from editing import make
from tiny import CITIES, NAMES, TEMPLATES, requests, tiny

CONTEXTS = [["{}"], ["It rains. {}"]]
VALUES = {"steps": 12, "lr": 0.2, "weight_decay": 0.01, "clamp": 4.0}
WAYS = ("joint", "mean", "mean_scaled", "mixture", "sequential")


def labels_of(name, cities, template=0):
    return [EditRequest(TEMPLATES[template], name, city) for city in cities]


def memit(lm, way, **changes):
    own = {"layers": [0, 1], "mom2_weight": 0.5, **VALUES, "multi_label": way}
    return make("memit", lm, CONTEXTS, **own | changes)


def dense(state, case):
    """The summed change of each module."""
    total = {}
    for delta in state:
        total[delta.module] = total.get(delta.module, 0.0) + delta.dense()[case]
    return total


CASES = [
    labels_of(NAMES[0], CITIES[:4]),
    labels_of(NAMES[1], CITIES[4:5]),
    labels_of(NAMES[2], CITIES[5:7], 1),
]


def test_emmets_mean_weighed_as_all_labels_is_its_joint_edit():
    lm = tiny()
    joint, scaled = (
        make("emmet", lm, CONTEXTS, layers=[0, 1], mom2_weight=5.0, **VALUES, multi_label=way).edit(CASES)
        for way in ("joint", "mean_scaled")
    )
    assert state_norm(scaled.delta).tolist() == pytest.approx(state_norm(joint.delta).tolist())


def test_the_joint_edit_is_one_to_the_mean_value_with_a_share_of_the_moments_weight():
    lm = tiny()
    joint, scaled, mean = (memit(lm, way).edit(CASES).delta for way in ("joint", "mean_scaled", "mean"))
    for case, asked in enumerate(CASES):
        one = memit(lm, "mean", mom2_weight=0.5 / len(asked)).edit([asked]).delta
        for module, change in dense(joint, case).items():
            assert torch.allclose(dense(scaled, case)[module], change, rtol=1e-7, atol=1e-10)
            assert torch.allclose(dense(one, 0)[module], change, rtol=1e-7, atol=1e-10)
    differs = (state_norm(mean) - state_norm(joint)).abs() > 1e-3 * state_norm(joint)
    assert differs.tolist() == [True, False, True]  # the second case has one label


@pytest.mark.parametrize("way", WAYS)
def test_every_way_writes_its_labels_and_treats_a_case_as_if_alone(way):
    lm = tiny()
    editor = memit(lm, way, mom2_weight=1e-3)
    found = editor.edit(CASES)
    assert found.reasons == (None,) * 3
    gain = 0.0
    for case, asked in enumerate(CASES):
        alone = dense(editor.edit([asked]).delta, 0)
        together = dense(found.delta, case)
        assert all(torch.allclose(together[m], alone[m], rtol=1e-6, atol=1e-9) for m in alone)
        queries = [Query(r.text, r.target_new, case) for r in asked]
        before, after = (sum(s.logprob for s in score(lm, queries, state)) for state in ((), found.delta))
        gain += after - before
    assert gain > 0.1


def test_one_after_the_other_is_what_its_name_says():
    lm = tiny()
    editor, single = memit(lm, "sequential"), memit(lm, "joint")
    found, state = editor.edit(CASES[:1]).delta, ()
    for request in CASES[0]:
        state += single.edit([[request]], state).delta
    for module, change in dense(state, 0).items():
        assert torch.allclose(dense(found, 0)[module], change, rtol=1e-6, atol=1e-9)


def test_a_label_that_breaks_stops_the_sequence_of_its_case_alone():
    lm = tiny()
    editor = memit(lm, "sequential", lr=math.inf)
    found = editor.edit(CASES)
    assert all("loss of the value" in reason for reason in found.reasons)
    assert not state_norm(found.delta).any()


def test_a_mixture_has_the_mean_loss_of_its_labels():
    lm, (request, *_) = tiny(), requests(1)
    objective = Objective(0, "layer", 6, 0.3, 0.4, 4.0, 0.0)
    labels = CITIES[:3]
    mixed = solve_values(lm, [request], ["{}"], objective, labels=[labels])
    single = [
        solve_values(lm, [EditRequest(request.prompt, request.subject, label)], ["{}"], objective)
        for label in labels
    ]
    first = torch.stack([values.losses[0, 0] for values in single])
    assert mixed.losses[0, 0].item() == pytest.approx(first.mean().item(), abs=1e-9)
    assert torch.allclose(mixed.init, single[0].init)
    beside = solve_values(lm, [request] * 2, ["{}"], objective, labels=[labels, labels[:1]])
    assert torch.allclose(beside.delta[0], mixed.delta[0], atol=1e-9)
    assert torch.allclose(beside.delta[1], single[0].delta[0], atol=1e-9)
    assert [len(text) for text in write_texts(lm, [request] * 2, ["{}"], [labels, labels[:1]])] == [4, 2]


# --- which labels ------------------------------------------------------------------------------------------
def edits():
    """Two cases of three true objects, the second edited; a neighbour of it in the first case only."""
    rows = []

    def add(case_id, edit, position, target):
        rows.append(
            (case_id, edit, position, "Q1", "Ada", "R1", "{} saw", f"Q-{target}", target, "Q9", "Rome")
        )

    for case_id in (0, 1):
        add(case_id, "e2", 0, "Ulm")
        for i, target in enumerate(("Graz", "Ulm", "Oslo")):
            add(case_id, "multi", i, target)
        add(case_id, "related", 0, "Ulm")
    add(0, "related", 1, "Germany")
    return pd.DataFrame(rows, columns=list(EDITS.columns))


@pytest.mark.parametrize(
    ("second_edit", "labels", "wanted"),
    [
        ("plain", "all", [["Ulm"], ["Ulm"]]),
        ("multi_label", "all", [["Graz", "Ulm", "Oslo"]] * 2),
        ("multi_label", 1, [["Ulm"]] * 2),
        ("multi_label", "related", [["Ulm", "Germany"], ["Ulm"]]),
    ],
)
def test_labels_of_the_second_edit_are_chosen(second_edit, labels, wanted):
    found = second_requests(edits(), [0, 1], second_edit, labels)
    assert [[request.target_new for request in case] for case in found] == wanted


def test_some_labels_are_the_edited_one_and_others_that_are_drawn():
    rows = [
        (case, "multi", i, "Q", "Ada", "R", "{}", "", name, "", "")
        for case in range(400)
        for i, name in enumerate(("Graz", "Linz", "Ulm", "Oslo", "Wien"))
    ]
    rows += [(case, "e2", 0, "Q", "Ada", "R", "{}", "", "Ulm", "", "") for case in range(400)]
    table = pd.DataFrame(rows, columns=list(EDITS.columns))
    found = {k: second_rows(table, "multi_label", k) for k in (2, 3, 9)}
    pd.testing.assert_frame_equal(
        found[2], second_rows(table.sample(frac=1, random_state=0), "multi_label", 2)
    )
    chosen = {k: rows.groupby("case_id", sort=False)["target_new"].agg(list) for k, rows in found.items()}
    assert set(chosen[2].str[0]) == {"Ulm"}
    assert all(three[:2] == two for two, three in zip(chosen[2], chosen[3], strict=True))
    assert all(sorted(every) == ["Graz", "Linz", "Oslo", "Ulm", "Wien"] for every in chosen[9])
    counts = chosen[2].str[1].value_counts()
    assert set(counts.index) == {"Graz", "Linz", "Oslo", "Wien"}
    assert chisquare(counts).pvalue > 0.001  # whatever their positions


def test_the_neighbour_of_an_object_is_what_many_share():
    facts = ["city1 country A", "city1 mayor m1", "city1 street s1", "city2 country A", "city2 mayor m2"]
    facts += ["city3 country B", "m1 street s2"]
    index = FactIndex(frozenset(Fact(*fact.split()) for fact in facts), {})
    shared = {"country": 1.0, "mayor": 1.0, "street": 0.4}
    context = Context(index, {}, shared, frozenset(["country", "mayor"]))
    assert context.neighbour("city1") == "A"
    assert context.neighbour("m1") is None
    assert context.neighbour("nowhere") is None
    splits = {"A": "dev", "m1": "test"}
    assert context.neighbour("city1", splits, "test") == "m1"
    assert context.neighbour("city1", splits, "dev") == "A"
    assert context.neighbour("city2", splits, "train") == "m2"
    assert context.neighbour("city3", splits, "train") == "B"
