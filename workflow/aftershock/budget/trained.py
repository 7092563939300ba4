"""Costs of gradient methods: training weights or adapters, or a single gradient step."""

import math
from typing import Any

from aftershock.budget.editing import (
    DENSE_TOKENS,
    GRADIENT_TOKENS,
    STEPS,
    TOUCHED_BY_ADAM,
    Editing,
    padding,
    trained_weights,
)
from aftershock.budget.work import DOUBLE, FLOAT, Sizes, Work, run
from aftershock.editors.contract import is_in_order


def dense(e: Editing) -> Work:
    """Whole matrices or layers trained for each case by itself, under Adam."""
    s, sizes, texts = e.settings, e.sizes, e.texts
    each, end = getattr(s, "objective", "target_new") == "target_new", getattr(s, "append_eos", False)
    width = (texts.prompt + (texts.target + end - 1 if each else 0)) * padding(e)
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


def dense_bytes(e: Editing) -> float:
    """Weights of one case with gradients and moments, and what a backward pass keeps."""
    width = e.texts.prompt + e.texts.target - 1
    above = e.sizes.layers - min(e.settings.layers)
    kept = width * e.sizes.token_bytes(above, width) + 4 * e.texts.target * e.sizes.vocabulary * FLOAT
    return 4 * trained_weights(e.settings, e.sizes) * FLOAT + e.requests * kept


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


def projected(e: Editing) -> Work:
    """Fine-tuning as `dense`, with gradients projected, and what targets are sensitive to read at the end."""
    s, sizes, layers = e.settings, e.sizes, len(e.settings.layers)
    products = 4 * sizes.matrix * (sizes.width + sizes.inner) * (2 if s.project == "step" else 1)
    updates = math.ceil(e.requests / s.batch_size) * s.steps * e.steps_made
    rows, width = e.cases * e.requests, (e.texts.prompt + e.texts.target - 1) * padding(e)
    read = run(sizes, 1, rows * width, sizes.layers, width, rows * e.texts.target, backward=True)
    decomposed = 10 * (sizes.inner**3 + sizes.width**3) * layers * e.cases
    return dense(e) + Work(e.cases * layers * products * updates, exact=decomposed) + read * s.remember_edits


def gradient_step(e: Editing) -> Work:
    """One gradient per request, with the update solved for in closed form."""
    s, sizes, width = e.settings, e.sizes, (e.texts.prompt + e.texts.target - 1) * padding(e)
    rows = e.cases * e.requests
    above = sizes.layers - 1 - min(s.layers)  # no gradient passes through the lowest layer
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
    """Forward and backward passes over the requests of a case, one per step."""
    sizes, width = e.sizes, (e.texts.prompt + e.texts.target - 1) * padding(e)
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


def gradient_bytes(e: Editing) -> float:
    """Bytes that one case's gradient keeps, with the hypernetwork."""
    width = e.texts.prompt + e.texts.target - 1
    kept = e.requests * width * e.sizes.token_bytes(e.sizes.layers - min(e.settings.layers), width)
    networks = (1 + e.sizes.gated + 1) * network_weights(e.sizes, e.training) * FLOAT
    return kept + networks


def hypernetwork(sizes: Sizes, training: Any, layers: int, tokens: float, batches: float) -> Work:
    """One pass through MEND's networks for `layers` layers, with `tokens` tokens in all."""
    matrices = layers * (2 + sizes.gated)
    return Work(
        flops=2 * tokens * (2 + sizes.gated) * network_weights(sizes, training),
        bytes=batches * matrices * network_weights(sizes, training) * FLOAT,
        passes=batches * matrices,
    )


def network_weights(sizes: Sizes, training: Any) -> int:
    """Number of weights of one of MEND's networks; matrices of one shape share it."""
    wide = sizes.width + sizes.inner
    return (training.n_hidden + 1) * 2 * wide * min(training.rank, wide)
