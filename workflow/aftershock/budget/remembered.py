"""Costs of methods that keep facts beside the model: as text in prompts, or in a second model."""

from aftershock.budget.editing import GRADIENT_TOKENS, Editing, padding
from aftershock.budget.work import FLOAT, Work, run
from aftershock.editors.serac import SeracTraining


def text(e: Editing) -> Work:
    """Facts that are read before prompts: one pass over the requests of a case, for its loss."""
    sizes, width = e.sizes, more_tokens(e) + e.texts.prompt + e.texts.target - 1
    rows = e.cases * e.requests
    batches = e.room.batches(rows * width, 1.0, 1.0, GRADIENT_TOKENS)
    return run(sizes, batches, rows * width, sizes.layers, width, rows * e.texts.target, narrow=True)


def text_bytes(e: Editing) -> float:
    """Bytes of a layer's activations for one case's texts, and of the scores of their targets."""
    width = e.texts.prompt + e.texts.target + more_tokens(e)
    return e.requests * (
        width * e.sizes.token_bytes(1, width) + 4 * e.texts.target * e.sizes.vocabulary * FLOAT
    )


def more_tokens(e: Editing) -> float:
    """Tokens of the statements and examples before a prompt."""
    facts = min(e.requests, getattr(e.settings, "nearest", e.requests)) + 2 * e.settings.examples
    return facts * (e.texts.prompt + e.texts.target + 1)


def cache(e: Editing) -> Work:
    """The requests of a case, run once and read before and after its edit, and SERAC's second model.

    It is taken for as deep as by default. What it takes in later states, and the classifier in all, is within
    the passes through all layers that are counted for these, which SERAC makes but once.
    """
    sizes, texts, depth = e.sizes, e.texts, SeracTraining()
    rows, read = e.cases * e.requests, e.cases * e.requests * texts.target
    width = (texts.prompt + texts.target - 1) * padding(e)
    longer = 2 * (texts.prompt + texts.target) * padding(e)
    batches = e.room.batches(rows * width, 1.0, 1.0, GRADIENT_TOKENS)
    asked = run(sizes, batches, rows * width, sizes.layers, width, read, narrow=True)
    again = run(sizes, batches, 0, 0, width, read)
    answering = min(depth.counterfactual_layers, sizes.layers)
    return asked + again + run(sizes, batches, rows * longer, answering, longer, read)


def cache_bytes(e: Editing) -> float:
    """Bytes that scoring the requests of one case keeps."""
    width = e.texts.prompt + e.texts.target - 1
    read = 3 * e.texts.target * e.sizes.vocabulary * FLOAT
    return e.requests * (width * e.sizes.token_bytes(1, width) + read)
