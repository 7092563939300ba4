"""Greedy answers, and kinds of deltas that route rows or rewrite prompts, as one text alone gives them."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch

from aftershock.lm import answers, edits, generation, scoring
from aftershock.lm.answers import answer_greedily, cut_at
from aftershock.lm.edits import EMPTY, Batch, State, apply_deltas
from aftershock.lm.edits.fold import fold
from aftershock.lm.generation import continue_greedily
from aftershock.lm.gradients import Texts, module_gradients
from aftershock.lm.hooks import at_subjects, record_activations
from aftershock.lm.model import LanguageModel
from aftershock.lm.optimisation.objective import Objective
from aftershock.lm.optimisation.values import solve_values
from aftershock.lm.scoring import score, score_states
from aftershock.lm.texts.tokens import encode_pairs, locate
from aftershock.prompts import fill
from aftershock.requests import EditRequest, Query
from editing import questions
from tiers import repeated, some
from tiny import CITIES, CONTEXT, NAMES, ROUNDING, TEMPLATES, dense, low_rank, next_log_probs, tiny, written
from toy_deltas import Preface, adapters, nudge, router

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


# --- deltas that route rows or rewrite prompts -------------------------------------------------------------
def slow_pass(lm: LanguageModel, state: State, case: int, prompt: Sequence[int], behind: Sequence[int]):
    """Log-probabilities behind every token: one text, one pass, nothing shared or left out."""
    ids = torch.tensor([[*prompt, *behind]])
    batch = Batch(ids, torch.tensor([case]), torch.tensor([len(prompt) - 1]))
    with torch.no_grad(), apply_deltas(lm, state, batch):
        return lm.model(input_ids=ids).logits[0].log_softmax(-1)


def slow_log_probs(lm: LanguageModel, state: State, case: int, prompt: Sequence[int], behind: Sequence[int]):
    """Log-probabilities of the tokens `behind` a prompt."""
    log_p = slow_pass(lm, state, case, prompt, behind)
    return log_p[range(len(prompt) - 1, len(prompt) + len(behind) - 1), list(behind)].tolist()


def mean_loss(lm: LanguageModel, state: State, case: int, prompt: str, target: str) -> float:
    (pair,) = encode_pairs(lm, [(prompt, target)])
    wanted = slow_log_probs(lm, state, case, pair.prompt, pair.target)
    return -sum(wanted) / len(wanted)


def assert_scored(lm: LanguageModel, states: Sequence[State], atol: float) -> list[list[float]]:
    """Scores of all states equal the slow ones; those of each state are returned."""
    queries = questions(NAMES[:3], CITIES[:3], range(3))
    found = score_states(lm, queries, states)
    for state, scores in zip(states, found, strict=True):
        read = edits.rewrite_prompts(lm, state, [q.prompt for q in queries], [q.case for q in queries])
        for prompt, query, result in list(zip(read, queries, scores, strict=True))[::5]:
            (pair,) = encode_pairs(lm, [(prompt, query.target)])
            wanted = slow_log_probs(lm, state, query.case, pair.prompt, pair.target)
            assert result.token_logprobs == pytest.approx(wanted, abs=atol), query
    return [[s.logprob for s in scores] for scores in found]


@pytest.mark.parametrize("family", some(["gpt2", "gptj", "mistral"], ["mistral"]))
def test_other_kinds_are_scored_as_one_text_alone(family, monkeypatch):
    lm = tiny(family)
    states = adapters(lm)
    monkeypatch.setattr(scoring, "CPU_TOKENS", 300)  # several batches
    found = assert_scored(lm, list(states.values()), ROUNDING[family])
    unedited = assert_scored(lm, [()], ROUNDING[family])[0]
    for name, mine in zip(states, found, strict=True):
        moved = [abs(a - b) > 1e-3 for a, b in zip(mine, unedited, strict=True)]
        assert any(moved), name
        if name in ("layer", "last mlp", "embeddings", "one router", "context"):  # for some prompts only
            assert mine != unedited
            assert any(a == pytest.approx(b, abs=1e-9) for a, b in zip(mine, unedited, strict=True)), name


@pytest.mark.parametrize("family", ["gpt2", repeated("llama")])
def test_other_kinds_hold_for_a_whole_continuation(family, monkeypatch):
    lm = tiny(family)
    monkeypatch.setattr(answers, "CPU_TOKENS", 48)
    prompts = [fill(TEMPLATES[i % 3], name) for i, name in enumerate(NAMES)] + ["Ada", "Oslo"]
    cases = [i % 3 for i in range(len(prompts))]
    plain = generation.continue_greedily(lm, prompts, 5)
    for name, state in adapters(lm).items():
        found = generation.continue_greedily(lm, prompts, 5, state, cases)
        read = edits.rewrite_prompts(lm, state, prompts, cases)
        for prompt, case, text in zip(read, cases, found, strict=True):
            (start,), said = lm.encode([prompt]), []
            for _ in range(5):
                log_p = slow_pass(lm, state, case, start, said)
                said.append(int(log_p[-1].argmax()))
            kept = list(itertools.takewhile(lambda token: token != lm.tokenizer.eos_token_id, said))
            assert text == lm.tokenizer.decode(kept), (name, prompt)
        assert found != plain, name


def test_gradients_and_activations_see_other_kinds():
    """Passes that leave tokens out for weight changes leave none out where a row is decided on at its end."""
    lm = tiny()
    last = lm.n_layers - 1
    state = (router(lm, last),)
    asked = [(fill(TEMPLATES[0], NAMES[i]), CITIES[i]) for i in range(3)]
    texts = Texts.of(lm, encode_pairs(lm, asked), [0, 1, 2])
    losses, _ = module_gradients(lm, texts, [lm.projection(0)], state, 3)
    for i, (prompt, city) in enumerate(asked):
        assert losses[i].item() == pytest.approx(mean_loss(lm, state, i, prompt, city), abs=1e-9)

    module = lm.mlp(1)
    nudged = (replace(nudge(lm, lm.layer(0)), token=torch.tensor([lm.encode([" born"])[0][0]] * 3)),)
    rows = locate(lm, [(TEMPLATES[0], name) for name in NAMES[:3]])  # the token follows the subject
    seen, _ = at_subjects(lm, rows, nudged, [0, 1, 2], inputs=[module])
    for i, row in enumerate(rows):
        ids = torch.tensor([row.ids])
        batch = Batch(ids, torch.tensor([i]), torch.tensor([row.prompt_end]))
        with torch.no_grad(), apply_deltas(lm, nudged, batch), record_activations(lm, [module]) as whole:
            lm.run(ids, None, use_cache=False)
        assert torch.allclose(seen["in", module][i], whole["in", module][0, row.subject], atol=1e-9)


def test_values_are_optimised_in_the_state_they_start_from():
    """Context before the prompts is read, and adapters above the layer decide at each prompt's own end."""
    lm = tiny()
    settings = {"steps": 1, "lr": 0.5, "weight_decay": 0.0, "clamp": 4.0, "kl_factor": 0.0}
    objective = Objective(0, "mlp", **settings)
    requests = [
        EditRequest(TEMPLATES[0], "Ada Vex", "Oslo"),
        EditRequest(TEMPLATES[2], "Bruno Quill", "Old Mill Town"),
    ]
    for name, state in adapters(lm).items():
        found = solve_values(lm, requests, ["{}"], objective, state, [0, 1])
        for i, request in enumerate(requests):
            (prompt,) = edits.rewrite_prompts(lm, state, [request.text], [i])
            wanted = mean_loss(lm, state, i, prompt, request.target_new)
            assert found.losses[0, i].item() == pytest.approx(wanted, abs=1e-9), name


def test_a_rewrite_may_only_put_text_before_a_prompt():
    @dataclass(frozen=True)
    class Shout(Preface):
        def rewrite(self, lm, prompts, cases):
            return [prompt.upper() for prompt in prompts]

    with pytest.raises(ValueError, match="prompt 'Ada is' as 'ADA IS'; it may only put text before it"):
        score(tiny(), [Query("Ada is", "Oslo")], (Shout(("",), ("",)),))


def test_the_head_and_the_embeddings_are_no_matrices_to_change_per_case():
    lm = tiny()
    delta = replace(low_rank(lm, 0, 1), module="transformer.wte")
    assert delta.first_layer == 0
    with pytest.raises(ValueError, match="LowRank of transformer.wte: only matrices inside layers"):
        score(lm, [Query("Ada is", "Oslo")], (delta,))
    with pytest.raises(ValueError, match="LowRank of transformer.wte"), fold(lm, (delta,), 0):
        pass
