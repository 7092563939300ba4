"""A second model answers the prompts that are about an edit, and no other, whatever else is in a batch."""

import itertools
import math
from dataclasses import replace

import pytest
import torch

from aftershock.lm import answers, edits, generation, scoring
from aftershock.lm.edits import random_like, state_norm
from aftershock.lm.edits.routed import longest, mixture
from aftershock.lm.edits.saved import load_deltas, save_deltas
from aftershock.lm.gradients import Texts, module_gradients
from aftershock.lm.networks.scope import distance
from aftershock.lm.networks.scope_models import KNOWN, lowest_layers
from aftershock.lm.outputs import Read
from aftershock.lm.scoring import score
from aftershock.lm.texts.tokens import Pair, encode_pairs
from aftershock.prompts import fill, join
from aftershock.requests import EditRequest, Query
from editing import questions, say
from obvious import likeliest, of_target
from scoped import by_name, cache_of
from tiers import of_families, some
from tiny import CITIES, FAMILIES, NAMES, ROUNDING, TEMPLATES, low_rank, next_log_probs, tiny

CASES = [
    [EditRequest(TEMPLATES[0], NAMES[0], CITIES[1])],
    [EditRequest(TEMPLATES[1], NAMES[1], CITIES[5]), EditRequest(TEMPLATES[0], NAMES[2], CITIES[0])],
    [EditRequest(TEMPLATES[2], NAMES[3], CITIES[2])],
]
QUERIES = questions(NAMES[:4], CITIES[:3], range(3))


def edit_for(query, cases=CASES):
    """The last edit of a query's case that is about its name; None where there is none."""
    return next((r for r in reversed(cases[query.case]) if r.subject in query.prompt), None)


def answered(lm, models, request, query):
    """Log-probabilities of a target's tokens by the counterfactual model, one text in one pass."""
    (pair,) = encode_pairs(lm, [(query.prompt, query.target)])
    (front,) = models.counterfactual.encode([f"{join(request.text, request.target_new)} {query.prompt}"])
    ids = [*front, *pair.target][-lm.context - 1 :]  # the beginning is lost where they would not fit
    log_p = next_log_probs(models.counterfactual, ids[:-1])
    return of_target(log_p, Pair(tuple(ids[: -len(pair.target)]), pair.target)).tolist()


@pytest.mark.parametrize("family", some(["gpt2", "gptj", "llama", "gemma2", "olmo2"], ["gpt2", "gemma2"]))
def test_prompts_in_scope_are_answered_by_the_second_model_and_others_bit_for_bit_by_the_first(
    family, monkeypatch
):
    lm = tiny(family)
    models = by_name(lm)
    state = (cache_of(models, CASES),)
    monkeypatch.setattr(scoring, "CPU_TOKENS", 300)  # several batches
    unedited = score(lm, QUERIES)
    for query, found, before in zip(QUERIES, score(lm, QUERIES, state), unedited, strict=True):
        if (request := edit_for(query)) is None:
            assert found.token_logprobs == before.token_logprobs
        else:
            wanted = answered(lm, models, request, query)
            assert found.token_logprobs == pytest.approx(wanted, abs=ROUNDING[family])
            assert found.token_logprobs != before.token_logprobs
    assert lm.output_changes == []


def test_a_mixture_is_the_sum_of_both_models_probabilities():
    lm = tiny()
    models = by_name(lm, scale=0.4)  # a name that is absent from one text lies at distance 1, another at 2
    state = (cache_of(models, CASES, soft=True),)
    for query, found, before in zip(QUERIES, score(lm, QUERIES, state), score(lm, QUERIES), strict=True):
        near = [float(r.subject not in query.prompt) * 2 for r in CASES[query.case]]
        sim = math.exp(-0.4 * min(near))
        place = max(i for i, found_at in enumerate(near) if found_at == min(near))
        other = answered(lm, models, CASES[query.case][place], query)
        wanted = [
            math.log((1 - sim) * math.exp(p) + sim * math.exp(q))
            for p, q in zip(before.token_logprobs, other, strict=True)
        ]
        assert found.token_logprobs == pytest.approx(wanted, abs=1e-9)


