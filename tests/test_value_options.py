"""Earlier ends of optimised values, and the norm they are brought to, against slow, obvious versions."""

import math
from dataclasses import replace

import pytest
import torch

from aftershock.editors.contexts import PLAIN
from aftershock.lm.hooks import at_subjects, record_activations
from aftershock.lm.optimisation.objective import Objective, trimmed_mean
from aftershock.lm.optimisation.values import solve_values
from aftershock.lm.statistics.probe_facts import FACTS
from aftershock.lm.texts.tokens import locate
from aftershock.requests import EditRequest
from editing import close, make, singles
from obvious import check_values, hooked, mean_probability, obvious_value
from tiers import once_each, repeated
from tiny import CITIES, NAMES, ROUNDING, TEMPLATES, in_turn, requests, tiny

CONTEXTS = ["{}", "It rains. {}", "As they say in the city of Graz. {}"]
STEPS = 14
EAGER = {"steps": STEPS, "lr": 1.0, "weight_decay": 0.1, "clamp": 30.0, "kl_factor": 0.0}
"""Settings with which a random model comes to say some targets of `homes`."""
HOMES = ("Oslo", "Old Mill Town", "Rome", "Greenfield", "Graz")


def homes(n):
    """Requests that end in their subject, where a value has the most to say; one target has three tokens."""
    return [EditRequest("Home is {}", NAMES[i], HOMES[i]) for i in range(n)]


def rights(said, target):
    """The number of right target tokens after each context."""
    return [sum(int(row.argmax() == token) for row, token in zip(rows, target, strict=True)) for rows in said]


def passing(passes, wanted=None):
    """MPES in plain words: a counter of steps at which the counted texts have all their tokens right."""
    steps = []

    def stop(said, target):
        counted = said[1:] or said
        right = sum(rights(counted, target))
        if right == (len(counted) * len(target) if wanted is None else wanted):
            steps.append(right)
        return len(steps) == passes

    return stop


def probable(cutoff):
    """The mean over contexts of exp(-nll) is above the cutoff."""

    def stop(said, target):
        return mean_probability(said, target) > cutoff

    return stop


@pytest.mark.parametrize(
    ("contexts", "options", "stop"),
    [
        (CONTEXTS, {"prob_cutoff": -1}, lambda: passing(1)),
        (CONTEXTS, {"prob_cutoff": -4}, lambda: passing(4)),
        (CONTEXTS, {"prob_cutoff": -2, "prob_cutoff_tokens": 2}, lambda: passing(2, 2)),
        (CONTEXTS, {"prob_cutoff": 0.05}, lambda: probable(0.05)),
        ([PLAIN], {"prob_cutoff": -1}, lambda: passing(1)),  # which counts where it is alone
    ],
)
def test_a_value_ends_where_the_obvious_loop_ends(contexts, options, stop):
    found = check_values(tiny(), homes(5), contexts, (1, "layer"), EAGER, 1e-6, stop=stop, **options)
    assert (found.updates < STEPS - 1).any()
    if contexts == [PLAIN]:
        released = Objective(1, "layer", **EAGER, prob_cutoff=-1, prob_cutoff_tokens=1)
        assert (solve_values(tiny(), homes(3), [PLAIN], released).updates == STEPS - 1).all()
    else:
        assert len(set(found.updates.tolist())) > 2, "values should end at steps of their own"


def test_what_is_said_is_read_at_the_loss_layer():
    lm, asked = tiny(), homes(5)
    objective = Objective(0, "layer", **EAGER, loss_layer=1, prob_cutoff=-1)
    free = solve_values(lm, asked, [PLAIN], replace(objective, prob_cutoff=0.0))
    found = solve_values(lm, asked, [PLAIN], objective)
    assert (found.updates < free.updates).any()
    for i, request in enumerate(asked):
        (row,) = locate(lm, [(request.prompt, request.subject)])
        (target,) = lm.encode_targets([request.target_new])
        ids = torch.tensor([[*row.ids, *target[:-1]]])

        def add(module, args, output, i=i, row=row):
            output = output.clone()
            output[0, row.subject] += found.delta[i]
            return output

        with (
            torch.no_grad(),
            hooked(lm.model, {lm.layer(0): add}),
            record_activations(lm, outputs=[lm.layer(1)]) as seen,
        ):
            lm.run(ids, None)
        said = lm.logits(lm.normed(seen["out", lm.layer(1)]))[0, len(row.ids) - 1 :].argmax(dim=-1)
        assert (said.tolist() == list(target)) == (found.updates[i] < STEPS - 1)


