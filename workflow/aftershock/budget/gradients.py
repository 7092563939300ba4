"""Work of methods that follow gradients of weights, or that keep facts beside the model."""

import math
from typing import Any

from aftershock.budget.editing import (
    DENSE_TOKENS,
    GRADIENT_TOKENS,
    TOUCHED_BY_ADAM,
    VALUE_TOKENS,
    Editing,
    context_tokens,
    trained_weights,
)
from aftershock.budget.work import FLOAT, Sizes, Work, run
from aftershock.editors.contract import is_in_order
from aftershock.editors.serac import SeracTraining

STEPS = 25  # steps of a method whose settings have none


def stepwise(e: Editing) -> Work:
    """Forward and backward passes over the requests of a case, one per step."""
    width = e.width * e.padding
    batches = e.room.batches(e.rows * width, 1.0, 1.0, GRADIENT_TOKENS)
    return e.trained(batches, width, e.sizes.layers, getattr(e.settings, "steps", STEPS))


def dense(e: Editing) -> Work:
    """Whole matrices or layers trained for each case by itself, under Adam."""
    s, texts = e.settings, e.texts
    each, end = getattr(s, "objective", "target_new") == "target_new", getattr(s, "append_eos", False)
    width = (texts.prompt + (texts.target + end - 1 if each else 0)) * e.padding
    weights = trained_weights(s, e.sizes)
    whole = weights > len(s.layers) * e.sizes.matrix
    case = dense_bytes(e)
    batches = e.room.batches(e.cases * case, case, case / (e.requests * width), DENSE_TOKENS)
    # a product with each trained matrix, the gradient of it, and one of the input where it is not the first
    products = 3 * weights - (0 if whole else e.sizes.matrix)
    own = Work(2 * e.rows * width * products, bytes=e.cases * weights * TOUCHED_BY_ADAM)
    read = texts.target + end if each else 1.0
    return e.trained(batches, width, e.above - 1 + whole, s.steps * e.steps_made, own, read=read)


def dense_bytes(e: Editing) -> float:
    """Weights of one case with gradients and moments, and what a backward pass keeps."""
    return 4 * trained_weights(e.settings, e.sizes) * FLOAT + e.requests * e.kept(e.above)


def projected(e: Editing) -> Work:
    """Fine-tuning as `dense`, with gradients projected, and what targets are sensitive to read at the end."""
    s, sizes, layers = e.settings, e.sizes, len(e.settings.layers)
    products = 4 * sizes.matrix * (sizes.width + sizes.inner) * (2 if s.project == "step" else 1)
    updates = math.ceil(e.requests / s.batch_size) * s.steps * e.steps_made
    read = e.trained(1, e.width * e.padding, sizes.layers)
    decomposed = 10 * (sizes.inner**3 + sizes.width**3) * layers * e.cases
    return dense(e) + Work(e.cases * layers * products * updates, exact=decomposed) + read * s.remember_edits


def adapter(e: Editing) -> Work:
    """An adapter of low rank trained for each case, one case after the other."""
    s, batches = e.settings, e.cases * math.ceil(e.requests / e.settings.batch_size)
    ranks = s.rank * sum(map(sum, matrices(s, e.sizes)))
    own = Work(6 * e.rows * e.width * ranks, bytes=e.cases * ranks * TOUCHED_BY_ADAM)
    return e.trained(batches, e.width, e.above, s.steps * e.steps_made, own)


def memory(e: Editing) -> Work:
    """A matrix trained on each request in all its contexts, from its layer on."""
    contexts, matrix = context_tokens(e.settings), e.sizes.matrix
    width = max(contexts) + e.width + 1
    # a product with the memory and one for its gradient
    own = Work(4 * e.rows * len(contexts) * width * matrix, bytes=e.rows * matrix * TOUCHED_BY_ADAM)
    steps = e.settings.steps * e.steps_made
    return e.trained(e.rows, width, e.above - 1, steps, own, texts=len(contexts))


def codebook(e: Editing) -> Work:
    """A value trained for each request from one layer on, whole texts in every step."""
    width = e.width * e.padding
    batches = e.room.batches(e.rows * width, 1.0, 1.0, VALUE_TOKENS)
    own = Work(bytes=e.rows * e.sizes.inner * TOUCHED_BY_ADAM)
    return e.trained(batches, width, e.above, e.settings.steps, own)


