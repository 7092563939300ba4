"""What editing costs, by what a method does.

A method names one of KINDS in its METHOD (`cost`), and has the settings that the function here reads. One
that names none is taken for as many passes over its requests as its settings have `steps`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from aftershock.costs.work import AVERAGE, CONTEXT, DOUBLE, FLOAT, NOTHING, Room, Sizes, Texts, Work, run
from aftershock.editors.contract import is_in_order, layers_of

STEPS_MADE = 0.55
"""Share of its steps after which fine-tuning's loss is low enough (0.46 to 0.69 in the embedded study)."""
TOUCHED_BY_ADAM = 16  # times that each trained weight, or what Adam keeps of it, is read or written in a step
PADDED = 1.2  # in batches of 6 edits of different lengths
STEPS = 25  # of a method that does not say how many
VALUE_TOKENS, DENSE_TOKENS, GRADIENT_TOKENS = 1024, 512, 4096  # that a processor computes with at a time


@dataclass(frozen=True)
class Editing:
    """Cases of so many requests each that are edited side by side."""

    sizes: Sizes
    room: Room
    settings: Any
    training: Any
    """MendTraining of the model's hypernetwork."""
    cases: float
    requests: float = 1.0
    texts: Texts = AVERAGE
    steps_made: float = STEPS_MADE


def dense(e: Editing) -> Work:
    """Whole matrices or layers trained for each case by itself, under Adam."""
    s, sizes, texts = e.settings, e.sizes, e.texts
    each, end = getattr(s, "objective", "target_new") == "target_new", getattr(s, "append_eos", False)
    width = (texts.prompt + (texts.target + end - 1 if each else 0)) * _padding(e)
    rows = e.cases * e.requests
    tokens, read = rows * width, rows * (texts.target + end if each else 1)
    first, trained = min(s.layers), trained_weights(s, sizes)
    whole = trained > len(s.layers) * sizes.matrix
    above = sizes.layers - 1 - first + whole
    case = dense_bytes(e)
    batches = e.room.batches(e.cases * case, case, case / (e.requests * width), DENSE_TOKENS)
    look = run(sizes, batches, tokens, first + 1, width)
    step = run(sizes, batches, tokens, above, width, read, narrow=True, backward=True)
    # a product with each trained matrix, the gradient of it, and one of the input where it is not the first
    products = 3 * trained - (0 if whole else sizes.matrix)
    own = Work(2 * tokens * products, bytes=e.cases * trained * TOUCHED_BY_ADAM * FLOAT)
    return look + (step + own) * (s.steps * e.steps_made)


def trained_weights(settings: Any, sizes: Sizes) -> int:
    """Weights that fine-tuning with `settings` changes: an MLP's last matrix in each layer, or all of it."""
    whole = getattr(settings, "parameters", None) == "layer"
    return len(layers_of(settings)) * (sizes.layer if whole else sizes.matrix)


def adapter(e: Editing) -> Work:
    """An adapter of low rank trained for each case, one case after the other."""
    s, sizes, texts = e.settings, e.sizes, e.texts
    rows, width = e.cases * e.requests, texts.prompt + texts.target - 1
    tokens, first = rows * width, min(s.layers)
    batches = e.cases * math.ceil(e.requests / s.batch_size)
    look = run(sizes, batches, tokens, first, width)
    above = sizes.layers - first
    step = run(sizes, batches, tokens, above, width, rows * texts.target, narrow=True, backward=True)
    ranks = s.rank * sum(map(sum, _shapes(s, sizes)))
    own = Work(6 * tokens * ranks, bytes=e.cases * ranks * TOUCHED_BY_ADAM * FLOAT)
    return look + (step + own) * (s.steps * e.steps_made)


