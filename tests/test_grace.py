"""GRACE against torch's own Adam and whole texts one by one; what its codebook does in edits and passes."""

import math

import pytest
import torch

import editing
from aftershock.editors.grace import edit as grace
from aftershock.editors.grace.entries import IGNORED, Entry, entries_of, take_up
from aftershock.editors.methods import settings_of
from aftershock.lm import scoring
from aftershock.lm.edits import state_norm
from aftershock.lm.edits.codebook import distances_to
from aftershock.lm.edits.fold import fold
from aftershock.lm.edits.state import acting
from aftershock.lm.generation import continue_greedily
from aftershock.lm.scoring import score
from aftershock.lm.texts.tokens import encode_pairs
from aftershock.requests import EditRequest, Query
from editing import identical, questions, same_memory, singles
from obvious import check_scores, likeliest, log_probs, of_target, train
from tiers import of_families, some
from tiny import CITIES, NAMES, TEMPLATES, low_rank, requests, tiny, with_each, written

MILD = {"layers": [1], "steps": 4, "lr": 0.1, "eps": 0.5, "module": "input"}
TOKENS = {
    ("last", "paper"): lambda i, at: i == at,
    ("prompt", "paper"): lambda i, at: i <= at,
    ("prompt", "released"): lambda i, at: i < at,
    ("all", "paper"): lambda i, at: True,
}
LAST = TOKENS["last", "paper"]


def make(lm, **changes):
    return editing.make("grace", lm, **MILD | changes)


def passed(lm, module, ids, at, value=None, tokens=LAST):
    """Log-probabilities of a text whose prompt ends `at`, with outputs of `module` replaced by a value, and
    what enters and leaves it there."""
    seen = {}

    def hook(module, args, output):
        seen["in"], seen["out"] = args[0][0, at].detach(), output[0, at].detach()
        where = torch.tensor([value is not None and tokens(i, at) for i in range(output.shape[1])])
        return output if value is None else torch.where(where[:, None], value, output[0])[None]

    return log_probs(lm.model, ids, {module: hook}), seen


def of_pair(lm, module, pair, *replaced):
    """The same of a prompt with a target, of which only its tokens are read."""
    log_p, seen = passed(lm, module, [*pair.prompt, *pair.target], len(pair.prompt) - 1, *replaced)
    return of_target(log_p, pair), seen


def slow_value(lm, module, pair, tokens):
    """Key, output and value after all steps, and the losses: torch's Adam on one text."""
    _, seen = of_pair(lm, module, pair)
    value = seen["out"].clone().requires_grad_(True)
    losses = train(
        [value],
        [[[pair]]] * MILD["steps"],
        lambda _: -of_pair(lm, module, pair, value, tokens)[0].mean(),
        enough=0.0,
        lr=MILD["lr"],
    )
    return seen["in"], seen["out"], value.detach(), losses


@pytest.mark.parametrize(("module", "family"), of_families(with_each(["input", "output"])))
def test_values_are_those_of_one_text_at_a_time(family, module, monkeypatch):
    lm = tiny(family)
    monkeypatch.setattr(grace, "CPU_TOKENS", 30)  # in several parts
    state, editor = (low_rank(lm, 0, 3),), make(lm, module=module, init="warm")
    found = editor.edit(singles(3), state)
    (book,) = found.delta
    for i, request in enumerate(requests(3)):
        (pair,) = encode_pairs(lm, [(request.text, request.target_new)])
        key, output, value, losses = slow_value(written(lm, state, i), editor.module, pair, LAST)
        assert torch.allclose(book.keys[i, 0], key, atol=1e-9)
        assert torch.allclose(book.outputs[i, 0], output, atol=1e-9)
        assert torch.allclose(book.values[i, 0], value, atol=1e-6)
        assert found.diagnostics[0]["losses"][:, i].tolist() == pytest.approx(losses, abs=1e-5)
        assert found.losses[i] == pytest.approx(losses[-1], abs=1e-5)


