"""GRACE against torch's own Adam and whole texts one by one; what its codebook does in edits and passes."""

from dataclasses import replace

import pytest
import torch

from aftershock.editors.grace import edit as grace
from aftershock.editors.grace.entries import entries_of
from aftershock.editors.methods import method_of, settings_of
from aftershock.lm import generation, scoring
from aftershock.lm.edits import select
from aftershock.lm.edits.saved import load_deltas, save_deltas
from aftershock.lm.edits.state import acting
from aftershock.lm.scoring import score
from aftershock.lm.texts.tokens import encode_pairs
from aftershock.prompts import fill
from aftershock.requests import EditRequest, Query
from tiers import of_families, some
from tiny import CITIES, NAMES, TEMPLATES, low_rank, requests, tiny, with_each, written

MILD = {"layers": [1], "steps": 4, "lr": 0.1, "eps": 0.5}


def make(lm, seed=0, **changes):
    return method_of("grace").load()(lm, settings_of("grace", MILD, changes), seed=seed)


def places(lm, module):
    return lm.family.inputs[0].format(1) if module == "input" else lm.projection(1)


def pass_by_hand(lm, module, prompt, behind, value, tokens):
    """Log-probabilities of a text with outputs of `module` replaced, and what enters and leaves it at the
    prompt's end."""
    at, seen = len(prompt) - 1, {}

    def hook(module, args, output):
        seen["in"], seen["out"] = args[0][0, at].detach(), output[0, at].detach()
        if value is None:
            return output
        n = output.shape[1]
        where = torch.tensor([tokens(i, at) for i in range(n)])[:, None]
        return torch.where(where, value, output[0])[None]

    handle = lm.model.get_submodule(module).register_forward_hook(hook)
    log_p = lm.model(input_ids=torch.tensor([[*prompt, *behind]])).logits[0].log_softmax(-1)
    handle.remove()
    return log_p, seen


TOKENS = {
    ("last", "paper"): lambda i, at: i == at,
    ("prompt", "paper"): lambda i, at: i <= at,
    ("prompt", "released"): lambda i, at: i < at,
    ("all", "paper"): lambda i, at: True,
}


def slow_value(lm, module, pair, start, settings, tokens):
    """The value after all steps, and the losses: torch's Adam on one text."""
    value = start.clone().requires_grad_(True)
    adam, losses = torch.optim.Adam([value], lr=settings["lr"]), []
    for _ in range(settings["steps"]):
        log_p, _ = pass_by_hand(lm, module, pair.prompt, pair.target[:-1], value, tokens)
        places = range(len(pair.prompt) - 1, len(log_p))
        loss = -sum(log_p[p, t] for p, t in zip(places, pair.target, strict=True)) / len(pair.target)
        losses.append(loss.item())
        adam.zero_grad()
        loss.backward()
        adam.step()
    return value.detach(), losses


@pytest.mark.parametrize(("module", "family"), of_families(with_each(["input", "output"])))
def test_values_are_those_of_one_text_at_a_time(family, module, monkeypatch):
    lm = tiny(family)
    monkeypatch.setattr(grace, "CPU_TOKENS", 30)  # in several parts
    cases, state = [[request] for request in requests(3)], (low_rank(lm, 0, 3),)
    found = make(lm, module=module, init="warm").edit(cases, state)
    (book,) = found.delta
    for i, (request,) in enumerate(cases):
        edited, (pair,) = written(lm, state, i), encode_pairs(lm, [(request.text, request.target_new)])
        name, tokens = places(lm, module), TOKENS["last", "paper"]
        _, seen = pass_by_hand(edited, name, pair.prompt, pair.target[:-1], None, tokens)
        value, losses = slow_value(edited, name, pair, seen["out"], MILD, tokens)
        assert torch.allclose(book.keys[i, 0], seen["in"], atol=1e-9)
        assert torch.allclose(book.outputs[i, 0], seen["out"], atol=1e-9)
        assert torch.allclose(book.values[i, 0], value, atol=1e-6)
        trace = found.diagnostics[0]["losses"][:, i]
        assert trace.tolist() == pytest.approx(losses, abs=1e-5)
        assert found.losses[i] == pytest.approx(losses[-1], abs=1e-5)


