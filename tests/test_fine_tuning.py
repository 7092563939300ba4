"""LoRA against the formula, with the model untouched by PEFT; FT's weight decay and released targets."""

import copy
import math

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from aftershock.editors import fine_tuning
from aftershock.editors.lora.edit import NAME, adapted
from aftershock.lm.edits import select
from aftershock.lm.texts.tokens import encode_pairs
from aftershock.prompts import following
from aftershock.seeds import derive
from editing import close, make
from obvious import in_batches, log_probs, of_target, train
from tiers import some
from tiny import requests, tiny
from tokenizers_here import MAKERS

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


# --- FT -----------------------------------------------------------------------------------------------------
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "clean_up_tokenization_spaces": False}
LLAMA = {**SPECIAL, "unk_token": "<unk>", "pad_token": "</s>"}
ALONE = {**SPECIAL, "pad_token": "</s>"}  # without a token for what is unknown
SAME = {**SPECIAL, "unk_token": "</s>", "pad_token": "</s>"}  # padding is the unknown token, as in GPT-2


def begun(kind, special):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=MAKERS[kind](), padding_side="right", **special)
    lm = tiny("llama", tokenizer=tokenizer)
    lm.target_ids = "released"
    return lm


def slow_released(lm, case, settings):
    """The released loop on one case: losses of all updates, and the change of the trained matrix."""
    tokenizer, model = lm.tokenizer, copy.deepcopy(lm.model)
    weight = model.get_submodule(lm.projection(settings.layers[0])).weight.requires_grad_()
    start = weight.detach().clone()

    def loss_of(part):
        texts, total = [following(r.prompt, r.target_new) for r in part], 0.0
        targets = tokenizer(texts, padding=True, return_tensors="pt")["input_ids"]
        for request, ids in zip(part, targets, strict=True):
            log_p = log_probs(model, tokenizer(request.text)["input_ids"])[-1]
            counted = [t for t in ids.tolist() if t != tokenizer.unk_token_id]
            total = total - sum(log_p[t] for t in counted) / len(counted) / len(part)
        return total

    epochs = [in_batches(case, settings.batch_size)] * settings.steps
    options = {"lr": settings.lr, "weight_decay": settings.weight_decay}
    return train([weight], epochs, loss_of, 0.0, **options), weight.detach() - start


@pytest.mark.parametrize("special", [LLAMA, ALONE, SAME], ids=["llama", "no unknown", "padding unknown"])
@pytest.mark.parametrize("kind", ["llama2", "metaspace"])
def test_released_targets_hold_what_begins_a_text_and_padding(kind, special):
    lm = begun(kind, special)
    case = requests(3)
    settings = {"layers": [1], "steps": 4, "batch_size": 2, "objective": "prompt_last"}
    editor = make("ft", lm, **settings)
    first = lm.tokenizer(following(case[0].prompt, case[0].target_new))["input_ids"]
    assert first[0] == lm.tokenizer.bos_token_id
    sizes = {len(lm.tokenizer(following(r.prompt, r.target_new))["input_ids"]) for r in case[:2]}
    assert len(sizes) == 2  # so that one is padded
    result = editor.edit([case, case[:1]])
    for i, mine in enumerate((case, case[:1])):
        losses, change = slow_released(lm, mine, editor.settings)
        found = result.diagnostics[0]["losses"][:, i]
        assert found[found.isfinite()].tolist() == pytest.approx(losses, abs=1e-6)
        assert torch.allclose(result.delta[0].weight[i], change, atol=1e-7)
    lm.target_ids = "text"
    assert not close(make("ft", lm, **settings).edit([case]).delta, select(result.delta, [0]), 1e-3)


def test_released_targets_are_those_of_the_text_where_nothing_begins_it_and_padding_is_unknown():
    lm = tiny()
    assert lm.tokenizer.unk_token_id in (None, lm.tokenizer.pad_token_id)
    lm.tokenizer = copy.deepcopy(lm.tokenizer)
    lm.tokenizer.unk_token = lm.tokenizer.pad_token
    editor = make("ft", lm, objective="prompt_last")
    plain = editor.edit([requests(3)])
    lm.target_ids = "released"
    assert close(editor.edit([requests(3)]).delta, plain.delta)