@pytest.mark.parametrize(("how", "variant"), TOKENS)
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_tokens_whose_output_is_replaced(family, how, variant):
    lm = tiny(family)
    (request,) = requests(1, template=1)
    editor, tokens = make(lm, replace=how, variant=variant, init="warm"), TOKENS[how, variant]
    delta, module = editor.edit([[request]]).delta, editor.module
    (pair, *others) = encode_pairs(lm, [(request.text, city) for city in (request.target_new, *CITIES[:3])])
    value = slow_value(lm, module, pair, tokens)[2]
    assert torch.allclose(delta[0].values[0, 0], value, atol=1e-6)
    for other, city in zip(others, CITIES, strict=False):
        (result,) = score(lm, [Query(request.text, city)], delta)
        wanted = of_pair(lm, module, other, value, tokens)[0].tolist()
        assert result.token_logprobs == pytest.approx(wanted, abs=1e-5)
    at = len(pair.prompt) - 1
    said = likeliest(lm, pair.prompt, 5, lambda ids: passed(lm, module, ids, at, value, tokens)[0])
    assert continue_greedily(lm, [request.text], 5, delta) == [said]


def test_a_codebook_decides_row_by_row_whatever_is_beside_it(monkeypatch):
    lm = tiny()
    editor = make(lm, eps=3.0)
    (book,) = state = editor.edit(singles(3)).delta
    monkeypatch.setattr(scoring, "CPU_TOKENS", 64)

    def alone(query, pair):
        _, seen = of_pair(lm, editor.module, pair)
        near = (seen["in"] - book.keys[query.case, 0]).norm() <= 3.0
        value = (book.values[query.case, 0],) if near else ()
        return passed(lm, editor.module, [*pair.prompt, *pair.target], len(pair.prompt) - 1, *value)[0], near

    check_scores(lm, questions(NAMES[:5], CITIES[:3], range(3)), state, alone, 1e-9)


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


def test_memory_and_state_are_the_same_codebook():
    lm = tiny()
    editor, later = make(lm), singles(3, template=1)
    first = editor.edit(singles(3))
    second, by_state = (editor.edit(later, first.delta, memory) for memory in (first.memory, None))
    (book,) = second.delta
    assert identical(by_state.delta, second.delta)
    assert same_memory({name: second.memory[name] for name in book.tensors()}, book.tensors())
    assert book.used.sum(dim=1).tolist() == [2, 2, 2]


def test_a_later_codebook_stands_for_an_earlier_one_in_its_own_cases():
    lm = tiny()
    editor, cases = make(lm), singles(3)
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


# --- the codebook -------------------------------------------------------------------------------------------
def entry(place, epsilon, *label):
    return Entry(torch.tensor([place, 0.0]), torch.zeros(1), torch.zeros(1), epsilon, label)


def take(entries, place, label, **changes):
    """The trained values, and the places and radii afterwards."""
    settings = settings_of("grace", {"eps": 1.0}, changes)
    key = torch.tensor([place, 0.0])
    chosen = take_up(entries, key, torch.zeros(1), tuple(label), lambda: torch.ones(1), settings)
    return chosen, [(round(e.key[0].item(), 5), pytest.approx(e.epsilon, abs=1e-6)) for e in entries]


def test_keys_are_added_widened_and_split():
    near, far = [IGNORED, 5, 6], [IGNORED, 7]
    assert take([], 0.0, near) == (0, [(0.0, 1.0)])
    assert take([entry(0.0, 1.0, *near)], 2.5, far) == (1, [(0.0, 1.0), (2.5, 1.0)])  # too far to meet
    assert take([entry(0.0, 1.0, *near)], 1.5, near) == (0, [(0.0, 1.5)])
    assert take([entry(0.0, 1.0, *near)], 0.5, near) == (0, [(0.0, 1.0)])
    assert take([entry(0.0, 1.0, *near)], 1.5, far) == (1, [(0.0, 0.75), (1.5, 0.75)])
    moved = take([entry(0.0, 1.0, *near)], 1.5, near, expand="moving_average")
    assert moved == (0, [(0.75, 1.5)])
    split = take([entry(0.0, 1.0, *near)], 1.5, far, variant="released")
    assert split == (1, [(0.0, 0.75 - 1e-5), (1.5, 0.75)])