@pytest.mark.parametrize(("how", "variant"), TOKENS)
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_tokens_whose_output_is_replaced(family, how, variant):
    lm = tiny(family)
    (request,) = requests(1, template=1)
    (pair,) = encode_pairs(lm, [(request.text, request.target_new)])
    editor = make(lm, replace=how, variant=variant, init="warm")
    found = editor.edit([[request]])
    tokens, module = TOKENS[how, variant], places(lm, "input")
    _, seen = pass_by_hand(lm, module, pair.prompt, pair.target[:-1], None, tokens)
    value, _ = slow_value(lm, module, pair, seen["out"], MILD, tokens)
    assert torch.allclose(found.delta[0].values[0, 0], value, atol=1e-6)
    for target in CITIES[:3]:
        (other,) = encode_pairs(lm, [(request.text, target)])
        log_p, _ = pass_by_hand(lm, module, other.prompt, other.target[:-1], value, tokens)
        wanted = [log_p[len(other.prompt) - 1 + i, t].item() for i, t in enumerate(other.target)]
        (result,) = score(lm, [Query(request.text, target)], found.delta)
        assert result.token_logprobs == pytest.approx(wanted, abs=1e-5)
    (said,) = generation.continue_greedily(lm, [request.text], 5, found.delta)
    behind = []
    for _ in range(5):
        log_p, _ = pass_by_hand(lm, module, pair.prompt, behind, value, tokens)
        behind.append(int(log_p[-1].argmax()))
    end = behind.index(lm.tokenizer.eos_token_id) if lm.tokenizer.eos_token_id in behind else None
    assert said == lm.tokenizer.decode(behind[:end])


def test_a_codebook_decides_row_by_row_whatever_is_beside_it(monkeypatch):
    lm = tiny()
    editor = make(lm, eps=3.0)
    state = editor.edit([[request] for request in requests(3)]).delta
    prompts = [fill(template, name) for template in TEMPLATES for name in NAMES[:5]]
    queries = [Query(p, c, i) for p in prompts for c in CITIES[:3] for i in range(3)]
    found = {}
    for tokens, order in ((4096, 1), (64, -1)):
        monkeypatch.setattr(scoring, "CPU_TOKENS", tokens)
        found[tokens] = dict(
            zip(queries[::order], (s.logprob for s in score(lm, queries[::order], state)), strict=True)
        )
    plain = dict(zip(queries, (s.logprob for s in score(lm, queries)), strict=True))
    moved = 0
    for query in queries:
        assert found[64][query] == pytest.approx(found[4096][query], abs=1e-9)
        (prompt,) = lm.encode([query.prompt])
        _, seen = pass_by_hand(lm, editor.module, prompt, [], None, TOKENS["last", "paper"])
        distance = (seen["in"] - state[0].keys[query.case, 0]).norm().item()
        assert (found[64][query] != pytest.approx(plain[query], abs=1e-9)) == (distance <= 3.0), distance
        moved += distance <= 3.0
    assert 0 < moved < len(queries)
    alone = score(lm, [replace(q, case=0) for q in queries if q.case == 2], select(state, [2]))
    wanted = [found[64][q] for q in queries if q.case == 2]
    assert [s.logprob for s in alone] == pytest.approx(wanted, abs=1e-9)


# --- edits of edited models ---------------------------------------------------------------------------------
def again(request, target):
    return EditRequest(request.prompt, request.subject, target)


def said(lm, request, state, targets=("Oslo", "Rome", "Graz")):
    """The likeliest of some targets."""
    found = score(lm, [Query(request.text, target) for target in targets], state)
    return max(zip(found, targets, strict=True), key=lambda pair: pair[0].probability)[1]