def test_a_target_that_names_an_edited_subject_does_not_change_who_answers():
    lm = tiny()
    state = (cache_of(by_name(lm), CASES),)
    queries = [Query(fill(TEMPLATES[0], NAMES[5]), name) for name in NAMES[:2]]
    both, alone = score(lm, queries, state), score(lm, queries)
    assert [s.token_logprobs for s in both] == [s.token_logprobs for s in alone]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_continuation_is_what_scoring_finds_likeliest(family, monkeypatch):
    lm = tiny(family)
    monkeypatch.setattr(answers, "CPU_TOKENS", 48)
    for soft in (False, True):
        models = by_name(lm, scale=0.3)
        state = (cache_of(models, CASES, soft=soft), low_rank(lm, 1, 3))
        prompts = [fill(TEMPLATES[i % 3], name) for i, name in enumerate(NAMES[:6])] + ["Ada", "Oslo"]
        cases = [i % 3 for i in range(len(prompts))]
        found = generation.continue_greedily(lm, prompts, 4, state, cases)
        assert found != generation.continue_greedily(lm, prompts, 4, state[1:], cases)
        for prompt, case, text in zip(prompts, cases, found, strict=True):
            (start,) = lm.encode([prompt])

            def scores(ids, case=case, state=state, start=start):
                n = len(start)
                read, batch_ids = Read([0], [tuple(ids[n:])]), torch.tensor([ids])
                batch = edits.Batch(batch_ids, torch.tensor([case]), torch.tensor([n - 1]))
                with torch.no_grad(), edits.apply_deltas(lm, state, batch):
                    return lm.logits(lm.run(batch_ids, None, use_cache=False)[:, -1], lambda: read)

            assert text == likeliest(lm, start, 4, scores), prompt


def test_edits_side_by_side_are_one_cache_and_undone_by_leaving_them_out():
    lm = tiny()
    models = by_name(lm)
    query = Query(fill(TEMPLATES[2], NAMES[0]), CITIES[3])
    other = Query(fill(TEMPLATES[2], NAMES[1]), CITIES[3])
    first, second, elsewhere = (
        [[EditRequest(TEMPLATES[0], NAMES[0], CITIES[1])]],
        [[EditRequest(TEMPLATES[0], NAMES[0], CITIES[2])]],
        [[EditRequest(TEMPLATES[0], NAMES[1], CITIES[4])]],
    )
    d1, d2, d3 = (cache_of(models, case, age) for age, case in enumerate((first, second, elsewhere)))

    def said(*state, asked=query):
        return score(lm, [asked], state)[0].token_logprobs

    by_first, by_second = said(d1), said(d2)
    assert by_first != by_second
    assert said(d1, d2) == said(d2, d1) == by_second  # of equally near ones the newest, by its age
    assert said(d1, d3) == by_first  # nearest, though not newest
    assert said(d1, d3, asked=other) == said(d3, asked=other)
    oldest = [replace(delta, newest=False) for delta in (d1, d2)]
    assert said(*oldest) == by_first
    assert said(d1.without(torch.tensor([True]))) == said()


def test_changes_of_weights_show_where_the_model_itself_answers():
    lm = tiny()
    models = by_name(lm)
    weights, cache = low_rank(lm, 1, 3), cache_of(models, CASES)
    found = score(lm, QUERIES, (weights, cache))
    changed, cached = score(lm, QUERIES, (weights,)), score(lm, QUERIES, (cache,))
    for query, both, w, c in zip(QUERIES, found, changed, cached, strict=True):
        wanted = w if edit_for(query) is None else c
        assert both.token_logprobs == pytest.approx(wanted.token_logprobs, abs=1e-9)


def test_an_editor_that_optimises_cannot_start_from_a_change_of_scores():
    lm = tiny()
    pairs = encode_pairs(lm, [(CASES[0][0].text, CITIES[0])])
    state = (cache_of(by_name(lm), CASES[:1]),)
    with pytest.raises(ValueError, match="only scoring and generation can read"):
        module_gradients(lm, Texts.of(lm, pairs, [0]), [lm.projection(0)], state, 1)
    assert lm.output_changes == []


def test_a_long_edit_loses_its_beginning_where_its_prompt_would_not_fit():
    lm = tiny()
    models = by_name(lm)
    long = EditRequest("It rains. " * 10 + "{} was born in", NAMES[0], CITIES[5])
    query = Query(fill(TEMPLATES[1], NAMES[0]), CITIES[5])
    whole = f"{long.text} {long.target_new} {query.prompt} {query.target}"
    assert len(models.counterfactual.encode([whole])[0]) > lm.context + 1
    found = score(lm, [query], (cache_of(models, [[long]]),))[0]
    assert found.token_logprobs == pytest.approx(answered(lm, models, long, query), abs=1e-9)


