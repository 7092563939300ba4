"""The engine against the plain path, one case at a time in float64; and the plain path's own work."""

import math
from functools import cache

import pytest

from aftershock.editors import fine_tuning
from aftershock.editors.methods import settings_of
from aftershock.lm.edits import Dense, join, select
from aftershock.lm.optimisation import values
from aftershock.lm.scoring import score
from aftershock.prompts import fill
from aftershock.requests import Query
from benchmarks.plain import Plain
from editing import CONTEXTS, SETTINGS, built
from tiers import once_each
from tiny import CITIES, in_turn, moments, requests, tiny

WEIGHTS, END_TO_END = 1e-6, 1e-5  # relative to the norm, and of log-probabilities
VALUES = {"steps": 8, "lr": 5.0, "weight_decay": 0.01, "clamp": 100.0}
FLOOR = 1e-3  # smaller changes are compared absolutely: a case may be done before its first update
METHODS = {
    "ft": ("ft", {"layers": [0], "steps": 6, "lr": 0.02, "norm_constraint": 0.1, "weight_decay": 0.01}),
    "ft_each": (
        "ft",
        {"layers": [1, 2], "steps": 6, "lr": 0.05, "norm_constraint": None, "objective": "target_new"},
    ),
    "rome": ("rome", {"layers": [1], **VALUES}),
    "memit": ("memit", {"layers": [0, 1], **VALUES, "mom2_weight": 1e-3}),
}
CASES = 7
ORDERS = ([3], [4, 1], [0, 1, 2, 3, 4, 5, 6], [6, 2, 5, 0, 3, 1, 4])


@cache
def lm_of(family):
    return tiny(family)


def plain_for(family, method, stop):
    name, changes = METHODS[method]
    lm = lm_of(family)
    plain = Plain(lm, moments(lm), CONTEXTS, stop_value=stop, stop_ft=stop)
    return plain, name, settings_of(name, changes)


def prompts_of(request):
    """The edit's own prompt and two others about the subject, of different lengths."""
    return [request.text, f"As for {request.subject}, home is", f"{request.subject} was"]


def trained(lm, settings):
    """Copies of the edited parameters, (d_out, d_in) and (d_out,), by module and kind."""
    names = [lm.projection(layer) for layer in settings.layers]
    found = {(n, kind): getattr(lm, kind)(n) for n in names for kind in ("weight", "bias")}
    return {key: tensor.detach().clone() for key, tensor in found.items() if tensor is not None}


def edit_plainly(plain, name, settings, chain):
    """Edits one after the other: changes, losses of the last edit, log-probabilities after it."""
    before = trained(plain.lm, settings)
    with plain.edit(name, [chain[0]], settings) as edit:
        if chain[1:]:
            return edit_plainly(plain, name, settings, chain[1:])
        changes = {key: after - before[key] for key, after in trained(plain.lm, settings).items()}
        return changes, edit.losses[0], plain.score(prompts_of(chain[-1]), [chain[-1].target_new])


@cache
def chosen(family, method):
    """Cases, their second edits, and a loss at which the cases stop at three different steps at least."""
    plain, name, settings = plain_for(family, method, -math.inf)
    for template in range(len(CITIES)):
        asked = requests(CASES, template)
        curves = [edit_plainly(plain, name, settings, [request])[1] for request in asked]
        levels = sorted(loss for curve in curves for loss in curve)
        between = [(one + two) / 2 for one, two in zip(levels, levels[1:], strict=False)]

        def stops(level, curves=curves):
            return {next((i for i, loss in enumerate(c[:-1]) if loss < level), len(c) - 1) for c in curves}

        level = max(between, key=lambda level: len(stops(level)))
        if len(stops(level)) >= 3:
            return asked, requests(CASES, template + 1), level
    raise AssertionError(f"{method} on {family}: no loss at which cases stop at different steps")


def same_weights(delta, case, changes):
    """One case's deltas are the changes of the plain path."""
    assert {d.module for d in delta} == {module for module, _ in changes}
    for mine in delta:
        biases = mine.bias if isinstance(mine, Dense) else None
        for kind, found in (("weight", mine.dense()), ("bias", biases)):
            if found is not None:
                wanted = changes[mine.module, kind]
                assert (found[case] - wanted).norm() <= WEIGHTS * wanted.norm().clamp(min=FLOOR), (case, kind)


# --- edits -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("method", "family"), once_each(in_turn(METHODS)))
@pytest.mark.parametrize("chained", [False, True])
def test_batches_of_edits_equal_edits_alone_of_the_weights_before(chained, method, family, monkeypatch):
    lm, (firsts, seconds, level) = lm_of(family), chosen(family, method)
    plain, name, settings = plain_for(family, method, level)
    asked, chains = (seconds, zip(firsts, seconds)) if chained else (firsts, zip(firsts))  # noqa: B905
    wanted = [edit_plainly(plain, name, settings, chain) for chain in chains]
    assert chained or len({len(losses) for _, losses, _ in wanted}) >= 3  # they stop at different steps
    assert len({len(lm.encode([r.text])[0]) for r in asked}) >= 3
    assert len({len(lm.encode_targets([r.target_new])[0]) for r in asked}) >= 3
    for module in (values, fine_tuning):
        monkeypatch.setattr(module, "ENOUGH", level)
    editor = built(name, lm, settings)
    first = editor.edit([[request] for request in firsts]).delta if chained else ()
    for order in ORDERS:
        start, mine = select(first, order), [asked[i] for i in order]
        found = editor.edit([[request] for request in mine], start)
        queries = [Query(p, r.target_new, case) for case, r in enumerate(mine) for p in prompts_of(r)]
        scores = iter(score(lm, queries, start + found.delta))
        for case, i in enumerate(order):
            changes, losses, said = wanted[i]
            same_weights(found.delta, case, changes)
            assert found.reasons[case] is None
            lowered = sum(loss >= level for loss in losses)  # fine-tuning: one update for each such loss
            assert found.steps[case] == (lowered if name == "ft" else len(losses) - 1)
            assert found.losses[case] == pytest.approx(losses[-1], rel=END_TO_END)
            for (theirs,), mine_said in zip(said, scores, strict=False):
                assert mine_said.token_logprobs == pytest.approx(theirs, rel=0, abs=END_TO_END), (order, case)