def test_weight_decay_follows_the_number_of_requests():
    lm = tiny("llama")
    settings = {"layers": [1], "steps": 5, "objective": "prompt_last", "weight_decay": 7.0}
    editor = make("ft", lm, **settings, wd_power_law=[-0.87, 0.156])
    cases = [requests(1), requests(4)]
    result = editor.edit(cases)
    for i, case in enumerate(cases):
        decay = len(case) ** -0.87 * math.exp(0.156)
        fixed = make("ft", lm, **(settings | {"weight_decay": decay}))
        assert close(select(result.delta, [i]), fixed.edit([case]).delta)
    assert not close(result.delta, make("ft", lm, **settings).edit(cases).delta, 1e-3)


def slow_padded(lm, case, settings):
    """The released loop of FT-M on whole padded batches: losses, and the changes of matrix and bias."""
    model, side = copy.deepcopy(lm.model), settings.padding
    model.set_attn_implementation("eager")
    module = model.get_submodule(lm.projection(settings.layers[0]))
    params = [p.requires_grad_() for p in (module.weight, module.bias) if p is not None]
    start = [p.detach().clone() for p in params]

    def loss_of(part):
        pairs, total = encode_pairs(lm, [(r.text, r.target_new) for r in part]), 0.0
        texts = [[*pair.prompt, *pair.target] for pair in pairs]
        width, pad = max(map(len, texts)), lm.pad_id
        pads = [[pad] * (width - len(text)) for text in texts]
        both = zip(texts, pads, strict=True)
        whole = [text + more if side == "right" else more + text for text, more in both]
        mask = [[1] * len(t) + [0] * len(m) for t, m in zip(texts, pads, strict=True)]
        mask = torch.tensor(mask if side == "right" else [row[::-1] for row in mask])
        log_p = model(input_ids=torch.tensor(whole), attention_mask=mask).logits.log_softmax(-1)
        for row, (pair, more) in enumerate(zip(pairs, pads, strict=True)):
            columns = range(len(pair.prompt) + len(more), width)  # not those that the target is in
            total = total - sum(log_p[row, i - 1, whole[row][i]] for i in columns) / len(columns) / len(part)
        return total

    epochs = [in_batches(case, settings.batch_size)] * settings.steps
    losses = train(params, epochs, loss_of, fine_tuning.ENOUGH, lr=settings.lr)
    return losses, [p.detach() - old for p, old in zip(params, start, strict=True)]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    "family", some(["gpt2", "llama", "gptj", "gpt_neox", "gemma2", "opt"], ["gpt2", "gemma2"])
)
def test_as_released_padding_counts_as_a_part_of_the_prompt(family, side):
    lm = tiny(family)
    settings = {"layers": [1], "steps": 4, "batch_size": 3, "norm_constraint": None, "padding": side}
    editor = make("ft", lm, **settings)
    cases = [requests(4), requests(2, template=1), requests(1)]  # of several updates, and of one text
    pairs = encode_pairs(lm, [(r.text, r.target_new) for r in cases[0][:3]])
    lengths = [len(pair.prompt) + len(pair.target) for pair in pairs]
    assert max(lengths) - min(lengths) >= 2
    result = editor.edit(cases)
    for i, case in enumerate(cases):
        losses, changes = slow_padded(lm, case, editor.settings)
        found = result.diagnostics[0]["losses"][:, i]
        assert found[found.isfinite()].tolist() == pytest.approx(losses, abs=1e-6)
        wanted = changes[0].T if lm.family.transposed else changes[0]
        assert torch.allclose(result.delta[0].weight[i], wanted, atol=1e-6)
        if len(changes) > 1:
            assert torch.allclose(result.delta[0].bias[i], changes[1], atol=1e-6)
    plain = make("ft", lm, **(settings | {"padding": "none"})).edit(cases).delta
    assert close(select(plain, [2]), select(result.delta, [2]))
    relative = family != "gpt2"  # positions, or those of what the mask shows
    assert close(plain, result.delta, 1e-4) == (side == "left" and relative)


def test_padding_is_that_of_one_objective():
    with pytest.raises(ValueError, match="padding left is that of objective target_new"):
        make("ft", tiny(), objective="prompt_last", padding="left")