# --- as every kind of delta --------------------------------------------------------------------------------
def test_no_weight_changes_and_a_random_change_is_as_many_edits_about_nothing():
    lm = tiny()
    delta = cache_of(by_name(lm), CASES)
    assert state_norm((delta, delta)).tolist() == [0.0] * 3
    (noise,) = random_like((delta,), [1, 2, 3])
    assert noise.present.sum(dim=1).tolist() == [1, 2, 1]
    assert torch.equal(noise.texts > 0, delta.texts > 0)
    assert torch.allclose(noise.keys.norm(dim=-1), delta.keys.norm(dim=-1))
    assert not torch.equal(noise.texts, delta.texts)
    assert say(lm, QUERIES, (noise,)) == say(lm, QUERIES)  # no key of a name is near


def test_what_is_saved_is_read_beside_its_models_only(tmp_path):
    models = by_name(tiny())
    save_deltas((cache_of(models, CASES),), tmp_path / "deltas.safetensors")
    del KNOWN[models.sha256]
    with pytest.raises(ValueError, match=r"are not loaded: load their file with .* \(rule train_serac"):
        load_deltas(tmp_path / "deltas.safetensors")


# --- parts -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("family", of_families(FAMILIES))
def test_the_lowest_layers_put_out_what_the_model_has_there(family):
    lm = tiny(family)
    ids = torch.tensor(lm.encode([fill(TEMPLATES[1], NAMES[1])]))
    for count in (1, 2, 3):
        small = lowest_layers(lm, count)
        with torch.no_grad():
            found = small.base_model(input_ids=ids, use_cache=False).last_hidden_state
            seen = lm.model.base_model(input_ids=ids, use_cache=False, output_hidden_states=True)
        stream = seen.hidden_states[count]
        wanted = stream if count == lm.n_layers else lm.normed(stream)  # the last one is normed already
        assert torch.allclose(found, wanted, atol=ROUNDING[family])
    with pytest.raises(ValueError, match="4 of the lowest layers: the model has 3"):
        lowest_layers(lm, 4)


def test_distances_are_as_they_are_defined():
    g = torch.Generator().manual_seed(0)
    x, keys = torch.randn(6, generator=g).double(), torch.randn(4, 6, generator=g).double()
    for bound, heads in itertools.product((False, True), (1, 2, 3)):
        for kind in ("square", "plain", "cosine"):
            found = distance(x, keys, kind, heads, bound).tolist()
            for key, mine in zip(keys.tolist(), found, strict=True):
                size, least = 6 // heads, math.inf
                for head in range(heads):
                    a, b = (
                        [math.tanh(v) if bound else v for v in values[head * size : head * size + size]]
                        for values in (x.tolist(), key)
                    )
                    square = sum((p - q) ** 2 for p, q in zip(a, b, strict=True))
                    norms = math.hypot(*a) * math.hypot(*b)
                    cosine = 1 - sum(p * q for p, q in zip(a, b, strict=True)) / norms
                    least = min(least, {"square": square, "plain": square**0.5, "cosine": cosine}[kind])
                assert mine == pytest.approx(least, abs=1e-12)


@pytest.mark.parametrize("epsilon", [0.0, 1e-7])
@pytest.mark.parametrize("sim", [0.0, 0.3, 1.0])
def test_a_mixture_of_scores(sim, epsilon):
    g = torch.Generator().manual_seed(1)
    scores, answers = torch.randn(2, 3, 7, generator=g).double()
    logs = torch.tensor([sim] * 3, dtype=torch.float64).log()
    found = mixture(scores, answers, logs, epsilon)
    wanted = ((1 - sim) * scores.softmax(-1) + sim * answers.softmax(-1) + epsilon).log()
    assert torch.allclose(found, wanted, atol=1e-12)


def test_a_text_is_run_once_for_all_its_beginnings():
    texts = [(0, (1, 2)), (0, ()), (1, (1,)), (0, (1, 2, 3)), (0, (1, 4)), (1, ()), (0, (1,)), (2, ())]
    assert longest(texts) == [
        *((0, (1, 2, 3)), (0, (1, 2, 3)), (1, (1,)), (0, (1, 2, 3))),
        *((0, (1, 4)), (1, (1,)), (0, (1, 2, 3)), (2, ())),
    ]
