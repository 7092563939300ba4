"""Knowledge neurons against the formulas, one text at a time, on every family."""

import copy

import pytest
import torch
from tokenizers.pre_tokenizers import ByteLevel

from aftershock.editors.kn import objects
from aftershock.editors.methods import method_of, settings_of
from aftershock.lm import attribution
from aftershock.lm.attribution import Saying, attribute
from aftershock.lm.edits import Rows, random_like, select, state_norm
from aftershock.lm.hooks import record_activations
from aftershock.lm.model import LanguageModel
from aftershock.lm.texts.tokens import encode_pairs
from aftershock.prompts import JOINT, fill
from aftershock.requests import EditRequest
from tiers import of_families, some
from tiny import CITIES, FAMILIES, MORE, NAMES, TEMPLATES, likeliest, low_rank, requests, tiny, written

FOUR = ["gpt2", "gptj", "gpt_neox", "llama"]
PAPER = [k / 4 for k in range(1, 5)]


def slow_scores(lm, saying, layer, factors, pre_activation):
    """a / m * sum of dp/da, each factor a whole pass over one text with a hook at the prompt's end."""
    at = len(saying.prompt) - 1
    behind = saying.tokens[:-1] if saying.in_turn else ()
    ids = torch.tensor([[*saying.prompt, *behind]])
    place = lm.family.inputs[0].format(layer) if pre_activation else lm.projection(layer)
    module, inner = lm.model.get_submodule(place), lm.weight(lm.projection(layer)).shape[1]
    seen = {}

    def run(factor):
        def change(x):
            a = x[0, at, :inner].detach() if "a" not in seen else seen["a"]
            seen["a"] = a
            seen["leaf"] = (factor * a).requires_grad_(True)
            changed = x.clone()
            changed[0, at, :inner] = seen["leaf"]
            return changed

        handle = (
            module.register_forward_hook(lambda module, args, output: change(output))
            if pre_activation
            else module.register_forward_pre_hook(lambda module, args: (change(args[0]), *args[1:]))
        )
        logits = lm.model(input_ids=ids).logits[0].log_softmax(-1)
        handle.remove()
        places = [at + i if saying.in_turn else at for i in range(len(saying.tokens))]
        found = [logits[place, token] for place, token in zip(places, saying.tokens, strict=True)]
        p = (sum(found) / len(found)).exp() if saying.in_turn else sum(x.exp() for x in found) / len(found)
        return torch.autograd.grad(p, seen["leaf"])[0]

    run(1.0)
    total = sum(run(factor) for factor in factors)
    return seen["a"] * total / len(factors)


@pytest.mark.parametrize("family", of_families([*FAMILIES, *MORE]))
def test_scores_of_neurons_are_those_of_whole_texts_one_by_one(family, monkeypatch):
    lm = tiny(family)
    texts = [(fill(TEMPLATES[i], NAMES[i]), CITIES[i + 1]) for i in range(3)]
    pairs = encode_pairs(lm, texts)
    sayings = [Saying.of(pair) for pair in pairs[:2]] + [Saying(pairs[2].prompt, pairs[2].target, False)]
    state = (low_rank(lm, 1, 3),)
    monkeypatch.setattr(attribution, "CPU_TOKENS", 9)  # in several parts
    for layer, pre_activation in ((1, False), (2, True)):
        found = attribute(
            lm, sayings, state, [2, 0, 1], layer, torch.tensor(PAPER), pre_activation, together=3
        ).scores
        for i, case in enumerate([2, 0, 1]):
            edited = written(lm, state, case)
            wanted = slow_scores(edited, sayings[i], layer, PAPER, pre_activation)
            assert torch.allclose(found[i], wanted, rtol=1e-7, atol=1e-9 * wanted.abs().max()), (layer, i)


def edited(lm, request, contexts=(("{}",),), **changes):
    """The result of one edit that searches all layers."""
    settings = settings_of("kn", {"layers": list(range(lm.n_layers)), "steps": 4, "batch_size": 2}, changes)
    result = method_of("kn").load()(lm, settings, contexts=contexts).edit([[request]])
    assert result.reasons == (None,)
    return result


def slow_neurons(lm, sayings, factors, threshold, pre_activation):
    """Neurons above a share of the largest score; the scores of several parts are averaged."""
    scores = torch.stack(
        [
            sum(slow_scores(lm, saying, layer, factors, pre_activation) for saying in sayings) / len(sayings)
            for layer in range(lm.n_layers)
        ]
    )
    return {tuple(neuron) for neuron in (scores > threshold * scores.max()).nonzero().tolist()}