def adapter_bytes(e: Editing) -> float:
    """Activations of one case that a backward pass keeps; the adapter itself is small."""
    s, width = e.settings, e.texts.prompt + e.texts.target - 1
    kept = e.sizes.token_bytes(e.sizes.layers - min(s.layers), width)
    return min(e.requests, s.batch_size) * (width * kept + 4 * e.texts.target * e.sizes.vocabulary * FLOAT)


def gradient_step(e: Editing) -> Work:
    """One gradient per request, solved for in closed form."""
    s, sizes, width = e.settings, e.sizes, (e.texts.prompt + e.texts.target - 1) * _padding(e)
    rows = e.cases * e.requests
    above = sizes.layers - 1 - min(s.layers)  # nothing goes back through the lowest layer
    kept, tokens, read = sizes.token_bytes(above + 1, width), rows * width, rows * e.texts.target
    batches = e.room.batches(tokens * kept, kept * width, kept, DENSE_TOKENS)
    below = run(sizes, batches, tokens, sizes.layers - above, width)
    found = below + run(sizes, batches, tokens, above, width, read, narrow=True, backward=True)
    found += Work(2 * tokens * sizes.matrix * (set(s.modules) != {"out"}))
    unknowns = e.requests * e.texts.target
    solved = sum(2 * unknowns**2 * (d_in + d_out) + unknowns**3 for d_in, d_out in _shapes(s, sizes))
    return found + Work(exact=e.cases * solved)


def gradient_step_bytes(e: Editing) -> float:
    """Activations of one case's requests that a backward pass keeps, and the rows of all modules."""
    width = e.texts.prompt + e.texts.target - 1
    kept = width * e.sizes.token_bytes(e.sizes.layers - min(e.settings.layers), width)
    rows = e.texts.target * sum(map(sum, _shapes(e.settings, e.sizes))) * (2 * DOUBLE)
    return e.requests * (kept + rows)


def _shapes(settings: Any, sizes: Sizes) -> list[tuple[int, int]]:
    """(d_in, d_out) of all matrices at the sites of `settings`."""
    d, inner = sizes.width, sizes.inner
    first, attention = [(d, inner)], [(d, d), (d, d), (d, sizes.key_value), (d, sizes.key_value)]
    sites = {"attention": attention, "in": first * (1 + sizes.gated), "out": [(inner, d)]}
    found = []
    for site, named in settings.modules.items():
        layers = [layer for layer in settings.layers if named is None or layer in named]
        found += sites.get(site, first) * len(layers)
    return found


def stepwise(e: Editing) -> Work:
    """Passes forth and back over the requests of a case, as many as the settings have steps."""
    sizes, width = e.sizes, (e.texts.prompt + e.texts.target - 1) * _padding(e)
    rows = e.cases * e.requests
    batches = e.room.batches(rows * width, 1.0, 1.0, GRADIENT_TOKENS)
    step = run(sizes, batches, rows * width, sizes.layers, width, rows * e.texts.target, backward=True)
    return step * getattr(e.settings, "steps", STEPS)


def stepwise_bytes(e: Editing) -> float:
    """Activations of one case that a backward pass keeps, and scores of its target tokens."""
    width = e.texts.prompt + e.texts.target - 1
    return e.requests * (
        width * e.sizes.token_bytes(e.sizes.layers, width) + 4 * e.texts.target * e.sizes.vocabulary * FLOAT
    )


def text(e: Editing) -> Work:
    """Facts that are read before prompts: one pass over the requests of a case, for its loss."""
    sizes, width = e.sizes, more_tokens(e) + e.texts.prompt + e.texts.target - 1
    rows = e.cases * e.requests
    batches = e.room.batches(rows * width, 1.0, 1.0, GRADIENT_TOKENS)
    return run(sizes, batches, rows * width, sizes.layers, width, rows * e.texts.target, narrow=True)


def more_tokens(e: Editing) -> float:
    """Tokens of the statements and examples before a prompt."""
    facts = min(e.requests, getattr(e.settings, "nearest", e.requests)) + 2 * e.settings.examples
    return facts * (e.texts.prompt + e.texts.target + 1)


