"""MEMOIR against torch's own SGD on whole texts one by one, and the prompts that its memory answers."""

import pytest
import torch

import editing
from aftershock.editors.memoir.edit import PLACEHOLDER
from aftershock.lm.edits import Batch, apply_deltas, select
from aftershock.lm.generation import continue_greedily
from aftershock.requests import EditRequest
from obvious import check_scores, likeliest, log_probs, of_target
from tiers import some
from tiny import CITIES, NAMES, low_rank, requests, tiny, written

MILD = {"layers": [1], "steps": 4, "lr": 3.0, "weight_decay": 1e-2, "max_norm": 0.05}
CONTEXTS = [["{}"], ["It rains. {}"]]


def make(lm, contexts=CONTEXTS, **changes):
    return editing.make("memoir", lm, contexts, **MILD | changes)


def run_with(lm, name, ids, weight=None, mask=None):
    """Log-probabilities of one text with `weight` @ (x * mask) added, and what the matrix reads."""
    seen = {}

    def hook(module, args, output):
        seen["x"] = args[0][0].detach()
        return output if weight is None else output + (args[0] * mask) @ weight.T

    log_p = log_probs(lm.model, ids, {name: hook})
    return log_p, seen["x"]


def slow_mask(lm, editor, ids):
    """The mask of a prompt: the inputs of the largest means over its tokens, permuted."""
    feature = run_with(lm, editor.module, ids)[1].mean(dim=0) - editor.background
    order = sorted(range(len(feature)), key=lambda i: -abs(feature[i].item()))[: editor.top_k]
    mask = torch.zeros(len(feature), dtype=torch.bool)
    for i in order:
        mask[editor.permutation[i]] = True
    return mask


def slow_weight(lm, name, pairs, mask, weight, released):
    """The memory after all steps, and the losses: torch's SGD and its clipping, on whole texts."""
    weight = weight.clone().requires_grad_(True)
    sgd = torch.optim.SGD([weight], lr=MILD["lr"], weight_decay=MILD["weight_decay"] if released else 0.0)
    longest = max(len(lm.encode([PLACEHOLDER])[0]), *(len(p.prompt) + len(p.target) for p in pairs))
    losses = []
    for _ in range(MILD["steps"]):
        nll = []
        for pair in pairs:
            log_p, _ = run_with(lm, name, [*pair.prompt, *pair.target], weight, mask)
            said = of_target(log_p, pair)
            counted = longest - 1 - (len(pair.prompt) - 2) if released else len(said)
            nll.append(-said.sum() / counted)
        loss = sum(nll) / len(nll)
        losses.append(loss.item())
        sgd.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([weight], MILD["max_norm"])
        if not released:
            weight.grad += MILD["weight_decay"] * weight.detach() * mask
        sgd.step()
    return weight.detach(), losses


CASES = [
    *((family, "paper") for family in ("gpt2", "gptj", "gpt_neox", "llama", "gemma2", "granite")),
    *((family, "released") for family in ("gptj", "gpt_neox", "llama")),
]


@pytest.mark.parametrize(
    ("family", "variant"), some(CASES, [("gpt2", "paper"), ("gemma2", "paper"), ("llama", "released")])
)
def test_two_edits_are_those_of_whole_texts_one_by_one(family, variant):
    lm = tiny(family)
    state, asked = (low_rank(lm, 0, 1),), requests(2)
    editor = make(lm, variant=variant)
    found = editor.edit([asked], state)
    edited = written(lm, state, 0)
    weight = torch.zeros(lm.d_model, editor.d_in, dtype=lm.dtype)
    masks = []
    for request, diagnostic in zip(asked, found.diagnostics, strict=True):
        pairs = editor.pairs(request, ())
        masks.append(slow_mask(edited, editor, pairs[0].prompt))
        weight, losses = slow_weight(edited, editor.module, pairs, masks[-1], weight, variant == "released")
        assert diagnostic["losses"] == pytest.approx(losses, abs=1e-6)
    (memory,) = found.delta
    assert torch.allclose(memory.weight[0], weight, atol=1e-8)
    assert torch.equal(memory.masks[0], torch.stack(masks))
    assert not weight[:, ~(masks[0] | masks[1])].any()
    assert not torch.equal(*masks)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_prompt_is_answered_through_the_nearest_mask_whatever_is_beside_it(family):
    lm = tiny(family)
    editor = make(lm, [["{}"]], threshold=0.75)
    delta = editor.edit([requests(2), requests(1, template=1)]).delta

    def passed(query, pair):
        (memory,) = select(delta, [query.case])
        own = slow_mask(lm, editor, pair.prompt)
        shares = [(own & mask).sum().item() / editor.top_k for mask in memory.masks[0][memory.used[0]]]
        used = max(shares) >= 0.75
        mask = memory.masks[0, shares.index(max(shares))] & used
        return run_with(lm, editor.module, [*pair.prompt, *pair.target], memory.weight[0], mask)[0], used

    check_scores(lm, editing.questions(NAMES[:5], CITIES[:2], range(2)), delta, passed, 1e-7)


def test_a_mask_is_kept_for_a_whole_continuation():
    lm = tiny("llama")
    editor = make(lm, [["{}"]])
    (request,) = requests(1)
    delta = editor.edit([[request]]).delta
    (prompt,) = lm.encode([request.text])
    weight, mask = delta[0].weight[0], slow_mask(lm, editor, prompt)
    said = likeliest(lm, prompt, 6, lambda ids: run_with(lm, editor.module, ids, weight, mask)[0])
    assert continue_greedily(lm, [request.text], 6, delta) == [said]


def test_one_prompt_has_one_mask():
    lm = tiny("llama")
    editor = make(lm, [["{}"]])
    (request,) = requests(1)
    other = EditRequest(request.prompt, request.subject, CITIES[3])
    (memory,) = editor.edit([[request, other]]).delta
    assert memory.masks.shape[1] == 1
    assert memory.used.all()


@pytest.mark.parametrize("feature", ["mean", "last"])
def test_other_features_have_no_background(feature):
    lm = tiny("llama")
    editor = make(lm, [["{}"]], feature=feature)
    (request,) = requests(1)
    found = editor.edit([[request]]).diagnostics[0]["feature"]
    x = run_with(lm, editor.module, lm.encode([request.text])[0])[1]
    assert torch.allclose(found, x.mean(dim=0) if feature == "mean" else x[-1])
    assert not editor.background.any()


def test_the_background_is_the_mean_of_texts_of_the_models_own():
    lm = tiny("llama")
    editor = make(lm, background_texts=5, background_tokens=6)
    texts = editor.own_texts(5, 6)
    assert all(0 < len(ids) <= 6 for ids in texts)
    means = [run_with(lm, editor.module, list(ids))[1].mean(dim=0) for ids in texts]
    assert torch.allclose(editor.background, torch.stack(means).mean(dim=0))


def test_a_pass_that_begins_inside_a_prompt_is_an_error():
    lm = tiny("llama")
    (request,) = requests(1)
    delta = make(lm, [["{}"]]).edit([[request]]).delta
    ids, _ = lm.pad(lm.encode([request.text]))
    last = torch.tensor([ids.shape[1] - 1])
    batch = Batch(ids, torch.zeros(1, dtype=torch.long), last, last[:, None])
    with (
        torch.no_grad(),
        apply_deltas(lm, delta, batch),
        pytest.raises(ValueError, match="decides by a whole prompt, and a pass begins inside one"),
    ):
        lm.run(ids[:, -1:], None)
