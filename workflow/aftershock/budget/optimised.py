"""Costs of methods that optimise a hidden value or search for neurons."""

from dataclasses import replace

from aftershock.budget.editing import TOUCHED_BY_ADAM, VALUE_TOKENS, Editing, context_tokens, padding
from aftershock.budget.work import CONTEXT, DOUBLE, FLOAT, NOTHING, Work, run


def rank_one(e: Editing) -> Work:
    """A value optimised for each request and layer in turn, and a change of rank one."""
    total = NOTHING
    for layer in e.settings.layers:
        total += _values(replace(e, requests=1.0), layer) + _whitening(e, e.cases)
    return total * e.requests


def multi_layer(e: Editing, inside: bool = False) -> Work:
    """A value optimised for each request, spread over several layers that are updated in turn.

    A value `inside` the last of them has all of this layer run again in every step.
    """
    s = e.settings
    if s.multi_label == "sequential" and e.requests > 1:
        return multi_layer(replace(e, requests=1.0), inside) * e.requests
    labels = e.requests if s.multi_label == "mixture" else 1.0
    together = replace(e, requests=1.0 if s.multi_label == "mixture" else e.requests)
    layers = sorted(s.layers)
    total = _values(together, layers[-1] - inside, labels) + _whitening(e, together.cases * together.requests)
    for look in _looks(e)[1:]:
        total += look + _whitening(e, e.cases * e.requests)
    return total


def several_passes(e: Editing) -> Work:
    """The same several times over, from the first layer on, and a last look at all keys."""
    made = multi_layer(e)
    looks = sum(_looks(e), NOTHING)
    passes = e.settings.max_iterations - 1
    return made + _looks(e)[0] + looks * (passes - 1 + e.settings.previous_keys)


def _looks(e: Editing) -> list[Work]:
    """A pass up to the last edited layer for each of them, which begins at the one before it."""
    layers, contexts = sorted(e.settings.layers), context_tokens(e.settings)
    rows = e.cases * len(contexts) * (1.0 if e.settings.multi_label != "joint" else e.requests)
    width = max(contexts) + e.texts.prompt
    belows = [0, 0, *layers[1:-1]][: len(layers)]
    return [run(e.sizes, 1, rows * width, layers[-1] + 1 - below, width) for below in belows]


def inside_layers(e: Editing) -> Work:
    """Work as `multi_layer`, for values added within a layer, to the attention and to the MLP."""
    return multi_layer(e, inside=True)


def value_bytes(e: Editing) -> float:
    """Bytes that optimising one value keeps."""
    labels = e.requests if getattr(e.settings, "multi_label", "") == "mixture" else 1.0
    return _value_bytes(e, max(e.settings.layers), labels)


def neurons(e: Editing) -> Work:
    """Activations of every searched layer scaled step by step, for the last tokens of a case's prompts."""
    s, sizes, texts = e.settings, e.sizes, e.texts
    contexts = context_tokens(s)
    rows, whole = e.cases * e.requests * len(contexts), max(contexts) + texts.prompt + texts.target - 1
    suffix, scaled = texts.target * padding(e), rows * s.steps
    batches = e.room.batches(scaled * suffix, 1.0, 1.0, VALUE_TOKENS)
    total = run(sizes, 1, rows * whole * padding(e), sizes.layers, whole, rows * texts.target, narrow=True)
    for layer in s.layers:
        above = sizes.layers - 1 - layer
        total += run(sizes, batches, rows * whole * padding(e), sizes.layers, whole)
        total += run(
            sizes, batches, scaled * suffix, above, whole, scaled * texts.target, narrow=True, backward=True
        )
        total += Work(flops=2 * scaled * (3 + sizes.gated) * sizes.matrix)
    return total


def neurons_bytes(e: Editing) -> float:
    """Bytes that attributing one object's probability at once keeps."""
    sizes, texts = e.sizes, e.texts
    above, whole = sizes.layers - 1 - min(e.settings.layers), max(context_tokens(e.settings)) + texts.prompt
    kept = sizes.token_bytes(above, whole) + 4 * sizes.vocabulary * FLOAT
    return e.settings.batch_size * texts.target * kept


def codebook(e: Editing) -> Work:
    """A value trained for each request from one layer on, whole texts in every step."""
    s, sizes, texts = e.settings, e.sizes, e.texts
    width, first = (texts.prompt + texts.target - 1) * padding(e), min(s.layers)
    rows = e.cases * e.requests
    tokens, read = rows * width, rows * texts.target
    batches = e.room.batches(tokens, 1.0, 1.0, VALUE_TOKENS)
    look = run(sizes, batches, tokens, first + 1, width)
    step = run(sizes, batches, tokens, sizes.layers - first, width, read, narrow=True, backward=True)
    return look + (step + Work(bytes=rows * sizes.inner * TOUCHED_BY_ADAM * FLOAT)) * s.steps


def codebook_bytes(e: Editing) -> float:
    """Bytes that training one value keeps."""
    width, above = e.texts.prompt + e.texts.target - 1, e.sizes.layers - min(e.settings.layers)
    return width * e.sizes.token_bytes(above, width) + 4 * e.texts.target * e.sizes.vocabulary * FLOAT


def _values(e: Editing, layer: int, labels: float = 1.0) -> Work:
    """Optimising what `layer` adds at the subject, for every case and request, see lm/optimisation."""
    s, sizes, texts = e.settings, e.sizes, e.texts
    contexts = context_tokens(s)
    n, rows = e.cases * e.requests, len(contexts) * labels + 1
    whole = max(contexts) + texts.prompt + texts.target - 1
    suffix = max(texts.after + texts.target, texts.essence) * padding(e)
    above = sizes.layers - 1 - layer
    read = len(contexts) * labels * texts.target + 1
    cost = _value_bytes(e, layer, labels)
    batches = e.room.batches(n * cost, cost, sizes.token_bytes(above, CONTEXT), VALUE_TOKENS)
    alone = texts.prompt + texts.target - 1  # the unchanged model's keys and values of contexts are cached
    before = run(sizes, batches, n * rows * alone * padding(e), sizes.layers, whole)
    options = n * rows * suffix, above, whole, n * read
    forth, both = (run(sizes, batches, *options, narrow=True, backward=back) for back in (False, True))
    return before + both * (s.steps - 1) + forth


def _whitening(e: Editing, keys: float) -> Work:
    """Solving for `keys` keys of one layer with the factor of its second moments."""
    if not getattr(e.settings, "mom2_adjustment", True):
        return NOTHING
    return Work(exact=2 * keys * e.sizes.inner**2, bytes=2 * DOUBLE * e.sizes.inner**2)


def _value_bytes(e: Editing, layer: int, labels: float) -> float:
    sizes, contexts = e.sizes, context_tokens(e.settings)
    above, suffix = sizes.layers - 1 - layer, max(e.texts.after + e.texts.target, e.texts.essence)
    whole = max(contexts) + e.texts.prompt + e.texts.target - 1
    kept = 2 * FLOAT * sizes.width * above * (whole - suffix) + suffix * sizes.token_bytes(above, whole)
    read = len(contexts) * labels * e.texts.target + 1
    return (len(contexts) * labels + 1) * kept + 4 * read * sizes.vocabulary * FLOAT