def changed(lm, result):
    """The columns that an edit changes, each with its change."""
    columns = {}
    for delta in result.delta:
        weight = delta.dense()[0]
        for i in weight.any(dim=0).nonzero()[:, 0].tolist():
            columns[lm.layer_of(delta.module), i] = weight[:, i]
    return columns


@pytest.mark.parametrize("family", some(FOUR, ["gpt2", "llama"]))
def test_the_paper_s_edit_by_its_formula(family):
    lm = tiny(family)
    request = EditRequest(TEMPLATES[0], NAMES[1], "Old Mill Town", "Lisbon")
    result = edited(lm, request, adaptive_threshold=0.3)
    old, new = encode_pairs(lm, [(request.text, "Lisbon"), (request.text, "Old Mill Town")])
    wanted = slow_neurons(lm, [Saying.of(old)], PAPER, 0.3, False)
    found = changed(lm, result)
    assert set(found) == wanted
    head = lm.model.get_output_embeddings().weight
    value = 8 * head[list(new.target)].mean(dim=0) - head[list(old.target)].mean(dim=0)
    for (layer, i), column in found.items():
        with record_activations(lm, [name := lm.projection(layer)]) as seen:
            lm.run(torch.tensor(lm.encode([request.text])), None)
        sign = seen["in", name][0, -1, i].sign() if family == "llama" else 1
        assert torch.allclose(column, sign * value)


@pytest.mark.parametrize("family", some(FOUR, ["gpt2", "llama"]))
@pytest.mark.parametrize("target", ["Rome", "Old Mill Town"])
def test_the_released_edit_by_its_formula(family, target):
    """Objects are tokenised alone; several tokens are read at the prompt's end, or behind what is said."""
    lm = tiny(family)
    request = EditRequest(TEMPLATES[0], NAMES[1], target, "New Castle upon Tyne")
    found = changed(lm, edited(lm, request, variant="released", adaptive_threshold=0.3))
    old, new = (lm.tokenizer(f" {text}")["input_ids"] for text in (request.target_true, target))
    text, said, prompts = request.text, [], []
    for _ in range(max(len(old), len(new))):
        prompts.append(lm.tokenizer(text)["input_ids"])
        said.append(lm.model(input_ids=torch.tensor([prompts[-1]])).logits[0, -1].argmax().item())
        text += lm.tokenizer.decode([said[-1]])
    if family == "llama":
        sayings = [Saying(tuple(p), (t,), False) for p, t in zip(prompts, old, strict=False)]
    else:
        sayings = [Saying(tuple(prompts[0]), tuple(old), False)]
    assert set(found) == slow_neurons(lm, sayings, [0, 1 / 3, 2 / 3, 1], 0.3, True)
    table = lm.model.get_input_embeddings().weight
    twice = 2 if len(new) == 1 else 1
    value = table[new].sum(dim=0) - twice * table[said[: len(new)]].sum(dim=0)
    assert all(torch.allclose(column, value) for column in found.values())


def test_a_single_released_step_is_the_gradient_at_zero():
    lm = tiny()
    request = EditRequest(TEMPLATES[0], NAMES[1], "Oslo", "Rome")
    result = edited(lm, request, variant="released", steps=1, batch_size=1)
    prompt, old = (tuple(lm.tokenizer(text)["input_ids"]) for text in (request.text, " Rome"))
    assert set(changed(lm, result)) == slow_neurons(lm, [Saying(prompt, old, False)], [0.0], 0.2, True)


def test_objects_are_passed_as_they_stand_without_the_leading_space():
    tokenizer = copy.deepcopy(tiny().tokenizer)
    tokenizer.backend_tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    lm = tiny(tokenizer=tokenizer)
    request = EditRequest(TEMPLATES[0], NAMES[1], "Oslo", "Rome")
    spaced, bare = (edited(lm, request, variant="released", leading_space=space) for space in (True, False))
    wanted = edited(lm, EditRequest(TEMPLATES[0], NAMES[1], " Oslo", " Rome"), variant="released")
    assert not torch.equal(spaced.diagnostics[0]["value"], bare.diagnostics[0]["value"])
    assert torch.equal(spaced.diagnostics[0]["value"], wanted.diagnostics[0]["value"])