TRAINED = METHODS["ft_each"][1] | {"layers": [0, 2], "steps": 4, "batch_size": 2, "lr": 0.02}
VARIANTS = [
    ("ft", TRAINED | {"weight_decay": 0.0}),
    ("ft", TRAINED | {"norm_constraint": 0.01}),
    ("ft", TRAINED | {"weight_decay": 0.1}),
    ("ft", TRAINED | {"objective": "prompt_last"}),
    ("rome", {"layers": [0], **VALUES, "mom2_adjustment": False}),
    ("rome", {"layers": [0], **VALUES}),
    ("memit", {"layers": [0, 1], **VALUES, "mom2_weight": 1e-3}),
]


@pytest.mark.parametrize(("method", "changes"), VARIANTS)
def test_a_case_of_several_requests_equals_the_plain_path(method, changes):
    lm, asked, settings = lm_of("gpt2"), requests(3), settings_of(method, changes)
    found = built(method, lm, settings).edit([asked])
    before = trained(lm, settings)
    with Plain(lm, moments(lm), CONTEXTS).edit(method, asked, settings) as edit:
        changed = {key: after - before[key] for key, after in trained(lm, settings).items()}
    same_weights(join(found.delta), 0, changed)
    if method == "ft":
        losses = found.diagnostics[0]["losses"][:, 0].tolist()
        assert losses == pytest.approx(edit.losses[0], abs=1e-5)


# --- the plain path's work ---------------------------------------------------------------------------------
def tokens_of(lm, texts):
    """Tokens of one padded batch."""
    return len(texts) * max(map(len, lm.encode(texts)))


def value_tokens(lm, request, templates):
    """Tokens of one pass of a value's optimisation: the target without its last token after every context."""
    (target,) = lm.encode_targets([request.target_new])
    texts = [fill(fill(t, request.prompt), request.subject) for t in templates]
    longest = max(len(lm.encode([text])[0]) + len(target) - 1 for text in texts)
    essence = len(lm.encode([fill("{} is a", request.subject)])[0])
    return (len(templates) + 1) * max(longest, essence)


def plain_at(lm, method, **changes):
    settings = settings_of(method, {**SETTINGS[method], **changes})
    plain = Plain(lm, moments(lm), CONTEXTS, stop_value=-1.0, stop_ft=-1.0)
    return plain, settings


def test_rome_runs_as_often_as_the_released_code():
    lm, (request,) = tiny(), requests(1)
    plain, settings = plain_at(lm, "rome", steps=7)
    with plain.edit("rome", [request], settings) as edit:
        pass
    templates = [t for kind in CONTEXTS for t in kind]
    texts = [fill(fill(t, request.prompt), request.subject) for t in templates]
    # one pass over all templates for the key, n for the value, one over the plain prompt for k and W k;
    # the last of the n is not followed by an update
    assert plain.work.forward == 1 + 7 + 1
    assert plain.work.backward == edit.updates == 7 - 1
    assert plain.work.tokens == (
        tokens_of(lm, texts) + 7 * value_tokens(lm, request, templates) + tokens_of(lm, [request.text])
    )


def test_memit_runs_as_often_as_the_released_code():
    lm, asked = tiny(), requests(3)
    plain, settings = plain_at(lm, "memit", steps=5)
    with plain.edit("memit", asked, settings) as edit:
        pass
    templates = [t for kind in CONTEXTS for t in kind]
    texts = [fill(fill(t, r.prompt), r.subject) for r in asked for t in templates]
    # n passes for each request's value; for each layer one over all templates of all requests for the keys,
    # and one over the plain prompts for what the last layer puts out
    layers = len(settings.layers)
    assert plain.work.forward == 3 * 5 + 2 * layers
    assert plain.work.backward == edit.updates == 3 * (5 - 1)
    spread = layers * (tokens_of(lm, texts) + tokens_of(lm, [r.text for r in asked]))
    assert plain.work.tokens == spread + 5 * sum(value_tokens(lm, r, templates) for r in asked)


@pytest.mark.parametrize("objective", ["prompt_last", "target_new"])
def test_ft_runs_as_often_as_the_released_code(objective):
    lm, asked = tiny(), requests(3)
    plain, settings = plain_at(lm, "ft", steps=4, batch_size=2, objective=objective)
    with plain.edit("ft", asked, settings):
        pass
    # one forward and one backward pass per step and batch, over prompts alone, or with their whole targets
    assert (plain.work.forward, plain.work.backward) == (4 * 2, 4 * 2)
    texts = [r.text if objective == "prompt_last" else f"{r.text} {r.target_new}" for r in asked]
    assert plain.work.tokens == 4 * (tokens_of(lm, texts[:2]) + tokens_of(lm, texts[2:]))


def test_scoring_runs_once_over_all_prompts_with_all_targets():
    lm, asked = tiny(), requests(4)
    plain = Plain(lm)
    prompts, targets = [r.text for r in asked[:3]], [r.target_new for r in asked]
    assert [len(row) for row in plain.score(prompts, targets)] == [4, 4, 4]
    assert (plain.work.forward, plain.work.backward) == (1, 0)
    assert plain.work.tokens == tokens_of(lm, [f"{p} {t}" for p in prompts for t in targets])
