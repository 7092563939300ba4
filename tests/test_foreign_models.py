"""Models as others make and change them: padding beyond the vocabulary, other precisions, shared weights."""

import copy

import pytest
import torch

from aftershock import edit, generate
from aftershock.editors.methods import make_editor, settings_of
from aftershock.lm.model import LanguageModel, context_of
from aftershock.lm.scoring import score
from aftershock.requests import Query
from editing import make
from tiny import CITIES, NAMES, requests, target_log_probs, tiny

QUERIES = [Query(f"{name} was born in", city) for name, city in zip(NAMES, CITIES, strict=False)]
LONG = Query("It rains in the old town by the sea where Ada Vex was born in", "Oslo")


def test_a_padding_token_without_an_embedding_is_not_used():
    plain = tiny("llama")
    tokenizer = copy.deepcopy(plain.tokenizer)
    tokenizer.add_special_tokens({"pad_token": "<padding>"})
    assert tokenizer.pad_token_id == len(plain.model.get_input_embeddings().weight)
    lm = LanguageModel.wrap(plain.model, tokenizer)
    mixed = [*QUERIES, LONG]
    assert [s.logprob for s in score(lm, mixed)] == [s.logprob for s in score(plain, mixed)]
    prompts = [query.prompt for query in mixed]
    assert generate(lm, prompts, n_tokens=4) == generate(plain, prompts, n_tokens=4)


def test_edits_read_the_weights_that_a_wrapped_model_has_now():
    own = tiny("llama")
    lm = LanguageModel.wrap(own.model, own.tokenizer)
    make("rome", lm, steps=3).edit([requests(1)])
    with torch.no_grad():
        for name, weight in own.model.named_parameters():
            if "mlp" in name:
                weight.mul_(1.3)
    fresh = LanguageModel.wrap(own.model, own.tokenizer)
    found, wanted = (make("rome", each, steps=3).edit([requests(1)]).diagnostics[0] for each in (lm, fresh))
    for name in ("u", "delta"):
        assert torch.equal(found[name], wanted[name]), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", ["ft", "rome", "grace"])
def test_edits_are_refused_in_half_precision(method, dtype):
    lm = tiny(dtype=dtype)
    narrow = str(dtype).removeprefix("torch.")
    with pytest.raises(ValueError, match=rf"the model is in {narrow}, .* dtype=torch.float32"):
        make_editor(method, settings_of(method, {"layers": [1]}), lm)


def test_a_stray_window_of_a_family_without_windows_is_not_applied():
    lm = tiny("llama")
    lm.model.config.sliding_window = 4
    several = [Query(LONG.prompt, city) for city in CITIES[:3]]
    for query, found in zip(several, score(lm, several), strict=True):
        (ids,) = lm.encode([f"{query.prompt} {query.target}"])
        wanted = target_log_probs(lm, ids, len(found.token_logprobs))
        assert found.token_logprobs == pytest.approx(wanted, abs=1e-9)


def longrope():
    lm = tiny("phi3")
    config = copy.deepcopy(lm.model.config)
    half = config.hidden_size // config.num_attention_heads // 2
    config.original_max_position_embeddings = 16
    config.rope_parameters = {
        "rope_type": "longrope",
        "rope_theta": 100.0,
        "original_max_position_embeddings": 16,
        "short_factor": [1.0] * half,
        "long_factor": [3.0] * half,
    }
    model = type(lm.model)(config).double()
    model.load_state_dict(lm.model.state_dict(), strict=False)
    return LanguageModel(model, lm.tokenizer)


def test_with_longrope_texts_are_as_long_as_the_positions_that_do_not_depend_on_their_batch():
    lm = longrope()
    assert context_of(lm.model.config) == lm.context == 16
    short = [Query("Ada was", city) for city in ("Oslo", "Ulm")]
    for query, found in zip(short, score(lm, short), strict=True):
        (ids,) = lm.encode([f"{query.prompt} {query.target}"])
        wanted = target_log_probs(lm, ids, len(found.token_logprobs))
        assert found.token_logprobs == pytest.approx(wanted, abs=1e-9)
    with pytest.raises(ValueError, match="16"):
        score(lm, [*short, LONG])


def test_hidden_states_are_read_whatever_a_configuration_returns():
    lm = tiny("gpt2")
    lm.model.config.update({"return_dict": False})
    assert len(score(lm, QUERIES[:2])) == 2
    assert edit(lm, requests(1), "ft", layers=[1], steps=1)