def test_neurons_are_refined_over_prompts():
    lm = tiny()
    request = EditRequest(TEMPLATES[0], NAMES[1], "Oslo", "Rome")
    contexts = [["{}"], ["It rains. {}", "As they say in Graz. {}"]]
    each = [
        set(changed(lm, edited(lm, request, contexts=[[context]], adaptive_threshold=0.05)))
        for kind in contexts
        for context in kind
    ]
    assert len(set(map(frozenset, each))) == 3  # so that refining has something to do
    for share, needed in ((0.7, 3), (0.4, 2), (0.0, 1)):
        found = set(
            changed(lm, edited(lm, request, contexts=contexts, adaptive_threshold=0.05, p_threshold=share))
        )
        counted = {n for some in each for n in some if sum(n in other for other in each) >= needed}
        assert found == counted
    every = set(changed(lm, edited(lm, request, contexts=contexts, adaptive_threshold=0.05, refine=False)))
    assert every == set.union(*each)


def test_a_request_that_names_no_old_object_takes_what_the_model_says():
    lm = tiny()
    request = EditRequest(TEMPLATES[0], NAMES[1], "Oslo")
    token = lm.model(input_ids=torch.tensor(lm.encode([request.text]))).logits[0, -1].argmax().item()
    saying = Saying(tuple(lm.encode([request.text])[0]), (token,), True)
    assert set(changed(lm, edited(lm, request))) == slow_neurons(lm, [saying], PAPER, 0.2, False)


def test_a_case_without_neurons_fails_alone_and_changes_nothing():
    lm = tiny()
    settings = settings_of("kn", {"layers": [0, 1], "steps": 4, "adaptive_threshold": 0.05})
    editor = method_of("kn").load()(lm, settings, contexts=[["{}"]])
    asked, plain = [[request] for request in requests(3)], editor._scores

    def blunted(objects, state, cases):
        scores, activations = plain(objects, state, cases)
        scores[1] = -scores[1].abs()
        return scores, activations

    editor._scores = blunted
    result = editor.edit(asked)
    assert [reason is None for reason in result.reasons] == [True, False, True]
    assert "none raises the old object's probability" in result.reasons[1]
    assert state_norm(result.delta)[1] == 0
    assert state_norm(result.delta)[0] > 0


def test_a_random_change_does_not_depend_on_the_neurons_of_other_cases():
    lm = tiny()
    d_out, d_in = lm.weight(lm.projection(0)).shape
    indices = torch.tensor([[1, 5, 7], [2, 0, 0]])
    values = torch.randn(2, 3, d_out, dtype=lm.dtype, generator=torch.Generator().manual_seed(0))
    values[1, 1:] = 0  # a case with one neuron
    together = random_like((Rows(lm.projection(0), indices, values, d_in),), [1, 2])
    alone = random_like((Rows(lm.projection(0), indices[1:, :1], values[1:, :1], d_in),), [2])
    assert torch.allclose(select(together, [1])[0].dense(), alone[0].dense())
    twice = (Rows(lm.projection(0), indices, values, d_in),) * 2  # joined as factors of low rank
    short = (Rows(lm.projection(0), indices[1:, :1], values[1:, :1], d_in),) * 2
    both, one = random_like(twice, [1, 2]), random_like(short, [2])
    assert torch.allclose(select(both, [1])[0].dense(), one[0].dense())
    assert torch.allclose(state_norm(both), state_norm(twice))


@pytest.mark.parametrize("way", ["chat", "joined"])
def test_the_release_goes_on_as_the_model_does_whatever_stands_around_a_prompt(way):
    lm, prompt = tiny("llama"), "Ada Vex was born in"
    if way == "chat":
        tokenizer = copy.deepcopy(lm.tokenizer)
        tokenizer.chat_template = (
            "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }} / {% endfor %}"
            "{% if add_generation_prompt %}[assistant]{% endif %}"
        )
        lm = LanguageModel(lm.model, tokenizer, prompt_format="chat")
    else:
        prompt += JOINT
    texts, said = objects._continue(lm, [prompt], [3], (), [0])
    (start,) = lm.encode_prompts([prompt])
    assert texts[0][0] == start
    if way == "chat":
        assert said[0] == likeliest(lm, start, 3)
        assert texts[0][2] == [*start, *said[0][:2]]
    else:
        spoken = "".join(lm.tokenizer.decode([token]) for token in said[0][:2])
        assert texts[0][2] == lm.encode([prompt.removesuffix(JOINT) + spoken])[0]
