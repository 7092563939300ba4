"""WISE against torch's own SGD on whole texts one by one; where its memories lie and when they are used."""

import copy

import pytest
import torch

from aftershock.lm.edits import Batch, apply_deltas, select
from aftershock.lm.edits.side_memory import LONG, SideMemory
from aftershock.lm.generation import continue_greedily
from aftershock.requests import EditRequest
from editing import questions, singles
from mild_wise import MILD, make
from obvious import check_scores, likeliest, log_probs, of_target
from tiers import some
from tiny import CITIES, NAMES, TEMPLATES, low_rank, requests, tiny, written

ACTIVATIONS = {
    "gelu_new": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "gelu": torch.nn.functional.gelu,
    "silu": torch.nn.functional.silu,
}


def output_with(lm, name, ids, change, bias):
    """Log-probabilities of one text with W + change in place of W, and what the matrix puts out by both."""
    seen = {}

    def hook(module, args, output):
        other = output[0] + args[0][0] @ change.T - (0.0 if bias is None else bias)
        seen["both"] = output[0].detach(), other
        return other[None]

    log_p = log_probs(lm.model, ids, {name: hook})
    return log_p, *seen["both"]


def positive(values):
    values = [value for value in values if value > 0]
    return sum(values) / len(values) if values else torch.tensor(0.0)


def slow_change(lm, name, pairs, other, mask, settings, released):
    """The change after all steps, the last distances, and the losses: torch's SGD on W + change."""
    weight = lm.weight(name).detach()
    copy = weight.clone().requires_grad_(True)
    sgd, losses, away = torch.optim.SGD([copy], lr=settings["lr"]), [], []
    bias = lm.bias(name) if released and not lm.family.transposed else None
    config, function = lm.model.config, torch.nn.Identity()
    if released:
        function = ACTIVATIONS[getattr(config, "hidden_act", None) or config.activation_function]

    def distance(y, z, size):
        norms = [(function(y[i]) - function(z[i])).norm() for i in range(size)]
        return sum(norms) / size

    for _ in range(settings["steps"]):
        nll, away = [], []
        for pair in pairs:
            ids = [*pair.prompt, *pair.target]
            log_p, y, z = output_with(lm, name, ids, copy - weight, bias)
            nll.append(-of_target(log_p, pair).sum() / (len(pair.target) + released))
            away.append(distance(y, z, len(ids) if released else len(pair.prompt)))
        _, y, z = output_with(lm, name, other, copy - weight, bias)
        out = distance(y, z, len(other))
        loss = sum(nll) / len(nll)
        loss = loss + positive([out - d + settings["gamma"] for d in away])
        loss = loss + positive([out - settings["alpha"]]) + positive([settings["beta"] - d for d in away])
        losses.append(loss.item())
        sgd.zero_grad()
        loss.backward()
        decay = settings["weight_decay"] * copy.detach()
        copy.grad = copy.grad * mask + decay if released else (copy.grad + decay) * mask
        sgd.step()
        with torch.no_grad():
            low, high = weight - settings["norm_constraint"], weight + settings["norm_constraint"]
            copy.copy_(copy.clamp(low, high))
    return (copy - weight).detach(), torch.stack(away).detach(), losses


@pytest.mark.parametrize(
    "family", some(["gpt2", "gptj", "gpt_neox", "llama", "gemma2", "granite"], ["gpt2", "gemma2"])
)
def test_a_change_is_that_of_whole_texts_one_by_one(family):
    lm = tiny(family)
    (request,), state = requests(1), (low_rank(lm, 0, 1),)
    editor = make(lm)
    found, mask = editor.edit([[request]], state), editor.draw_mask(0)
    texts = editor.pairs(request, ()), editor.other_text(request)
    edited = written(lm, state, 0)
    change, away, losses = slow_change(edited, editor.module, *texts, mask, MILD, released=False)
    (memory,) = found.delta
    assert torch.allclose(memory.changes[0, 0], change, atol=1e-8)
    assert memory.thresholds[0, 0] == pytest.approx(away.mean().item(), abs=1e-8)
    assert found.diagnostics[0]["losses"] == pytest.approx(losses, abs=1e-6)
    assert 0.1 < mask.mean() < 0.3
    assert not change[mask == 0].any()
    assert change.abs().max() == pytest.approx(MILD["norm_constraint"])


