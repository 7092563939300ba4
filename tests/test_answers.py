"""Greedy answers equal those of a slow loop over one prompt without a cache."""

import pytest
import torch

from aftershock.lm.answers import answer_greedily, cut_at
from aftershock.lm.edits import EMPTY
from aftershock.lm.generation import continue_greedily
from tiers import some
from tiny import CITIES, CONTEXT, NAMES, dense, low_rank, next_log_probs, tiny, written
from toy_deltas import nudge, router

PROMPTS = [f"{name} was born in" for name in NAMES] + [
    "Greta, Hugo Lind and Ada Vex were born in Old Mill Town. Dario",
    "Ulm",
]


def slowly(lm, prompt, n_tokens, stop, ends):
    """The answer by one whole pass per token."""
    ids, text = list(prompt), ""
    for _ in range(n_tokens):
        token = int(next_log_probs(lm, ids)[-1].argmax())
        if token in ends:
            return text, True
        ids.append(token)
        text = lm.tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True)
        found = [text.index(end) for end in stop if end in text]
        if found:
            return text[: min(found)], True
    return text, False


@pytest.mark.parametrize("family", some(["gpt2", "mistral", "gemma2", "olmo3"], ["gpt2", "mistral"]))
def test_answers_equal_a_slow_loop(family):
    lm = tiny(family)
    prompts = lm.encode(PROMPTS)
    first = [slowly(lm, ids, 12, (), ())[0] for ids in prompts]
    stop = sorted({text[3:5] for text in first if len(text) > 5})[:3]
    assert stop
    wanted = [slowly(lm, ids, 12, stop, {7}) for ids in prompts]
    assert {finished for _, finished in wanted} == {True, False}
    found = answer_greedily(lm, prompts, 12, stop, [7])
    assert [(answer.text, answer.finished) for answer in found] == wanted


@pytest.mark.parametrize("change", [nudge, router])
def test_a_change_that_is_attached_acts_on_its_prompts_alone(change):
    """Side by side with others a prompt is answered as alone, and rows keep their places."""
    lm = tiny("gpt2")
    state = (change(lm, lm.projection(1) if change is nudge else 1),)
    prompts = lm.encode(PROMPTS)
    plain = answer_greedily(lm, prompts, 8, [], [], EMPTY)
    together = answer_greedily(lm, prompts, 8, [" "], [], state)
    assert together == [answer_greedily(lm, [ids], 8, [" "], [], state)[0] for ids in prompts]
    assert [each.text for each in together] != [each.text for each in plain]


@pytest.mark.parametrize("family", some(["gpt2", "mistral", "gemma2", "olmo3"], ["gpt2", "gemma2"]))
@pytest.mark.parametrize("change", [low_rank, dense])
def test_texts_of_several_lengths_go_on_each_in_its_own_case(family, change):
    lm = tiny(family)
    state, cases = (change(lm, 1, 3),), [i % 3 for i in range(len(PROMPTS))]
    found = continue_greedily(lm, PROMPTS, 8, state, cases)
    edited = [written(lm, state, case) for case in range(3)]
    ids = lm.encode(PROMPTS)
    assert found == [
        slowly(edited[case], row, 8, (), lm.ends)[0] for row, case in zip(ids, cases, strict=True)
    ]
    assert found != continue_greedily(lm, PROMPTS, 8)


def test_a_text_goes_on_up_to_the_end_of_the_context():
    lm = tiny("gpt2")
    long = lm.tokenizer.decode(lm.encode([" ".join(NAMES * 30)])[0][: CONTEXT - 3])
    assert len(lm.encode([long])[0]) == CONTEXT - 3
    texts = [PROMPTS[0], long]
    wanted = [slowly(lm, ids, n, (), lm.ends)[0] for ids, n in zip(lm.encode(texts), (8, 3), strict=True)]
    assert continue_greedily(lm, texts, 8) == wanted
    assert continue_greedily(lm, [long], 0) == [""]


def test_a_prompt_without_room_is_an_error():
    lm = tiny("gpt2")
    with pytest.raises(ValueError, match=f"no room for 5 more in the model's context of {CONTEXT}"):
        answer_greedily(lm, [[1] * (CONTEXT - 4)], 5)


def test_rows_of_one_length_equal_those_padded():
    lm = tiny("llama")
    prompts = [lm.encode([f"{CITIES[0]} and {name}"])[0] for name in NAMES]
    alone = [answer_greedily(lm, [ids], 6)[0] for ids in prompts]
    assert answer_greedily(lm, prompts, 6) == alone
    assert torch.is_grad_enabled()


def test_a_text_is_cut_at_one_stop_text_after_the_other():
    assert cut_at("a\nb.c", ["\n", "."]) == "a"
    assert cut_at("a.b\nc", ["\n", "."]) == "a"
    assert cut_at("abcd", ["cd", "bc"]) == "ab"  # what is cut off is not looked at again
    assert cut_at("Oslo", ["\n"]) is None
    assert cut_at("\nOslo", ["\n"]) == ""
