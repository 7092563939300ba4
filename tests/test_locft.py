"""LocFT-BF against the loop as it is written down, its variants, and the training of whole layers."""

import copy

import pytest
import torch

from aftershock.editors import fine_tuning
from aftershock.editors.training_batch import Entry
from aftershock.lm.edits import Dense, Scale, join, random_like, state_norm
from aftershock.lm.edits.fold import fold
from aftershock.lm.scoring import score
from aftershock.requests import Query
from benchmarks.models import as_published
from editing import make
from obvious import in_batches, train
from tiers import of_families, some
from tiny import FAMILIES, requests, tiny

LAYER = {"parameters": "layer", "steps": 3, "lr": 0.01}


def slow(lm, case, editor):
    """Losses of all updates, and the change of each trained parameter, on a copy of the model."""
    settings, model = editor.settings, copy.deepcopy(as_published(lm).model)  # its norms have gradients
    trained = {key: model.get_parameter(".".join(key)).requires_grad_() for key in editor.parameters}
    start = {key: p.detach().clone() for key, p in trained.items()}
    texts = []
    for request in case:
        (prompt,), (target,) = lm.encode([request.text]), lm.encode_targets([request.target_new])
        texts.append((prompt, target + [lm.tokenizer.eos_token_id] * settings.append_eos))

    def loss_of(part):
        longest, loss = max(len(prompt) + len(target) for prompt, target in part), 0.0
        for prompt, target in part:
            ids, shift = prompt + target, longest - len(prompt) - len(target)
            options = {"input_ids": torch.tensor([ids])}
            if settings.variant == "released":  # padded on the left, and nobody says so
                ids = [0] * shift + ids
                mask = torch.tensor([[0] * shift + [1] * (len(ids) - shift)])
                options = {"input_ids": torch.tensor([ids]), "attention_mask": mask}
            logits = model(**options).logits[0, -len(target) - 1 : -1]
            if settings.variant == "released":
                hidden = model.base_model(**options).last_hidden_state[0, -len(target) - 1 : -1]
                logits = torch.cat([logits, hidden @ editor.added.weight.to(hidden)[:, None]], dim=1)
            loss = loss - logits.log_softmax(-1)[range(len(target)), target].mean() / len(part)
        return loss

    orders = [editor.order(len(case), epoch) for epoch in range(settings.steps)]
    epochs = [in_batches([texts[i] for i in order], settings.batch_size) for order in orders]
    options = {"lr": settings.lr, "weight_decay": settings.weight_decay}
    losses = train(trained.values(), epochs, loss_of, fine_tuning.ENOUGH, **options)
    return losses, {key: p.detach() - start[key] for key, p in trained.items()}


def check(lm, case, editor):
    losses, changes = slow(lm, case, editor)
    result = editor.edit([case])
    assert result.diagnostics[0]["losses"][:, 0].tolist() == pytest.approx(losses, abs=1e-5)
    assert {delta.module for delta in result.delta} == {module for module, _ in changes}
    for delta in result.delta:
        wanted = changes[delta.module, "weight"]
        wanted = wanted.T if lm.family.transposed and wanted.ndim == 2 else wanted
        assert torch.allclose(delta.weight[0], wanted, atol=1e-6), delta.module
        assert (delta.bias is not None) == ((delta.module, "bias") in changes)
        if delta.bias is not None:
            # a bias that only shifts all keys changes nothing, so that its gradient is rounding alone
            sure = changes[delta.module, "bias"]
            keys = sure.abs() > 0
            near = (delta.bias[0] - sure).abs() < 1e-6
            assert near[keys].float().mean() > 0.6, delta.module
    return result


@pytest.mark.parametrize("family", some(["gpt2", "llama", "gptj", "gemma2", "phi3"], ["gpt2", "gemma2"]))
@pytest.mark.parametrize("changes", [{}, {"append_eos": False, "weight_decay": 0.1}])
def test_it_is_adam_over_shuffled_batches(family, changes):
    lm = tiny(family)
    editor = make("locft", lm, layers=[1], steps=4, batch_size=2, **changes)
    result = check(lm, requests(5), editor)
    (delta,) = result.delta
    assert delta.module == lm.projection(1)
    assert isinstance(delta, Dense)
    assert delta.bias is None


def test_it_skips_updates_of_low_loss_and_stops_after_a_pass_of_them(monkeypatch):
    monkeypatch.setattr(fine_tuning, "ENOUGH", 4.5)
    lm = tiny()
    editor = make("locft", lm, layers=[1], steps=40, batch_size=2, lr=0.05)
    result = check(lm, requests(5), editor)
    updates = len(result.diagnostics[0]["losses"])
    assert result.steps[0] < updates < 40 * 3
    assert result.losses[0] < 4.5


