"""Models, deltas, scoring and continuations against slow, obvious versions."""

import copy
import itertools
import math

import pytest
import torch

from aftershock.lm import scoring
from aftershock.lm.edits import Batch, LowRank, apply_deltas, state_norm
from aftershock.lm.generation import continue_greedily, sample
from aftershock.lm.hooks import batches
from aftershock.lm.model import LanguageModel, not_finite
from aftershock.lm.scoring import score, score_states
from aftershock.prompts import fill
from aftershock.requests import Query
from editing import questions
from tiers import of_families
from tiny import (
    CITIES,
    CONTEXT,
    FAMILIES,
    NAMES,
    ROUNDING,
    TEMPLATES,
    dense,
    likeliest,
    low_rank,
    next_log_probs,
    save,
    target_log_probs,
    tiny,
    written,
)


# --- loading -----------------------------------------------------------------------------------------------
def test_incomplete_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no whole model: it has no config\.json"):
        LanguageModel.load(tmp_path)
    lm = tiny(dtype=torch.float32)
    state = {k: v for k, v in lm.model.state_dict().items() if "h.1.mlp.c_fc" not in k}
    lm.model.save_pretrained(tmp_path, state_dict=state)
    lm.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"lacks weights.*c_fc"):
        LanguageModel.load(tmp_path)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["wte.weight", "h.1.mlp.c_proj.weight", "h.0.ln_1.bias"])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path, value, name):
    lm = tiny(dtype=torch.float32)
    lm = LanguageModel(copy.deepcopy(lm.model), lm.tokenizer)
    tensors = dict(lm.model.named_parameters())
    for broken in (f"transformer.{name}", "transformer.ln_f.bias"):
        tensors[broken].view(-1)[3] = value
    message = rf"{tmp_path.name} has weights .* in 2 tensors, transformer\.{name} first"
    with pytest.raises(ValueError, match=message):
        LanguageModel.load(save(lm, tmp_path))


def test_large_weights_are_no_fault():
    lm = tiny(dtype=torch.float32)
    model = copy.deepcopy(lm.model)
    model.transformer.wte.weight.data.fill_(1e38)  # their sum is infinite
    assert not_finite(model) == []


# --- deltas ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("family", of_families(FAMILIES))
def test_deltas_equal_weights_that_hold_them(family):
    lm = tiny(family)
    state = (low_rank(lm, 0, 3), dense(lm, 1, 3), low_rank(lm, 0, 3, rank=1, seed=1))
    ids, mask = lm.pad(lm.encode([fill(TEMPLATES[i % 3], NAMES[i]) for i in range(6)]))
    for rows in ([0, 0, 1, 1, 2, 2], [2, 0, 1, 1, 0, 2], [1, 1, 1, 1, 1, 1], [0, 1, 2, 2, 2, 2]):
        with torch.no_grad(), apply_deltas(lm, state, Batch.of_prompts(ids, mask, torch.tensor(rows))):
            found = lm.run(ids, mask)
        for i, case in enumerate(rows):
            n = int(mask[i].sum())
            wanted = written(lm, state, case).run(ids[i : i + 1, :n], mask[i : i + 1, :n])[0]
            assert torch.allclose(found[i, :n], wanted, atol=ROUNDING[family]), (rows, i)


def test_norm_is_that_of_the_summed_matrices():
    lm = tiny()
    first, second = low_rank(lm, 0, 3), low_rank(lm, 0, 3, rank=3, seed=5)
    full, other = dense(lm, 1, 3), low_rank(lm, 1, 3, seed=7)
    squares = (first.dense() + second.dense()).square().sum(dim=(1, 2))
    assert torch.allclose(state_norm((first, second)), squares.sqrt())
    squares += (full.dense() + other.dense()).square().sum(dim=(1, 2)) + full.bias.square().sum(dim=1)
    assert torch.allclose(state_norm((first, full, second, other)), squares.sqrt())
    opposite = LowRank(first.module, first.U, -first.V)
    assert state_norm((first, opposite)).max() < 1e-6


# --- hooks -------------------------------------------------------------------------------------------------
def test_batches_cover_all_rows_within_the_budget():
    lengths = [3, 9, 2, 2, 2, 50, 1]
    found = list(batches(lengths, 18))
    assert [i for chunk in found for i in chunk] == list(range(7))
    assert all(len(c) == 1 or len(c) * max(lengths[i] for i in c) <= 18 for c in found)
    assert list(batches([], 5)) == []