@pytest.mark.parametrize("family", some(["gpt2", "gptj", "gpt_neox", "llama"], ["gpt2", "llama"]))
def test_the_release_counts_all_tokens_and_leaves_biases_out(family):
    lm = tiny(family)
    with torch.no_grad():
        if (bias := lm.bias(lm.projection(1))) is not None:
            bias.copy_(torch.linspace(-1, 1, len(bias)))
    (request,) = requests(1)
    editor = make(lm, [["{}"]], variant="released")
    (pair,) = editor.pairs(request, ())
    length = len(pair.prompt) + len(pair.target)
    other = (lm.encode([" ".join(CITIES)])[0] * 2)[:length]  # as long: nothing is padded
    editor.other_text = lambda request: tuple(other)
    found, mask = editor.edit([[request]]), editor.draw_mask(0)
    change, away, losses = slow_change(lm, editor.module, [pair], other, mask, MILD, released=True)
    (memory,) = found.delta
    assert torch.allclose(memory.changes[0, 0], change, atol=1e-8)
    assert memory.thresholds[0, 0] == pytest.approx(away.item(), abs=1e-8)
    assert found.diagnostics[0]["losses"] == pytest.approx(losses, abs=1e-6)
    assert change[mask == 0].any()  # decay moves them


def slow_released_nll(lm, pairs, other):
    """The released loss of targets on the whole batch, padded on the left, of which the model is told."""
    texts = [*([*pair.prompt, *pair.target] for pair in pairs), other]
    prompt, width = max(len(pair.prompt) for pair in pairs), max(map(len, texts))
    ids = torch.tensor([[lm.pad_id] * (width - len(text)) + list(text) for text in texts])
    mask = torch.tensor([[0] * (width - len(text)) + [1] * len(text) for text in texts])
    model = copy.deepcopy(lm.model)
    model.set_attn_implementation("eager")
    log_p, total = model(input_ids=ids, attention_mask=mask).logits.log_softmax(-1), 0.0
    for row in range(len(pairs)):
        ignored = [column < prompt or not mask[row, column] for column in range(width)]
        nll = torch.stack(
            [log_p[row, i - 1, ids[row, i]] * (0.0 if ignored[i] else -1.0) for i in range(1, width)]
        )
        total += nll[sum(ignored) - 2 :].mean() / len(pairs)  # from the last one where that is -1
    return total


@pytest.mark.parametrize("family", some(["gpt2", "llama", "gemma2", "opt"], ["gemma2"]))
@pytest.mark.parametrize(("contexts", "more"), [(2, 0), (1, 4), (2, 20), (0, 0)])
def test_the_release_pads_on_the_left_and_counts_what_stands_there(family, contexts, more):
    """Also first tokens that padding predicts, behind a long other text, and with prompts of one token."""
    lm = tiny(family)
    request = requests(1)[0] if contexts else EditRequest("{}", "Dario", "Old Mill Town")
    editor = make(lm, [["{}"], ["It rains. {}"]][: contexts or 1], variant="released")
    pairs = editor.pairs(request, ())
    assert contexts or len(pairs[0].prompt) == 1
    length = max(len(pair.prompt) + len(pair.target) for pair in pairs) + more
    other = (lm.encode([" ".join(CITIES)])[0] * 3)[:length]
    editor.other_text = lambda request: tuple(other)
    rows, counted = editor._rows(request, ())
    assert counted.all()
    found = rows.first(len(pairs)).loss(lm, editor.layer, torch.zeros(()), ())
    assert found.item() == pytest.approx(slow_released_nll(lm, pairs, other).item(), abs=1e-9)


def test_a_subject_is_kept_apart_from_the_other_tokens_of_its_texts():
    lm = tiny("llama")
    request = EditRequest(TEMPLATES[1], "Dario", "Oslo")
    editor = make(lm, apart="subject", steps=2)
    (memory,) = editor.edit([[request]]).delta
    found = make(lm, apart="subject", steps=3).edit([[request]]).diagnostics[0]
    inner, outer = [], []
    for pair in editor.pairs(request, ()):
        _, y, z = output_with(lm, editor.module, [*pair.prompt, *pair.target], memory.changes[0, 0], None)
        norms = (y - z).norm(dim=1)[: len(pair.prompt)].tolist()
        words = [lm.tokenizer.decode(pair.prompt[: i + 1]) for i in range(len(pair.prompt))]
        end = next(i for i, text in enumerate(words) if text.endswith("Dario"))
        start = max(i for i, text in enumerate(words) if text.endswith("where")) + 1
        inner.append(sum(norms[start : end + 1]) / (end + 1 - start))
        rest = norms[:start] + norms[end + 1 :]
        outer.append(sum(rest) / len(rest))
    wanted = (
        positive([out - own + MILD["gamma"] for out in outer for own in inner])
        + positive([out - MILD["alpha"] for out in outer])
        + positive([MILD["beta"] - own for own in inner])
    )
    assert found["parts"][2][1] == pytest.approx(wanted, abs=1e-8)
    editor.part = lambda request: "Lisbon"
    with pytest.raises(ValueError, match="the tokens of 'Lisbon' are not among those of"):
        editor.edit([[request]])


