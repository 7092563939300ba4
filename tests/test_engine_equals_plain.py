"""The engine against the plain path, one case at a time in float64; and the plain path's own work."""

import math
from functools import cache

import pytest

from aftershock.editors import fine_tuning
from aftershock.editors.methods import method_of, settings_of
from aftershock.lm.edits import Dense, join, select
from aftershock.lm.optimisation import values
from aftershock.lm.scoring import score
from aftershock.prompts import fill
from aftershock.requests import Query
from benchmarks.plain import Plain
from editing import CONTEXTS, SETTINGS
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


def within(kind, difference, tolerance, where):
    """Assert that a difference is small."""
    assert difference <= tolerance, (kind, *where)


@cache
def lm_of(family):
    return tiny(family)


@cache
def moments_of(family):
    return moments(lm_of(family))


def prompts_of(request):
    """The edit's own prompt and two others about the subject, of different lengths."""
    return [request.text, f"As for {request.subject}, home is", f"{request.subject} was"]


def plain_for(family, method, stop):
    name, changes = METHODS[method]
    plain = Plain(lm_of(family), moments_of(family), CONTEXTS, stop_value=stop, stop_ft=stop)
    return plain, name, settings_of(name, changes)


def trained(lm, settings):
    """Copies of the edited parameters, (d_out, d_in) and (d_out,), by module."""
    names = [lm.projection(layer) for layer in settings.layers]
    return {
        n: (lm.weight(n).detach().clone(), None if lm.bias(n) is None else lm.bias(n).detach().clone())
        for n in names
    }


def edit_plainly(plain, name, settings, chain):
    """Edits one after the other: changes by module, losses of the last edit, log-probabilities after it."""
    lm = plain.lm
    before = trained(lm, settings)
    with plain.edit(name, [chain[0]], settings) as edit:
        if chain[1:]:
            return edit_plainly(plain, name, settings, chain[1:])
        after = trained(lm, settings)
        changes = {
            module: (after[module][0] - old, None if bias is None else after[module][1] - bias)
            for module, (old, bias) in before.items()
        }
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


@cache
def plain_edits(family, method, chained=False):
    """Return the plain path's result for every case."""
    firsts, seconds, level = chosen(family, method)
    plain, name, settings = plain_for(family, method, level)
    chains = zip(firsts, seconds, strict=True)
    return [edit_plainly(plain, name, settings, chain if chained else chain[:1]) for chain in chains]


def engine(monkeypatch, family, method):
    """An editor that stops as the plain path does."""
    name, changes = METHODS[method]
    monkeypatch.setattr(values, "ENOUGH", chosen(family, method)[2])
    monkeypatch.setattr(fine_tuning, "ENOUGH", chosen(family, method)[2])
    kind = method_of(name).load()
    artifacts = {"moments": moments_of(family)}
    return kind(lm_of(family), settings_of(name, changes), artifacts, contexts=CONTEXTS)


def same_weights(delta, case, changes, where):
    """One case's deltas are the changes of the plain path."""
    assert [d.module for d in delta] == list(changes)
    for mine in delta:
        weight, bias = changes[mine.module]
        difference = float((mine.dense()[case] - weight).norm() / weight.norm().clamp(min=FLOOR))
        within("change of a matrix", difference, WEIGHTS, where)
        if isinstance(mine, Dense) and mine.bias is not None:
            difference = float((mine.bias[case] - bias).norm() / bias.norm().clamp(min=FLOOR))
            within("change of a bias", difference, WEIGHTS, where)


def same_scores(mine, theirs, where):
    """All token log-probabilities of one target after one prompt."""
    assert len(mine.token_logprobs) == len(theirs)
    difference = max(abs(a - b) for a, b in zip(mine.token_logprobs, theirs, strict=True))
    within("end to end", difference, END_TO_END, where)


def queries(asked):
    """Per case, three prompts with the case's own target."""
    return [Query(p, request.target_new, i) for i, request in enumerate(asked) for p in prompts_of(request)]


def compare_edits(lm, found, state, asked, wanted, where):
    """Changes of weights, numbers of updates, and what the edited model says."""
    scores = iter(score(lm, queries(asked), state))
    for case, (changes, losses, said) in enumerate(wanted):
        same_weights(found.delta, case, changes, (*where, case))
        assert found.reasons[case] is None
        updates = len(losses) - 1 if where[1] in ("rome", "memit") else trained_by(losses, where)
        assert found.steps[case] == updates
        difference = abs(found.losses[case] / losses[-1] - 1.0)
        within("last loss, after as many updates", difference, END_TO_END, (*where, case))
        for row in said:
            same_scores(next(scores), row[0], (*where, case))


def trained_by(losses, where):
    """Updates of fine-tuning: one for every loss that is not yet low enough."""
    return sum(loss >= chosen(*where[:2])[2] for loss in losses)


# --- edits -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("method", "family"), once_each(in_turn(METHODS)))
def test_batches_of_cases_equal_cases_alone(method, family, monkeypatch):
    lm, wanted = lm_of(family), plain_edits(family, method)
    editor, (asked, _, _) = engine(monkeypatch, family, method), chosen(family, method)
    assert len({len(losses) for _, losses, _ in wanted}) >= 3  # they stop at different steps
    assert len({len(lm.encode([r.text])[0]) for r in asked}) >= 3
    assert len({len(lm.encode_targets([r.target_new])[0]) for r in asked}) >= 3
    for order in ([3], [4, 1], [0, 1, 2, 3, 4, 5, 6], [6, 2, 5, 0, 3, 1, 4]):
        found = editor.edit([[asked[i]] for i in order])
        mine = [asked[i] for i in order]
        compare_edits(lm, found, found.delta, mine, [wanted[i] for i in order], (family, method, order))


@pytest.mark.parametrize(("method", "family"), once_each(in_turn(METHODS)))
def test_second_edits_equal_edits_of_edited_weights(method, family, monkeypatch):
    lm, wanted = lm_of(family), plain_edits(family, method, chained=True)
    editor = engine(monkeypatch, family, method)
    firsts, seconds, _ = chosen(family, method)
    first = editor.edit([[request] for request in firsts]).delta
    for order in ([2], [5, 0], [0, 1, 2, 3, 4, 5, 6]):
        start = select(first, order)
        found = editor.edit([[seconds[i]] for i in order], start)
        where = (family, method, "chained", order)
        mine = [seconds[i] for i in order]
        compare_edits(lm, found, start + found.delta, mine, [wanted[i] for i in order], where)


# --- scores ------------------------------------------------------------------------------------------------
# --- several requests --------------------------------------------------------------------------------------
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
    lm, asked = lm_of("gpt2"), requests(3)
    settings = settings_of(method, changes)
    artifacts = {"moments": moments_of("gpt2")}
    found = method_of(method).load()(lm, settings, artifacts, contexts=CONTEXTS).edit([asked])
    before = trained(lm, settings)
    with Plain(lm, moments_of("gpt2"), CONTEXTS).edit(method, asked, settings) as edit:
        after = trained(lm, settings)
    changed = {m: tuple(a - b for a, b in zip(after[m], before[m], strict=True)) for m in before}
    same_weights(join(found.delta), 0, changed, (method, changes))
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
