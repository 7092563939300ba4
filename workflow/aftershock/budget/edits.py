"""Costs of editing, by kind of method.

A method names one of KINDS in its METHOD (`cost`), and has the settings that the function here reads. One
that names none is taken for as many passes over its requests as its settings have `steps`.
"""

from dataclasses import replace

from aftershock.budget import memories, optimised, remembered, trained
from aftershock.budget.editing import Editing, Kind, padding
from aftershock.budget.work import Work, run


def wrapped(e: Editing) -> Work:
    """An edit by the method that another one wraps, and a pass over its texts and targets."""
    inner = KINDS[e.settings.method.method.cost]
    rows, width = e.cases * e.requests, (e.texts.prompt + e.texts.target) * padding(e)
    read = run(e.sizes, 1, rows * width, max(e.settings.layers) + 1, width)
    return inner.work(replace(e, settings=e.settings.edited_by)) + read


def wrapped_bytes(e: Editing) -> float:
    """Bytes of one edit by the method that another one wraps."""
    return KINDS[e.settings.method.method.cost].bytes(replace(e, settings=e.settings.edited_by))


KINDS: dict[str | None, Kind] = {
    None: Kind(trained.stepwise, trained.stepwise_bytes),
    "dense": Kind(trained.dense, trained.dense_bytes, delta=True),
    "rank one": Kind(optimised.rank_one, optimised.value_bytes),
    "multi-layer": Kind(optimised.multi_layer, optimised.value_bytes),
    "several passes": Kind(optimised.several_passes, optimised.value_bytes),
    "projected": Kind(trained.projected, trained.dense_bytes, delta=True),
    "inside layers": Kind(optimised.inside_layers, optimised.value_bytes),
    "hypernetwork": Kind(trained.gradient, trained.gradient_bytes),
    "text": Kind(remembered.text, remembered.text_bytes, before=remembered.more_tokens),
    "neurons": Kind(optimised.neurons, optimised.neurons_bytes),
    "codebook": Kind(optimised.codebook, optimised.codebook_bytes),
    "memory": Kind(memories.memory, memories.memory_bytes, delta=True),
    "cache": Kind(remembered.cache, remembered.cache_bytes),
    "gradient step": Kind(trained.gradient_step, trained.gradient_step_bytes),
    "wrapper": Kind(wrapped, wrapped_bytes),
    "adapter": Kind(trained.adapter, trained.adapter_bytes),
}