def no_tokens(e: Editing) -> float:
    """None: for kinds that leave prompts as they are."""
    return 0.0


def text_bytes(e: Editing) -> float:
    """What a layer makes of one case's texts, and the scores of their targets."""
    width = e.texts.prompt + e.texts.target + more_tokens(e)
    return e.requests * (
        width * e.sizes.token_bytes(1, width) + 4 * e.texts.target * e.sizes.vocabulary * FLOAT
    )


def rank_one(e: Editing) -> Work:
    """A value optimised for each request and layer in turn, and a change of rank one."""
    total = NOTHING
    for layer in e.settings.layers:
        total += _values(replace(e, requests=1.0), layer) + _whitening(e, e.cases)
    return total * e.requests


def multi_layer(e: Editing) -> Work:
    """A value optimised for each request, spread over several layers that are looked at in turn."""
    s, sizes = e.settings, e.sizes
    if s.multi_label == "sequential" and e.requests > 1:
        return multi_layer(replace(e, requests=1.0)) * e.requests
    labels = e.requests if s.multi_label == "mixture" else 1.0
    together = replace(e, requests=1.0 if s.multi_label == "mixture" else e.requests)
    layers = sorted(s.layers)
    total = _values(together, layers[-1], labels) + _whitening(e, together.cases * together.requests)
    contexts = _contexts(s)
    rows = e.cases * len(contexts) * (1.0 if s.multi_label != "joint" else e.requests)
    width = max(contexts) + e.texts.prompt
    below = 0
    for layer in layers[1:]:
        total += run(sizes, 1, rows * width, layers[-1] + 1 - below, width)
        total += _whitening(e, e.cases * e.requests)
        below = layer
    return total


def gradient(e: Editing) -> Work:
    """One gradient per case, transformed by MEND's hypernetwork."""
    sizes, width = e.sizes, e.texts.prompt + e.texts.target - 1
    rows = e.cases * e.requests
    above = sizes.layers - min(e.settings.layers)
    per_token = sizes.token_bytes(above, width)
    one_by_one = is_in_order(e.settings)
    batches = (
        e.cases
        if one_by_one
        else e.room.batches(rows * width * per_token, per_token, per_token, GRADIENT_TOKENS)
    )
    tokens, read = rows * width, rows * e.texts.target
    whole = run(sizes, batches, tokens, sizes.layers - above, width)
    seen = tokens * len(e.settings.layers)
    if sizes.layers - 1 in e.settings.layers:
        seen -= tokens - read  # the last layer has gradients where something is read
    transformed = hypernetwork(sizes, e.training, len(e.settings.layers), seen, batches)
    return whole + run(sizes, batches, tokens, above, width, read, narrow=True, backward=True) + transformed


def neurons(e: Editing) -> Work:
    """Activations of every searched layer scaled step by step, for the last tokens of a case's prompts."""
    s, sizes, texts = e.settings, e.sizes, e.texts
    contexts = _contexts(s)
    rows, whole = e.cases * e.requests * len(contexts), max(contexts) + texts.prompt + texts.target - 1
    suffix, scaled = texts.target * _padding(e), rows * s.steps
    batches = e.room.batches(scaled * suffix, 1.0, 1.0, VALUE_TOKENS)
    total = run(sizes, 1, rows * whole * _padding(e), sizes.layers, whole, rows * texts.target, narrow=True)
    for layer in s.layers:
        above = sizes.layers - 1 - layer
        total += run(sizes, batches, rows * whole * _padding(e), sizes.layers, whole)
        total += run(
            sizes, batches, scaled * suffix, above, whole, scaled * texts.target, narrow=True, backward=True
        )
        total += Work(flops=2 * scaled * (3 + sizes.gated) * sizes.matrix)
    return total


