"""CrispEdit: Kronecker factors, what they keep of a gradient, and training inside of that."""

import pytest
import torch

from aftershock.editors.changes import change_of
from aftershock.editors.crispedit.curvature import Factors, Projection, measure
from aftershock.lm.edits import Batch, apply_deltas
from editing import close, make
from obvious import log_probs, of_target, off
from tiny import requests, tiny

BRIEF = {"layers": [1, 2], "steps": 3, "lr": 0.01, "energy": 0.8, "documents": 6, "document_tokens": 10}


def random_factors(seed, d_in=7, d_out=5):
    draw = torch.Generator().manual_seed(seed)
    a, g = (torch.randn(20, d, generator=draw, dtype=torch.float64) for d in (d_in, d_out))
    return Factors(a.T @ a / 20, g.T @ g / 20, 20.0)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_factors_are_means_over_the_positions_that_predict_a_token(family):
    """One text at a time, by the gradient at a weight: with one position it is g a^T."""
    lm = tiny(family)
    texts = [*lm.encode(["It rains in Graz today", "Anna was born"]), [3]]
    modules = [lm.projection(1), lm.projection(2)]
    found = measure(lm, texts, modules)
    for module in modules:
        A, B, count = 0.0, 0.0, 0
        for text in texts[:2]:
            kept = {}

            def hook(inner, args, output, kept=kept):
                output = output if output.requires_grad else output.detach().requires_grad_()
                output.retain_grad()
                kept["a"], kept["y"] = args[0], output
                return output

            log_p = log_probs(lm.model, text, {module: hook})
            (-log_p[range(len(text) - 1), text[1:]].sum()).backward()
            a, g = kept["a"][0, :-1].detach().double(), kept["y"].grad[0, :-1].double()
            A, B, count = A + a.T @ a, B + g.T @ g, count + len(a)
        assert off(found[module].A, A / count) < 1e-6
        assert off(found[module].B, B / count) < 1e-6
        assert found[module].count == count


def test_a_projection_keeps_what_the_released_form_does():
    cases = [random_factors(0), random_factors(1)]
    projection = Projection.of(cases, 0.7)
    G = torch.randn(3, 5, 7, dtype=torch.float64)
    found = projection(G, torch.tensor([1, 0, 1]))
    for i, case in enumerate([1, 0, 1]):
        Sa, Ua = torch.linalg.eigh(cases[case].A)
        Sb, Ub = torch.linalg.eigh(cases[case].B)
        values = sorted((float(a * b) for a in Sa for b in Sb), reverse=True)
        total, rank = 0.0, 0
        while total + values[rank] < 0.7 * sum(values):
            total, rank = total + values[rank], rank + 1
        wanted = torch.zeros(5, 7, dtype=torch.float64)
        for p in range(5):
            for q in range(7):
                if float(Sb[p] * Sa[q]) < values[rank]:
                    wanted += float(Ub[:, p] @ G[i] @ Ua[:, q]) * torch.outer(Ub[:, p], Ua[:, q])
        assert off(found[i], wanted) < 1e-9
    assert off(projection(found, torch.tensor([1, 0, 1])), found) < 1e-9


def test_merged_factors_are_means_over_all_positions():
    factors = random_factors(0)
    a, g = torch.randn(4, 7, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)
    a[3] = g[3] = 0.0  # which only fills up
    merged = factors.merged(a, g)
    assert merged.count == 23
    assert off(merged.A, (20 * factors.A + a.T @ a) / 23) < 1e-12
    assert off(merged.B, (20 * factors.B + g.T @ g) / 23) < 1e-12


def outside(editor, delta, memory=None):
    """The share of each matrix's change that is outside the subspace."""
    every = torch.arange(len(delta[0]))
    kept = editor.projections(memory)
    return [off(kept[d.module](d.weight, every), d.weight) for d in delta]