# --- contexts ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("layers", "family"), once_each(in_turn([1, 2])))
def test_contexts_that_differ_are_penalised_as_in_the_obvious_loop(layers, family):
    lm = tiny(family)
    site = "mlp" if lm.family.mlp_norm else "layer"
    settings = {**EAGER, "steps": 4, "lr": 0.3, "context_penalty": 0.3, "context_layers": layers}
    check_values(lm, requests(2), CONTEXTS, (0, site), settings, 1e3 * ROUNDING[family])


def test_layers_beyond_the_last_are_not_compared_and_none_at_all_is_an_error():
    lm, asked = tiny(), requests(2)
    settings = {**EAGER, "steps": 4, "context_penalty": 0.3}
    two, many = (
        solve_values(lm, asked, CONTEXTS, Objective(0, "layer", **settings, context_layers=n)) for n in (2, 9)
    )
    assert torch.equal(two.delta, many.delta)
    with pytest.raises(
        ValueError, match="compares contexts after 0 layers above layer 0, and the model has 2"
    ):
        solve_values(lm, asked, CONTEXTS, Objective(0, "layer", **settings))
    with pytest.raises(
        ValueError, match="compares contexts after 9 layers above layer 2, and the model has 0"
    ):
        solve_values(lm, asked, CONTEXTS, Objective(2, "layer", **settings, context_layers=9))


# --- norm --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("site", "family"), once_each(in_turn(["mlp", "layer"])))
def test_an_anchored_value_has_the_norm_and_direction_of_the_formula(site, family):
    lm, asked = tiny(family), requests(3)
    site = "mlp" if lm.family.mlp_norm else site
    base = {**EAGER, "steps": 6, "lr": 0.3}
    free = solve_values(lm, asked, CONTEXTS, Objective(0, site, **base))
    found = solve_values(lm, asked, CONTEXTS, Objective(0, site, **base, norm_anchor=2.5))
    rows = locate(lm, [(request.prompt, request.subject) for request in asked])
    for i, row in enumerate(rows):
        with torch.no_grad(), record_activations(lm, outputs=[lm.mlp(0), lm.layer(0)]) as seen:
            lm.run(torch.tensor([row.ids]), None)
        v0 = seen["out", lm.mlp(0)][0, row.subject]
        h = v0 if site == "mlp" else seen["out", lm.layer(0)][0, row.subject]
        v0 = v0 if site == "mlp" else lm.mlp_scale * v0
        v = v0 + free.delta[i]
        assert torch.allclose(found.target[i], h - v0 + 2.5 * v / v.norm(), atol=1e3 * ROUNDING[family])
        assert found.norms[i].item() == pytest.approx(v.norm().item())
    assert not found.skipped.any()
    assert torch.equal(found.losses, free.losses)


def test_a_value_that_is_too_long_is_left_as_it_was():
    lm, asked = tiny(), requests(6)
    free = solve_values(lm, asked, CONTEXTS, Objective(0, "layer", **EAGER))
    limit = free.norms.median().item()
    objective = Objective(0, "layer", **EAGER, norm_anchor=limit / 2, norm_anchor_limit=2.0)
    found = solve_values(lm, asked, CONTEXTS, objective)
    assert found.skipped.tolist() == [norm.item() > limit for norm in free.norms]
    assert 0 < found.skipped.sum() < len(asked)
    assert torch.equal(found.target[found.skipped], found.init[found.skipped])
    assert torch.equal(found.delta, free.delta)
    rows = locate(lm, [(request.prompt, request.subject) for request in asked])
    mlp = at_subjects(lm, rows, (), [0] * len(rows), outputs=[lm.mlp(0)])[0]["out", lm.mlp(0)]
    kept = (mlp + found.change)[~found.skipped].norm(dim=1)
    assert torch.allclose(kept, torch.full_like(kept, limit / 2))


