"""Work of methods that optimise a hidden value or search for neurons."""

from dataclasses import replace

from aftershock.budget.editing import VALUE_TOKENS, Editing, context_tokens
from aftershock.budget.work import CONTEXT, DOUBLE, FLOAT, NOTHING, Work, run


def rank_one(e: Editing) -> Work:
    """A value optimised for each request and layer in turn, and a change of rank one."""
    alone = replace(e, requests=1.0)
    return (
        sum((_values(alone, layer) + _whitening(alone) for layer in e.settings.layers), NOTHING) * e.requests
    )


def multi_layer(e: Editing, inside: bool = False) -> Work:
    """A value optimised for each request, spread over several layers that are updated in turn.

    A value `inside` the last of them has all of this layer run again in every step.
    """
    how, layers = e.settings.multi_label, sorted(e.settings.layers)
    if how == "sequential" and e.requests > 1:
        return multi_layer(replace(e, requests=1.0), inside) * e.requests
    together = replace(e, requests=1.0) if how == "mixture" else e
    total = _values(together, layers[-1] - inside, _labels(e)) + _whitening(together)
    return sum((look + _whitening(e) for look in _looks(e)[1:]), total)


def several_passes(e: Editing) -> Work:
    """The same several times over, from the first layer on, and a last look at all keys."""
    looks, more = _looks(e), e.settings.max_iterations - 2 + e.settings.previous_keys
    return multi_layer(e) + looks[0] + sum(looks, NOTHING) * more


def inside_layers(e: Editing) -> Work:
    """Work as `multi_layer`, for values added within a layer, to the attention and to the MLP."""
    return multi_layer(e, inside=True)


def _looks(e: Editing) -> list[Work]:
    """A pass up to the last edited layer for each of them, which begins at the one before it."""
    layers, contexts = sorted(e.settings.layers), context_tokens(e.settings)
    rows = e.cases * len(contexts) * (1.0 if e.settings.multi_label != "joint" else e.requests)
    width = max(contexts) + e.texts.prompt
    belows = [0, 0, *layers[1:-1]][: len(layers)]
    return [run(e.sizes, 1, rows * width, layers[-1] + 1 - below, width) for below in belows]


def _labels(e: Editing) -> float:
    """Targets that one value is optimised for."""
    return e.requests if getattr(e.settings, "multi_label", "") == "mixture" else 1.0


def _values(e: Editing, layer: int, labels: float = 1.0) -> Work:
    """Optimising what `layer` adds at the subject, for every case and request, see lm/optimisation."""
    sizes, contexts, above = e.sizes, context_tokens(e.settings), e.sizes.layers - 1 - layer
    rows = e.rows * (len(contexts) * labels + 1)
    whole = max(contexts) + e.width
    cost = value_bytes(e, layer, labels)
    batches = e.room.batches(e.rows * cost, cost, sizes.token_bytes(above, CONTEXT), VALUE_TOKENS)
    # the unchanged model's keys and values of contexts are cached
    before = run(sizes, batches, rows * e.width * e.padding, sizes.layers, whole)
    read = e.rows * (len(contexts) * labels * e.texts.target + 1)
    options = rows * _suffix(e) * e.padding, above, whole, read
    forth, both = (run(sizes, batches, *options, narrow=True, backward=back) for back in (False, True))
    return before + both * (e.settings.steps - 1) + forth


def _suffix(e: Editing) -> float:
    """Tokens from the subject's last one on, of the longest text."""
    return max(e.texts.after + e.texts.target, e.texts.essence)


def _whitening(e: Editing) -> Work:
    """Solving for the keys of one layer with the factor of its second moments."""
    if not getattr(e.settings, "mom2_adjustment", True):
        return NOTHING
    return Work(exact=2 * e.rows * e.sizes.inner**2, bytes=2 * DOUBLE * e.sizes.inner**2)


def value_bytes(e: Editing, layer: int | None = None, labels: float | None = None) -> float:
    """Bytes that optimising one value keeps, by default of the highest layer."""
    sizes, contexts, labels = e.sizes, context_tokens(e.settings), labels or _labels(e)
    above = sizes.layers - 1 - (max(e.settings.layers) if layer is None else layer)
    whole, suffix = max(contexts) + e.width, _suffix(e)
    kept = 2 * FLOAT * sizes.width * above * (whole - suffix) + suffix * sizes.token_bytes(above, whole)
    read = len(contexts) * labels * e.texts.target + 1
    return (len(contexts) * labels + 1) * kept + 4 * read * sizes.vocabulary * FLOAT


def neurons(e: Editing) -> Work:
    """Activations of every searched layer scaled step by step, for the last tokens of a case's prompts."""
    sizes, contexts = e.sizes, context_tokens(e.settings)
    rows, whole, target = e.rows * len(contexts), max(contexts) + e.width, e.texts.target
    tokens, scaled = rows * whole * e.padding, rows * e.settings.steps
    suffix = scaled * target * e.padding
    batches = e.room.batches(suffix, 1.0, 1.0, VALUE_TOKENS)
    total = run(sizes, 1, tokens, sizes.layers, whole, rows * target, narrow=True)
    for layer in e.settings.layers:
        options = suffix, sizes.layers - 1 - layer, whole, scaled * target
        total += run(sizes, batches, tokens, sizes.layers, whole)
        total += run(sizes, batches, *options, narrow=True, backward=True)
        total += Work(2 * scaled * (3 + sizes.gated) * sizes.matrix)
    return total


def neurons_bytes(e: Editing) -> float:
    """Bytes that attributing one object's probability at once keeps."""
    whole = max(context_tokens(e.settings)) + e.texts.prompt
    kept = e.sizes.token_bytes(e.above - 1, whole) + 4 * e.sizes.vocabulary * FLOAT
    return e.settings.batch_size * e.texts.target * kept
