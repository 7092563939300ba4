"""The plain path is the released algorithm: it reproduces recorded runs, with as many passes and tokens."""

import copy
from pathlib import Path

import pytest
import torch

from aftershock.editors.methods import settings_of
from aftershock.prompts import fill
from benchmarks.plain import Plain
from editing import CONTEXTS, SETTINGS
from recorded import DELTA, LOSS, PROBABILITY, Recorded, absolute, relative
from recorded_edits import flat
from recorded_results import recorded_probabilities, scored_targets, state_of
from recorded_settings import settings_from
from tiny import moments, requests, tiny, written

GOLDEN = Path(__file__).parents[1].parent / "shared" / "golden"
needs_records = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason="no recorded cases beside this checkout (shared/golden)"
)


def cases(group):
    return [path.parent for path in sorted(GOLDEN.glob(f"cases/{group}/*/inputs.json"))]


def names(path):
    return f"{path.parent.name}/{path.name}"


@needs_records
@pytest.mark.parametrize(
    "path", [p for m in ("ft", "rome", "memit", "mle-memit") for p in cases(f"{m}-gpt2")], ids=names
)
def test_recorded_edits_are_reproduced(path):
    case = Recorded.read(path, GOLDEN)
    group = path.parent.name.removesuffix("-gpt2")
    method = group.removeprefix("mle-")
    settings = settings_from(method, case.inputs["hparams"], case.lm)
    templates = case.inputs.get("context_templates", [["{}"]])
    plain = Plain(case.lm, case.moments, [flat(templates)] if method == "rome" else templates)
    calls = [case.requests] if group == method else [case.requests[:1], case.requests[1:]]
    before = copy.deepcopy(case.lm.model.state_dict())
    after, losses = run(plain, method, calls, settings)
    found = {name: after[name] - old for name, old in before.items() if not torch.equal(after[name], old)}
    wanted = case.part("delta")
    shared = {name for name in found if name in wanted}  # a tied or buffer entry is no parameter
    assert shared == set(wanted)
    for name, change in wanted.items():
        assert relative(found[name], change) < DELTA, name
    recorded = case.outputs["trace"]
    for mine, theirs in zip(losses, recorded if method != "ft" else [sum(recorded, [])], strict=True):
        assert absolute(mine, [step["loss"] for step in theirs]) < LOSS
    assert all(torch.equal(before[name], value) for name, value in case.lm.model.state_dict().items())


def run(plain, method, calls, settings):
    """The weights after all calls, one inside the other, and the losses of all."""
    with plain.edit(method, calls[0], settings) as edit:
        if calls[1:]:
            after, losses = run(plain, method, calls[1:], settings)
            return after, edit.losses + losses
        return copy.deepcopy(plain.lm.model.state_dict()), edit.losses


@needs_records
@pytest.mark.parametrize("path", cases("scoring-gpt2"), ids=names)
def test_recorded_scores_are_reproduced(path):
    case = Recorded.read(path, GOLDEN)
    record, lm = case.inputs["record"], case.lm
    templates = [record["prompt"], *case.inputs["prompts"][record["relation_id"]]]
    prompts = [fill(template, record["subject"]) for template in templates]
    for name, operations in case.inputs["states"].items():
        model = written(lm, state_of(lm, operations, GOLDEN), 0)
        scores = Plain(model).score(prompts, scored_targets(case.inputs))
        found = torch.tensor(scores_by_target(scores)).double()
        wanted = torch.tensor(recorded_probabilities(case.outputs["results"][name])).double()
        assert absolute(found / wanted, torch.ones_like(wanted)) < 2 * PROBABILITY


def scores_by_target(scores):
    """Geometric means of token probabilities, by target, then prompt."""
    mean = [[torch.tensor(tokens).double().mean().exp().item() for tokens in row] for row in scores]
    return [row[t] for t in range(len(mean[0])) for row in mean]


# --- the work it does --------------------------------------------------------------------------------------
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