# --- routing ------------------------------------------------------------------------------------------------
def slow_distance(lm, editor, change, prompt):
    ids = lm.encode([prompt])[0]
    _, y, z = output_with(lm, editor.module, ids, change, None)
    return (y - z).norm(dim=1).mean().item()


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_row_is_routed_by_its_own_prompt_whatever_is_beside_it(family):
    lm = tiny(family)
    editor = make(lm, [["{}"]], act_ratio=1.02)
    delta = editor.edit(singles(3)).delta

    def passed(query, pair):
        (memory,) = select(delta, [query.case])
        change, threshold = memory.changes[0, 0], 1.02 * memory.thresholds[0, 0].item()
        used = slow_distance(lm, editor, change, query.prompt) >= threshold
        return output_with(lm, editor.module, [*pair.prompt, *pair.target], change * used, None)[0], used

    check_scores(lm, questions(NAMES[:5], CITIES[:2], range(3)), delta, passed, 1e-7)


def test_a_route_is_kept_for_a_whole_continuation():
    lm = tiny("llama")
    editor = make(lm, [["{}"]], lr=2.0)
    (request,) = requests(1)
    (memory,) = delta = editor.edit([[request]]).delta
    for text in (request.text, "Rome"):
        change = memory.changes[0, 0]
        used = slow_distance(lm, editor, change, text) >= editor.settings.act_ratio * memory.thresholds[0, 0]
        change, (prompt,) = change * used, lm.encode([text])
        said = likeliest(
            lm, prompt, 6, lambda ids, change=change: output_with(lm, editor.module, ids, change, None)[0]
        )
        assert continue_greedily(lm, [text], 6, delta) == [said]


def test_the_released_routing_decides_for_all_rows_of_a_pass_together():
    lm = tiny("llama")
    editor = make(lm, [["{}"]], routing="released")
    (request,) = requests(1)
    (memory,) = editor.edit([[request]]).delta
    prompts = [request.text, "Rome"]
    ids, mask = lm.pad(lm.encode(prompts))
    batch = Batch.of_prompts(ids, mask, torch.zeros(2, dtype=torch.long))
    seen = []

    class Seen(SideMemory):
        def choose(self, distances, cases):
            seen.append(distances)
            return super().choose(distances, cases)

    watched = Seen(**vars(memory))
    with torch.no_grad(), apply_deltas(lm, (watched,), batch):
        lm.run(ids, mask)
        lm.run(ids, mask)
    assert len(seen) == 2  # in every pass anew
    assert seen[0][0] == seen[0][1]
    x = torch.randn(1, LONG + 5, memory.changes.shape[3], dtype=lm.dtype)
    y = torch.zeros(1, LONG + 5, lm.d_model, dtype=lm.dtype)
    every = torch.ones(1, LONG + 5, dtype=torch.bool)
    case = torch.zeros(1, dtype=torch.long)
    norms = (x[0] @ memory.changes[0, 0].T).norm(dim=1)
    assert memory.distances(lm, x, y, case, every)[0, 0] == pytest.approx(norms.max().item())
    assert memory.distances(lm, x[:, :LONG], y[:, :LONG], case, every[:, :LONG])[0, 0] == pytest.approx(
        norms[:LONG].mean().item()
    )


def test_other_texts_do_not_hold_the_subject():
    lm = tiny("llama")
    editor = make(lm)
    texts = editor._others
    name = lm.tokenizer.decode(texts[0]).split()[0]
    chosen = editor.other_text(EditRequest("{} was born in", name, "Oslo"))
    holding = [name in lm.tokenizer.decode(ids) for ids in texts]
    assert any(holding)
    assert all(holding) or name not in lm.tokenizer.decode(chosen)
