"""The plain path does the work of the released algorithm: as many passes and tokens."""

import pytest

from aftershock.editors.methods import settings_of
from aftershock.prompts import fill
from benchmarks.plain import Plain
from editing import CONTEXTS, SETTINGS
from tiny import moments, requests, tiny


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
