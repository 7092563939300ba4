"""FT's weight decay by power law and the released code's targets, against slow, obvious loops."""

import copy
import math

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from aftershock.lm.edits import select
from aftershock.prompts import following
from editing import close, make
from obvious import in_batches, log_probs, train
from tiny import requests, tiny
from tokenizers_here import MAKERS

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "clean_up_tokenization_spaces": False}
LLAMA = {**SPECIAL, "unk_token": "<unk>", "pad_token": "</s>"}
ALONE = {**SPECIAL, "pad_token": "</s>"}  # without a token for what is unknown
SAME = {**SPECIAL, "unk_token": "</s>", "pad_token": "</s>"}  # padding is the unknown token, as in GPT-2


def model(kind, special):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=MAKERS[kind](), padding_side="right", **special)
    lm = tiny("llama", tokenizer=tokenizer)
    lm.target_ids = "released"
    return lm


def slow(lm, case, settings):
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
    lm = model(kind, special)
    case = requests(3)
    settings = {"layers": [1], "steps": 4, "batch_size": 2, "objective": "prompt_last"}
    editor = make("ft", lm, **settings)
    first = lm.tokenizer(following(case[0].prompt, case[0].target_new))["input_ids"]
    assert first[0] == lm.tokenizer.bos_token_id
    sizes = {len(lm.tokenizer(following(r.prompt, r.target_new))["input_ids"]) for r in case[:2]}
    assert len(sizes) == 2  # so that one is padded
    result = editor.edit([case, case[:1]])
    for i, mine in enumerate((case, case[:1])):
        losses, change = slow(lm, mine, editor.settings)
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
