"""LoRA against the formula, and the model untouched by PEFT."""

import copy

import pytest
import torch

from aftershock.editors.lora.edit import NAME, adapted
from aftershock.lm.edits import select
from aftershock.lm.texts.tokens import encode_pairs
from aftershock.seeds import derive
from editing import close, make
from obvious import in_batches, log_probs, of_target, train
from tiers import some
from tiny import requests, tiny

EVERYWHERE = {"attention": None, "in": None, "out": None}


def traces(lm):
    """Everything of a model that an adapter could leave behind."""
    return {
        name: (id(module), sorted(vars(module)), len(module._forward_hooks), module.training)
        for name, module in lm.model.named_modules()
    }


def slow(lm, case, settings, factors):
    """Losses, and the change of each matrix, from its first A: W + alpha / r B A on a copy of the model."""
    model, scale = copy.deepcopy(lm.model), settings.alpha / settings.rank
    params = {
        name: (A, torch.zeros(lm.weight(name).shape[0], settings.rank, dtype=A.dtype, requires_grad=True))
        for name, A in factors.items()
    }
    hooks = {
        name: lambda module, args, output, A=A, B=B: output + scale * args[0] @ A.T @ B.T
        for name, (A, B) in params.items()
    }

    def loss_of(part):
        pairs = encode_pairs(lm, [(r.text, r.target_new) for r in part])
        logs = [of_target(log_probs(model, [*p.prompt, *p.target], hooks), p).mean() for p in pairs]
        return -sum(logs) / len(part)

    every = [p for pair in params.values() for p in pair]
    epochs = [in_batches(case, settings.batch_size)] * settings.steps
    options = {"lr": settings.lr, "weight_decay": settings.weight_decay}
    losses = train(every, epochs, loss_of, settings.early_stop, **options)
    return losses, {name: (scale * B @ A).detach() for name, (A, B) in params.items()}


@pytest.mark.parametrize("family", some(["gpt2", "llama", "gptj", "phi3", "gemma2"], ["gpt2", "phi3"]))
@pytest.mark.parametrize("changes", [{}, {"early_stop": 2.0, "weight_decay": 0.1, "init": "gaussian"}])
def test_it_is_adam_on_two_factors(family, changes):
    lm = tiny(family)
    editor = make("lora", lm, layers=[0, 2], modules=EVERYWHERE, steps=6, batch_size=2, **changes)
    case = requests(3)
    with adapted(lm, editor.modules, editor.settings, derive(0, "lora")) as layers:
        first = {name: layer.lora_A[NAME].weight.detach().clone() for name, layer in layers.items()}
    losses, wanted = slow(lm, case, editor.settings, {n: A.requires_grad_() for n, A in first.items()})
    result = editor.edit([case])
    assert result.diagnostics[0]["losses"] == pytest.approx(losses, abs=1e-6)
    assert [delta.module for delta in result.delta] == list(wanted)
    for delta in result.delta:
        assert delta.rank == editor.settings.rank
        change = wanted[delta.module]
        assert (delta.dense()[0] - change).norm() < 1e-5 * change.norm(), delta.module


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_model_is_the_same_object_with_the_same_modules_afterwards(family):
    lm = tiny(family)
    before, weights = traces(lm), copy.deepcopy(lm.model.state_dict())
    editor = make("lora", lm, layers=[0, 1, 2], modules=EVERYWHERE)
    editor.edit([requests(2), requests(1)])
    assert traces(lm) == before
    after = lm.model.state_dict()
    assert list(after) == list(weights)
    assert all(torch.equal(weights[name], tensor) for name, tensor in after.items())
    assert not any(parameter.requires_grad for parameter in lm.model.parameters())
    with adapted(lm, editor.modules, editor.settings, 0):
        assert traces(lm) != before
    with pytest.raises(ZeroDivisionError), adapted(lm, editor.modules, editor.settings, 0):
        1 / 0  # noqa: B018
    assert traces(lm) == before


def test_the_draw_of_the_adapter_is_the_seeds_and_nobody_elses():
    lm = tiny()
    editor = make("lora", lm, layers=[1])
    torch.manual_seed(5)
    first = editor.edit([requests(1), requests(2)]).delta
    state = torch.random.get_rng_state()
    torch.manual_seed(5)
    assert torch.equal(state, torch.random.get_rng_state())
    assert close(select(first, [1]), editor.edit([requests(2)]).delta, 1e-12)
    editor.seed = 1
    assert not close(first, editor.edit([requests(1), requests(2)]).delta, 1e-2)