def gradient_step(e: Editing) -> Work:
    """One gradient per request, with the update solved for in closed form."""
    s, sizes, width = e.settings, e.sizes, e.width * e.padding
    kept = sizes.token_bytes(e.above, width)
    batches = e.room.batches(e.rows * width * kept, kept * width, kept, DENSE_TOKENS)
    unknowns = e.requests * e.texts.target
    solved = sum(2 * unknowns**2 * (d_in + d_out) + unknowns**3 for d_in, d_out in matrices(s, sizes))
    own = Work(2 * e.rows * width * sizes.matrix * (set(s.modules) != {"out"}), exact=e.cases * solved)
    return e.trained(batches, width, e.above - 1, own=own)  # no gradient passes through the lowest layer


def gradient(e: Editing) -> Work:
    """One gradient per case, transformed by MEND's hypernetwork."""
    layers, kept = e.settings.layers, e.sizes.token_bytes(e.above, e.width)
    batches = e.room.batches(e.rows * e.width * kept, kept, kept, GRADIENT_TOKENS)
    tokens = e.rows * e.width * len(layers)
    if e.sizes.layers - 1 in layers:
        tokens -= e.rows * (e.width - e.texts.target)  # there, gradients are where something is read
    batches = e.cases if is_in_order(e.settings) else batches
    return e.trained(batches, e.width, e.above) + hypernetwork(
        e.sizes, e.training, len(layers), tokens, batches
    )


def matrices(settings: Any, sizes: Sizes) -> list[tuple[int, int]]:
    """(d_in, d_out) of all matrices at the sites of `settings`."""
    d, inner = sizes.width, sizes.inner
    first, attention = [(d, inner)], [(d, d), (d, d), (d, sizes.key_value), (d, sizes.key_value)]
    sites = {"attention": attention, "in": first * (1 + sizes.gated), "out": [(inner, d)]}
    found = []
    for site, named in settings.modules.items():
        layers = [layer for layer in settings.layers if named is None or layer in named]
        found += sites.get(site, first) * len(layers)
    return found


def hypernetwork(sizes: Sizes, training: Any, layers: int, tokens: float, batches: float) -> Work:
    """One pass through MEND's networks for `layers` layers, with `tokens` tokens in all."""
    passed, weights = batches * layers * (2 + sizes.gated), network_weights(sizes, training)
    return Work(2 * tokens * (2 + sizes.gated) * weights, bytes=passed * weights * FLOAT, passes=passed)


def network_weights(sizes: Sizes, training: Any) -> int:
    """Number of weights of one of MEND's networks; matrices of one shape share it."""
    wide = sizes.width + sizes.inner
    return (training.n_hidden + 1) * 2 * wide * min(training.rank, wide)


# --- facts beside the model -------------------------------------------------------------------------------


def text(e: Editing) -> Work:
    """Facts that are read before prompts: one pass over the requests of a case, for its loss."""
    width = more_tokens(e) + e.width
    batches = e.room.batches(e.rows * width, 1.0, 1.0, GRADIENT_TOKENS)
    read = e.rows * e.texts.target
    return run(e.sizes, batches, e.rows * width, e.sizes.layers, width, read, narrow=True)


def more_tokens(e: Editing) -> float:
    """Tokens of the statements and examples before a prompt."""
    facts = min(e.requests, getattr(e.settings, "nearest", e.requests)) + 2 * e.settings.examples
    return facts * (e.texts.prompt + e.texts.target + 1)


def cache(e: Editing) -> Work:
    """The requests of a case, run once and read before and after its edit, and SERAC's second model.

    It is taken for as deep as by default. What it takes in later states, and the classifier in all, is within
    the passes through all layers that are counted for these, which SERAC makes but once.
    """
    sizes, read, width = e.sizes, e.rows * e.texts.target, e.width * e.padding
    longer = 2 * (e.width + 1) * e.padding
    batches = e.room.batches(e.rows * width, 1.0, 1.0, GRADIENT_TOKENS)
    asked = run(sizes, batches, e.rows * width, sizes.layers, width, read, narrow=True)
    again = run(sizes, batches, 0, 0, width, read)
    answering = min(SeracTraining().counterfactual_layers, sizes.layers)
    return asked + again + run(sizes, batches, e.rows * longer, answering, longer, read)