# --- scoring -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("family", of_families(FAMILIES))
def test_scores_equal_those_of_single_texts(family, monkeypatch):
    lm = tiny(family)
    state = (low_rank(lm, 0, 3), dense(lm, 1, 3, seed=3))
    queries = questions(NAMES[:4], CITIES[:5], range(3))
    monkeypatch.setattr(scoring, "CPU_TOKENS", 300)
    found = score(lm, queries, state)
    models = [written(lm, state, case) for case in range(3)]
    for query, result in list(zip(queries, found, strict=True))[::7]:
        prompt, target = lm.encode([query.prompt])[0], lm.encode_targets([query.target])[0]
        wanted = target_log_probs(models[query.case], prompt + target, len(target))
        assert result.token_logprobs == pytest.approx(wanted, abs=ROUNDING[family])
        best = next_log_probs(models[query.case], prompt + target)[len(prompt) - 1 : -1].argmax(-1)
        assert result.argmax_match == (best.tolist() == target)
        assert result.probability == pytest.approx(math.exp(sum(wanted) / len(wanted)), rel=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "gptj"])
def test_states_are_scored_together_as_one_by_one(family):
    lm = tiny(family)
    queries = questions(NAMES[:4], CITIES[:3], range(2))
    high = [(dense(lm, 2, 2),), (low_rank(lm, 1, 2), low_rank(lm, 2, 2, seed=4)), ()]
    for states in (high, [*high, (low_rank(lm, 0, 2),)], [(), ()], high[2:]):
        together = score_states(lm, queries, states)
        for state, found in zip(states, together, strict=True):
            wanted = score(lm, queries, state)
            for one, other in zip(found, wanted, strict=True):
                assert one.token_logprobs == pytest.approx(other.token_logprobs, abs=ROUNDING[family])


def test_many_targets_of_one_prompt_do_not_outgrow_the_context():
    lm = tiny()
    queries = [Query("Ada Vex was born in", " ".join(c)) for c in itertools.permutations(CITIES[:4], 2)] * 3
    assert len(score(lm, queries)) == len(queries)


def test_texts_without_tokens_or_room_are_named():
    lm = tiny()
    assert score(lm, []) == []
    for query, message in (
        (Query("Ada was born in", " "), "target ' ' has no tokens"),
        (Query("", "Oslo"), "prompt '' has no tokens"),
        (
            Query("Ada was born in", "Oslo " * 60),
            r"Oslo Oslo.* has \d+ tokens, more than the .* context of 48",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            score(lm, [query])
    for prompt, message in (("Oslo " * 60, "context"), ("", "prompt '' has no tokens")):
        with pytest.raises(ValueError, match=message):
            continue_greedily(lm, [prompt], 1)


def test_a_target_as_long_as_the_context_allows_is_scored():
    lm, text = tiny(), "Oslo"
    room = CONTEXT - len(lm.encode(["Ada"])[0])
    while len(lm.encode_targets([f"{text} Oslo"])[0]) <= room:
        text += " Oslo"
    (result,) = score(lm, [Query("Ada", text)])
    assert len(result.token_logprobs) == len(lm.encode_targets([text])[0])


# --- generation --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("family", of_families(FAMILIES))
def test_greedy_continuation_takes_the_likeliest_token_each_time(family):
    lm = tiny(family)
    prompts = [fill(TEMPLATES[i % 3], name) for i, name in enumerate(NAMES)]
    for prompt, text in zip(prompts, continue_greedily(lm, prompts, 5), strict=True):
        said = likeliest(lm, lm.encode([prompt])[0], 5, [lm.tokenizer.eos_token_id])
        assert text == lm.tokenizer.decode(said)


def test_samples_follow_their_seed():
    lm = tiny()
    first = sample(lm, [0], 8, 3, 5, seed=1)
    assert first == sample(lm, [0], 8, 3, 5, seed=1)
    assert first != sample(lm, [0], 8, 3, 5, seed=2)
    assert len(set(first)) == 3
    assert sample(lm, lm.encode(["The"])[0], 1, 2, 5, seed=1) == [" The", " The"]