def neurons_bytes(e: Editing) -> float:
    """What attributing one object's probability at once keeps."""
    sizes, texts = e.sizes, e.texts
    above, whole = sizes.layers - 1 - min(e.settings.layers), max(_contexts(e.settings)) + texts.prompt
    kept = sizes.token_bytes(above, whole) + 4 * sizes.vocabulary * FLOAT
    return e.settings.batch_size * texts.target * kept


def codebook(e: Editing) -> Work:
    """A value trained for each request from one layer on, whole texts in every step."""
    s, sizes, texts = e.settings, e.sizes, e.texts
    width, first = (texts.prompt + texts.target - 1) * _padding(e), min(s.layers)
    rows = e.cases * e.requests
    tokens, read = rows * width, rows * texts.target
    batches = e.room.batches(tokens, 1.0, 1.0, VALUE_TOKENS)
    look = run(sizes, batches, tokens, first + 1, width)
    step = run(sizes, batches, tokens, sizes.layers - first, width, read, narrow=True, backward=True)
    return look + (step + Work(bytes=rows * sizes.inner * TOUCHED_BY_ADAM * FLOAT)) * s.steps


def codebook_bytes(e: Editing) -> float:
    """What training one value keeps."""
    width, above = e.texts.prompt + e.texts.target - 1, e.sizes.layers - min(e.settings.layers)
    return width * e.sizes.token_bytes(above, width) + 4 * e.texts.target * e.sizes.vocabulary * FLOAT


def cache(e: Editing) -> Work:
    """The requests of a case scored before and after its edit.

    What the classifier and the counterfactual model take in later states is within the passes through all
    layers that are counted for these, which SERAC makes but once.
    """
    sizes, width = e.sizes, (e.texts.prompt + e.texts.target - 1) * _padding(e)
    rows = e.cases * e.requests
    batches = e.room.batches(rows * width, 1.0, 1.0, GRADIENT_TOKENS)
    return run(sizes, batches, rows * width, sizes.layers, width, rows * e.texts.target, narrow=True) * 2


def cache_bytes(e: Editing) -> float:
    """What scoring the requests of one case keeps."""
    width = e.texts.prompt + e.texts.target - 1
    read = 3 * e.texts.target * e.sizes.vocabulary * FLOAT
    return e.requests * (width * e.sizes.token_bytes(1, width) + read)


def hypernetwork(sizes: Sizes, training: Any, layers: int, tokens: float, batches: float) -> Work:
    """One pass through MEND's networks for  `layers` layers, which see `tokens` tokens in all."""
    matrices = layers * (2 + sizes.gated)
    return Work(
        flops=2 * tokens * (2 + sizes.gated) * network_weights(sizes, training),
        bytes=batches * matrices * network_weights(sizes, training) * FLOAT,
        passes=batches * matrices,
    )


def network_weights(sizes: Sizes, training: Any) -> int:
    """Weights of one of MEND's networks; matrices of one shape share it."""
    wide = sizes.width + sizes.inner
    return (training.n_hidden + 1) * 2 * wide * min(training.rank, wide)


def _padding(e: Editing) -> float:
    """Tokens that are run for each of a batch's own: its texts are as wide as the longest."""
    return PADDED if e.cases * e.requests > 1 else 1.0


def _contexts(settings: Any) -> list[float]:
    """Tokens before the prompt in each text that it is read in."""
    openings = max(1, len(settings.context_openings))
    return [
        0.0,
        *(tokens + 1.0 for tokens, count in settings.context_lengths for _ in range(count * openings)),
    ]