def test_objects_are_compared_and_not_the_means_of_their_labels():
    here = [IGNORED, 5, 7]
    assert take([entry(0.0, 1.0, *here)], 0.5, [IGNORED, 6, 6]) == (1, [(0.0, 0.25), (0.5, 0.25)])
    assert take([entry(0.0, 1.0, *here)], 0.5, [IGNORED, 6, 6], variant="released") == (0, [(0.0, 1.0)])
    longer = [IGNORED, IGNORED, 5, 7]  # the same object after a longer prompt
    assert take([entry(0.0, 1.0, *here)], 0.5, longer) == (0, [(0.0, 1.0)])
    assert take([entry(0.0, 1.0, *here)], 0.5, longer, variant="released")[0] == 1


def test_the_release_looks_at_the_label_of_another_key():
    one, two = [IGNORED, 5], [IGNORED, 6]
    entries = [entry(0.0, 1.0, *one), entry(9.0, 1.0, *two)]
    assert take(list(entries), 0.5, two) == (2, [(0.0, 0.25), (9.0, 1.0), (0.5, 0.25)])
    assert take(list(entries), 0.5, two, variant="released") == (0, [(0.0, 1.0), (9.0, 1.0)])


def test_distances():
    g = torch.Generator().manual_seed(0)
    keys, queries = torch.randn(4, 6, generator=g), torch.randn(3, 6, generator=g)
    queries[0] = keys[2] * (1 + 1e-7)
    found = distances_to(keys, queries, "euclidean")
    assert torch.allclose(found, torch.cdist(queries, keys), atol=1e-5)
    assert found[0, 2] == 0
    angles = torch.nn.functional.normalize(queries, dim=1) @ torch.nn.functional.normalize(keys, dim=1).T
    assert torch.allclose(distances_to(keys, queries, "cosine"), 1 - angles, atol=2e-5)


def test_cold_values_depend_on_the_seed_and_the_fact_alone():
    lm = tiny()
    cases = singles(3)
    starts = make(lm, seed=1, steps=1, lr=1e-9).edit(cases).delta[0].values[:, 0]
    assert ((starts > -1e-6) & (starts < 1 + 1e-6)).all()
    assert not torch.allclose(starts[0], starts[1])
    turned = make(lm, seed=1, steps=1, lr=1e-9).edit(cases[::-1]).delta[0].values[:, 0]
    assert torch.allclose(turned.flip(0), starts, atol=1e-8)
    other = make(lm, seed=2, steps=1, lr=1e-9).edit(cases).delta[0].values[:, 0]
    assert not torch.allclose(other, starts)
    released = make(lm, seed=7, steps=1, lr=1e-9, variant="released").edit(cases[:1]).delta[0]
    drawn = torch.rand(1, released.values.shape[2], generator=torch.Generator().manual_seed(7))
    assert torch.allclose(released.values[0, 0], drawn[0].double(), atol=1e-7)


def test_a_norm_is_that_of_what_replacing_does():
    editor = make(tiny(), eps=1e-3)
    first = editor.edit([requests(2), requests(1, template=2)])
    state = first.delta + editor.edit([requests(1, template=1)] * 2, first.delta).delta
    (book,) = acting(state)
    for case in range(2):
        change = [e.value - e.output for e in entries_of(book, case)]
        wanted = math.sqrt(sum(v.square().sum().item() for v in change))
        assert state_norm(state)[case].item() == pytest.approx(wanted)


def test_no_weights_hold_a_codebook():
    lm = tiny()
    said = r"Codebook of transformer.h.1.mlp.c_fc is not a change of weights"
    with pytest.raises(ValueError, match=said), fold(lm, make(lm).edit(singles(1)).delta, 0):
        pass