def test_the_key_of_a_skipped_value_takes_part_in_the_update():
    lm, cases = (
        tiny(),
        [[EditRequest(TEMPLATES[0], name, city) for name, city in zip(NAMES, CITIES[:4], strict=False)]],
    )
    options = {"layers": [1], "norm_anchor_limit": 1.0}
    free = make("memit", lm, layers=[1]).edit(cases)
    limit = free.diagnostics[0]["norm"].median().item()
    found = make("memit", lm, **options, norm_anchor=limit).edit(cases)
    solved, spread = found.diagnostics
    assert found.reasons == (None,)
    assert 0 < solved["skipped"].sum() < 4
    assert torch.allclose(spread["K"], free.diagnostics[1]["K"])
    assert not spread["residual"][solved["skipped"]].any()
    kept = [r for r, skipped in zip(cases[0], solved["skipped"].tolist(), strict=True) if not skipped]
    alone = make("memit", lm, layers=[1], norm_anchor=limit).edit([kept])
    assert not close(found.delta, alone.delta), "without their keys the update is another one"


@pytest.mark.parametrize("method", [repeated("rome"), repeated("r_rome"), "memit"])
def test_a_measured_norm_is_the_trimmed_mean_of_values_solved_one_by_one(method, monkeypatch):
    lm = tiny()
    facts = [
        (r.prompt, r.subject, r.target_new) for r in [*requests(8), *requests(8, template=1), *requests(6, 2)]
    ]
    monkeypatch.setattr("aftershock.editors.optimised.FACTS", facts)
    options = {"layers": [0, 1], "steps": 4}
    editor = make(method, lm, **options, norm_anchor="auto")
    layers = [1] if method == "memit" else [0, 1]
    assert list(editor.measured["norm_anchor"]) == layers
    site = "layer" if method == "memit" else "mlp"
    settings = {name: getattr(editor.settings, name) for name in EAGER}
    for layer in layers:
        norms = []
        for fact in facts:
            v0, delta, _ = obvious_value(lm, EditRequest(*fact), [PLAIN], layer, site, settings)
            (row,) = locate(lm, [fact[:2]])
            with torch.no_grad(), record_activations(lm, outputs=[lm.mlp(layer)]) as seen:
                lm.run(torch.tensor([row.ids]), None)
            norms.append((seen["out", lm.mlp(layer)][0, row.subject] + delta).norm().item())
        kept = sorted(norms)[:-1]  # a twentieth of 22 is one whole
        assert editor.measured["norm_anchor"][layer] == pytest.approx(sum(kept) / len(kept), rel=1e-6)
    number = editor.measured["norm_anchor"]
    if method == "memit":
        same = make(method, lm, **options, norm_anchor=number[1])
        assert close(editor.edit(singles(2)).delta, same.edit(singles(2)).delta, 1e-12)
        assert same.measured == {}


def test_the_largest_norms_are_left_out_of_the_mean():
    norms = torch.tensor([3.0, 1.0, 2.0, 100.0, 4.0, 5.0, 90.0, 7.0, 8.0, 9.0, 6.0])
    assert trimmed_mean(norms, 0.9) == pytest.approx(13.5)  # a tenth of 11 is one whole
    assert trimmed_mean(norms, 0.8) == pytest.approx(5.0)
    assert trimmed_mean(norms, 0.95) == pytest.approx(norms.mean().item())
    assert len(FACTS) == len({fact[:2] for fact in FACTS}) == 40


def test_a_norm_that_cannot_be_measured_is_an_error():
    lm = tiny()
    with torch.no_grad():
        lm.weight(lm.projection(0)).fill_(math.nan)
    with pytest.raises(ValueError, match="norm_anchor: auto cannot be measured at layer 0: the loss"):
        make("rome", lm, layers=[0], mom2_adjustment=False, norm_anchor="auto").edit(singles(1))


def test_options_are_off_unless_set():
    assert Objective(0, "mlp", **EAGER) == make("rome", tiny(), layers=[0], **EAGER).objective(0)