def _values(e: Editing, layer: int, labels: float = 1.0) -> Work:
    """Optimising what `layer` adds at the subject, for every case and request, as lm/values.py does."""
    s, sizes, texts = e.settings, e.sizes, e.texts
    contexts = _contexts(s)
    n, rows = e.cases * e.requests, len(contexts) * labels + 1
    whole = max(contexts) + texts.prompt + texts.target - 1
    suffix = max(texts.after + texts.target, texts.essence) * _padding(e)
    above = sizes.layers - 1 - layer
    read = len(contexts) * labels * texts.target + 1
    cost = _value_bytes(e, layer, labels)
    batches = e.room.batches(n * cost, cost, sizes.token_bytes(above, CONTEXT), VALUE_TOKENS)
    alone = texts.prompt + texts.target - 1  # what the unchanged model makes of contexts is kept
    before = run(sizes, batches, n * rows * alone * _padding(e), sizes.layers, whole)
    options = n * rows * suffix, above, whole, n * read
    forth, both = (run(sizes, batches, *options, narrow=True, backward=back) for back in (False, True))
    return before + both * (s.steps - 1) + forth


def _whitening(e: Editing, keys: float) -> Work:
    """Solving for `keys` keys of one layer with the factor of its second moments."""
    if not getattr(e.settings, "mom2_adjustment", True):
        return NOTHING
    return Work(exact=2 * keys * e.sizes.inner**2, bytes=2 * DOUBLE * e.sizes.inner**2)


def dense_bytes(e: Editing) -> float:
    """Weights of one case with gradients and moments, and what a backward pass keeps."""
    width = e.texts.prompt + e.texts.target - 1
    above = e.sizes.layers - min(e.settings.layers)
    kept = width * e.sizes.token_bytes(above, width) + 4 * e.texts.target * e.sizes.vocabulary * FLOAT
    return 4 * trained_weights(e.settings, e.sizes) * FLOAT + e.requests * kept


def value_bytes(e: Editing) -> float:
    """What optimising one value keeps."""
    labels = e.requests if getattr(e.settings, "multi_label", "") == "mixture" else 1.0
    return _value_bytes(e, max(e.settings.layers), labels)


def gradient_bytes(e: Editing) -> float:
    """What one case's gradient keeps, beside the hypernetwork."""
    width = e.texts.prompt + e.texts.target - 1
    kept = e.requests * width * e.sizes.token_bytes(e.sizes.layers - min(e.settings.layers), width)
    networks = (1 + e.sizes.gated + 1) * network_weights(e.sizes, e.training) * FLOAT
    return kept + networks


def _value_bytes(e: Editing, layer: int, labels: float) -> float:
    sizes, contexts = e.sizes, _contexts(e.settings)
    above, suffix = sizes.layers - 1 - layer, max(e.texts.after + e.texts.target, e.texts.essence)
    whole = max(contexts) + e.texts.prompt + e.texts.target - 1
    kept = 2 * FLOAT * sizes.width * above * (whole - suffix) + suffix * sizes.token_bytes(above, whole)
    read = len(contexts) * labels * e.texts.target + 1
    return (len(contexts) * labels + 1) * kept + 4 * read * sizes.vocabulary * FLOAT


@dataclass(frozen=True)
class Kind:
    """What edits of a kind take: work of many cases, and bytes of one."""

    work: Callable[[Editing], Work]
    bytes: Callable[[Editing], float]
    delta: bool = False
    """Whether a case's change is as large as the matrices that it changes."""
    before: Callable[[Editing], float] = no_tokens
    """Tokens that prompts have more after an edit."""


KINDS: dict[str | None, Kind] = {
    None: Kind(stepwise, stepwise_bytes),
    "dense": Kind(dense, dense_bytes, delta=True),
    "rank one": Kind(rank_one, value_bytes),
    "multi-layer": Kind(multi_layer, value_bytes),
    "hypernetwork": Kind(gradient, gradient_bytes),
    "text": Kind(text, text_bytes, before=more_tokens),
    "neurons": Kind(neurons, neurons_bytes),
    "codebook": Kind(codebook, codebook_bytes),
    "cache": Kind(cache, cache_bytes),
    "gradient step": Kind(gradient_step, gradient_step_bytes),
    "adapter": Kind(adapter, adapter_bytes),
}