def test_every_pass_has_an_order_of_its_own_that_the_seed_decides():
    lm = tiny()
    editor = make("locft", lm, layers=[1])
    orders = [tuple(editor.order(7, epoch)) for epoch in range(4)]
    assert all(sorted(order) == list(range(7)) for order in orders)
    assert len(set(orders)) == 4
    assert orders == [tuple(make("locft", lm, layers=[0]).order(7, epoch)) for epoch in range(4)]
    editor.seed = 1
    assert orders != [tuple(editor.order(7, epoch)) for epoch in range(4)]


@pytest.mark.parametrize("family", some(["gpt2", "llama", "gptj", "opt"], ["llama"]))
def test_the_released_variant_adds_a_token_and_pads_on_the_left(family):
    lm = tiny(family)
    options = {"layers": [1], "steps": 4, "batch_size": 3}
    editor = make("locft", lm, **options, variant="released")
    if family != "gptj":  # whose head has a bias, which the recorded cases test
        check(lm, requests(6), editor)
    released, paper = editor.edit([requests(6)]).delta, make("locft", lm, **options).edit([requests(6)]).delta
    (a,), (b,) = paper, released
    difference = ((a.weight - b.weight).norm() / a.weight.norm()).item()
    if family == "gpt2":
        assert difference == pytest.approx(SHIFTED, abs=0.005)  # the docstring of the editor says so
    assert difference > 1e-5


def test_the_added_row_is_close_to_the_mean_of_the_head():
    lm = tiny()
    row = make("locft", lm, layers=[1], variant="released").added
    head = lm.model.get_output_embeddings().weight
    apart = (row.weight - head.mean(dim=0)).norm()
    assert 0 < apart < 1e-3 * head.norm(dim=1).mean()


# --- whole layers ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "family", some(["gpt2", "llama", "qwen3", "gemma2", "olmo2", "phi"], ["gpt2", "gemma2"])
)
def test_a_whole_layer_is_trained_with_its_norms_and_biases(family):
    lm = tiny(family)
    editor = make("locft", lm, layers=[1], batch_size=2, append_eos=False, **LAYER)
    result = check(lm, requests(3), editor)
    inside = lm.model.get_submodule(lm.layer(1))
    kinds = {type(delta) for delta in result.delta}
    assert kinds == {Dense, Scale}
    assert {delta.module for delta in result.delta} == set(editor.changed_modules)
    assert sum(1 + (d.bias is not None) for d in result.delta) == len(list(inside.parameters()))


@pytest.mark.parametrize("family", of_families(FAMILIES))
def test_a_changed_layer_says_what_changed_weights_say(family):
    lm = tiny(family)
    case = requests(2)
    state = make("locft", lm, layers=[0, 2], **LAYER).edit([case, case[:1]]).delta
    state = (*state, *random_like(state, [0, 1]))
    for i in range(2):
        queries = [Query(r.text, r.target_new, i) for r in case]
        found = [s.logprob for s in score(lm, queries, state)]
        with fold(lm, state, i):
            wanted = [s.logprob for s in score(lm, [Query(q.prompt, q.target) for q in queries])]
        assert found == pytest.approx(wanted, abs=1e-7)
        assert found == pytest.approx([s.logprob for s in score(lm, queries, join(state))], abs=1e-7)


def test_scales_of_one_norm_are_measured_like_matrices():
    lm = tiny()
    norm = f"{lm.layer(1)}.ln_1"
    g = torch.Generator().manual_seed(0)
    weight, bias = (torch.randn(2, lm.d_model, generator=g, dtype=lm.dtype) for _ in range(2))
    norms = ((2 * weight).square().sum(dim=1) + bias.square().sum(dim=1)).sqrt()
    state = (Scale(norm, weight, bias), Scale(norm, weight))
    assert torch.allclose(state_norm(state), norms)
    assert torch.allclose(state_norm(random_like(state, [3, 4])), norms)


def test_training_begins_where_it_matters():
    lm = tiny("llama")
    assert Entry.below(lm, [lm.projection(1), "model.layers.2.mlp.up_proj"]) == Entry(1, True)
    assert Entry.below(lm, [lm.projection(1), "model.layers.1.mlp.up_proj"]) == Entry(0, False)


SHIFTED = 0.92
"""Relative difference of the two variants' changes."""