def test_a_projected_step_stays_in_the_subspace_and_a_projected_gradient_leaves_it():
    lm, cases = tiny("llama"), [requests(3), requests(2, template=1)]
    gradient, step = (make("crispedit", lm, **BRIEF, project=project) for project in ("gradient", "step"))
    assert min(outside(gradient, gradient.edit(cases).delta)) > 0.05
    assert max(outside(step, step.edit(cases).delta)) < 1e-5


def test_the_first_step_is_adams_on_the_projected_gradient_of_the_mean_over_tokens():
    lm, case = tiny("gpt2"), requests(3)
    editor = make("crispedit", lm, **{**BRIEF, "steps": 1}, weight_decay=0.1)
    result = editor.edit([case])
    weights = {m: lm.model.get_submodule(m).weight.requires_grad_(True) for m in editor.changed_modules}
    logs = [of_target(log_probs(lm.model, [*p.prompt, *p.target]), p) for p in editor.pairs(case)]
    loss = -torch.cat(logs).mean()
    gradients = torch.autograd.grad(loss, list(weights.values()))
    assert result.losses[0] == pytest.approx(loss.item(), rel=1e-5)
    for (module, weight), G in zip(weights.items(), gradients, strict=True):
        weight.requires_grad_(False)
        G = G.T if lm.family.transposed else G
        kept = editor.projections(None)[module](G[None], torch.zeros(1, dtype=torch.long))[0]
        kept = kept + 0.1 * lm.weight(module)
        found = change_of(module, result.delta).dense()[0]
        large = kept.abs() > 1e-6  # elsewhere Adam's epsilon decides
        assert torch.allclose(found[large], -0.01 * kept.sign()[large], rtol=2e-2)


def test_the_next_edit_goes_on_with_adam_and_with_the_targets_before_it():
    lm, first, more = tiny("llama"), [requests(2), requests(1, template=1)], [requests(1, 2), requests(2, 2)]
    editor = make("crispedit", lm, **BRIEF)
    one = editor.edit(first)
    two = editor.edit(more, one.delta, one.memory)
    targets = [sum(len(pair.target) for pair in editor.pairs(case)) for case in first]
    more_targets = [sum(len(pair.target) for pair in editor.pairs(case)) for case in more]
    for module in editor.changed_modules:
        assert one.memory[f"step.{module}"].tolist() == [float(n) for n in one.steps]
        sums = [a + b for a, b in zip(one.steps, two.steps, strict=True)]
        assert two.memory[f"step.{module}"].tolist() == [float(n) for n in sums]
        rows = [int(m.ne(0).any(dim=1).sum()) for m in one.memory[f"inputs.{module}"]]
        assert rows == targets
        rows = [int(m.ne(0).any(dim=1).sum()) for m in two.memory[f"inputs.{module}"]]
        assert rows == [a + b for a, b in zip(targets, more_targets, strict=True)]
    forgetful = make("crispedit", lm, **BRIEF, remember_edits=False)
    assert forgetful.edit(first).memory is None
    assert not close(forgetful.edit(more, one.delta).delta, two.delta)


def test_text_changes_less_than_where_nothing_is_kept_away_from():
    lm, case = tiny("llama"), [requests(3)]
    editor = make("crispedit", lm, **{**BRIEF, "energy": 0.99}, project="step")
    free = make("crispedit", lm, **{**BRIEF, "energy": 1e-9}, project="step")
    ids = torch.tensor([editor.texts[0]])
    batch = Batch.of_prompts(ids, torch.ones_like(ids), torch.zeros(1, dtype=torch.long))

    def moved(delta):
        with torch.no_grad():
            before = lm.logits(lm.run(ids, None)).log_softmax(-1)
            with apply_deltas(lm, delta, batch):
                after = lm.logits(lm.run(ids, None)).log_softmax(-1)
        return float((before.exp() * (before - after)).sum(-1).mean())

    assert moved(editor.edit(case).delta) < 0.5 * moved(free.edit(case).delta)
