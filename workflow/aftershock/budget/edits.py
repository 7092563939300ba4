"""Estimates of editing, by kind of method.

A method names one of KINDS in its METHOD (`cost`), and has the settings that the function here reads. One
that names none is taken for as many passes over its requests as its settings have `steps`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from aftershock.budget import gradients, values
from aftershock.budget.editing import Editing, context_tokens
from aftershock.budget.work import DOUBLE, FLOAT, Work, run


@dataclass(frozen=True)
class Kind:
    """A kind of method: its work for many cases, whose docstring says what an edit is, and bytes of one."""

    work: Callable[[Editing], Work]
    bytes: Callable[[Editing], float]
    delta: bool = False
    """True where a case's change is as large as the matrices that it changes."""
    before: Callable[[Editing], float] = lambda e: 0.0
    """Tokens that prompts have more after an edit."""


def wrapped(e: Editing) -> Work:
    """An edit by the method that another one wraps, and a pass over its texts and targets."""
    width = (e.width + 1) * e.padding
    read = run(e.sizes, 1, e.rows * width, max(e.settings.layers) + 1, width)
    return KINDS[e.settings.method.method.cost].work(replace(e, settings=e.settings.edited_by)) + read


def wrapped_bytes(e: Editing) -> float:
    """Bytes of one edit by the method that another one wraps."""
    return KINDS[e.settings.method.method.cost].bytes(replace(e, settings=e.settings.edited_by))


def text_bytes(e: Editing) -> float:
    """Bytes of a layer's activations for one case's texts, and of the scores of their targets."""
    return e.requests * e.kept(1, gradients.more_tokens(e))


def memory_bytes(e: Editing) -> float:
    """Weights of one case's memory, its gradient and what an update makes, and what a backward pass keeps."""
    contexts = context_tokens(e.settings)
    return 4 * e.sizes.matrix * FLOAT + len(contexts) * e.kept(e.above, max(contexts))


def networks_bytes(e: Editing) -> float:
    """Activations of one case's requests that a backward pass keeps, and the weights of MEND's networks."""
    weights = (2 + e.sizes.gated) * gradients.network_weights(e.sizes, e.training)
    return e.requests * e.kept(e.above) + weights * FLOAT


def solved_bytes(e: Editing) -> float:
    """Activations of one case's requests that a backward pass keeps, and the rows of all modules."""
    rows = e.texts.target * sum(map(sum, gradients.matrices(e.settings, e.sizes))) * (2 * DOUBLE)
    return e.requests * (e.kept(e.above) + rows)


KINDS: dict[str | None, Kind] = {
    None: Kind(gradients.stepwise, lambda e: e.requests * e.kept(e.sizes.layers)),
    "dense": Kind(gradients.dense, gradients.dense_bytes, delta=True),
    "rank one": Kind(values.rank_one, values.value_bytes),
    "multi-layer": Kind(values.multi_layer, values.value_bytes),
    "several passes": Kind(values.several_passes, values.value_bytes),
    "projected": Kind(gradients.projected, gradients.dense_bytes, delta=True),
    "inside layers": Kind(values.inside_layers, values.value_bytes),
    "hypernetwork": Kind(gradients.gradient, networks_bytes),
    "text": Kind(gradients.text, text_bytes, before=gradients.more_tokens),
    "neurons": Kind(values.neurons, values.neurons_bytes),
    "codebook": Kind(gradients.codebook, lambda e: e.kept(e.above)),
    "memory": Kind(gradients.memory, memory_bytes, delta=True),
    "cache": Kind(gradients.cache, lambda e: e.requests * e.kept(1)),
    "gradient step": Kind(gradients.gradient_step, solved_bytes),
    "wrapper": Kind(wrapped, wrapped_bytes),
    "adapter": Kind(gradients.adapter, lambda e: min(e.requests, e.settings.batch_size) * e.kept(e.above)),
}