@pytest.mark.parametrize("family", some(["gpt2", "gptj", "gpt_neox", "llama", "gemma2"], ["gpt2", "gemma2"]))
def test_the_newest_of_two_edits_of_one_prompt_counts(family):
    lm = tiny(family)
    request = EditRequest(TEMPLATES[0], NAMES[0], "Oslo")
    editor = make(lm, steps=40, lr=0.5)
    first = editor.edit([[request]])
    assert said(lm, request, first.delta) == "Oslo"
    second = editor.edit([[again(request, "Rome")]], first.delta, first.memory)
    both = first.delta + second.delta
    assert said(lm, request, both) == "Rome"
    assert said(lm, request, first.delta) == "Oslo"  # undoing is leaving the second one out
    (entry,) = entries_of(second.delta[0], 0)
    assert entry.epsilon == 0.5
    assert torch.equal(entry.key, first.delta[0].keys[0, 0])
    third = editor.edit([[again(request, "Oslo")]], both, second.memory)
    assert said(lm, request, both + third.delta) == "Oslo"


def test_in_the_release_two_edits_of_one_prompt_do_nothing():
    lm = tiny()
    request = EditRequest(TEMPLATES[0], NAMES[0], "Oslo")
    editor = make(lm, variant="released")
    first = editor.edit([[request]])
    second = editor.edit([[again(request, "Rome")]], first.delta, first.memory)
    radii = [entry.epsilon for entry in entries_of(second.delta[0], 0)]
    assert radii == pytest.approx([-1e-5, 0.0], abs=1e-12)
    trace = second.diagnostics[0]["losses"][:, 0]
    assert (trace == trace[0]).all()
    both = first.delta + second.delta
    queries = [Query(request.text, city) for city in CITIES]
    assert [s.logprob for s in score(lm, queries, both)] == [s.logprob for s in score(lm, queries)]


def test_memory_and_state_are_the_same_codebook_and_a_file_holds_it(tmp_path):
    lm = tiny()
    editor, cases = make(lm), [[request] for request in requests(3)]
    first = editor.edit(cases)
    later = [[request] for request in requests(3, template=1)]
    second = editor.edit(later, first.delta, first.memory)
    by_state = editor.edit(later, first.delta)
    save_deltas(first.delta, tmp_path / "first.safetensors")
    kept, _ = load_deltas(tmp_path / "first.safetensors")
    from_file = editor.edit(later, kept)
    for name, tensor in second.delta[0].tensors().items():
        assert torch.equal(tensor, by_state.delta[0].tensors()[name])
        assert torch.equal(tensor, from_file.delta[0].tensors()[name])
        assert torch.equal(tensor, second.memory[name])
    assert second.delta[0].used.sum(dim=1).tolist() == [2, 2, 2]
    for i in range(3):
        mine = {name: tensor[[i]] for name, tensor in first.memory.items()}
        alone = editor.edit(later[i : i + 1], select(first.delta, [i]), mine)
        assert torch.allclose(alone.delta[0].values[0], second.delta[0].values[i], atol=1e-9)


def test_a_later_codebook_stands_for_an_earlier_one_in_its_own_cases():
    lm = tiny()
    editor, cases = make(lm), [[request] for request in requests(3)]
    first = editor.edit(cases).delta
    later = [[again(case[0], "Graz")] for case in cases]
    second = editor.edit(later, first).delta
    second = (second[0].without(torch.tensor([True, False, True])),)
    queries = [Query(case[0].text, city, i) for i, case in enumerate(cases) for city in CITIES[:4]]
    both, one, other = (score(lm, queries, state) for state in (first + second, first, second))
    for query, found, before, after in zip(queries, both, one, other, strict=True):
        assert found == (after if query.case == 1 else before)
    assert len(acting(first + second)) == 1
    assert len(acting((*first, low_rank(lm, 0, 3), *second))) == 3
    whole = editor.edit(later, first).delta
    assert acting(first + whole) == whole


def test_a_case_of_several_requests_has_an_entry_for_each():
    lm = tiny()
    several = requests(3)
    editor = make(lm, eps=1e-3)
    together = editor.edit([several, several[:1]])
    state, memory = (), None
    for request in several:
        result = editor.edit([[request]], state, memory)
        state, memory = state + result.delta, result.memory
    assert together.delta[0].used.sum(dim=1).tolist() == [3, 1]
    for name in ("keys", "values", "epsilons"):
        assert torch.allclose(together.delta[0].tensors()[name][0], memory[name][0], atol=1e-9)
    assert together.steps == (3 * MILD["steps"], MILD["steps"])
