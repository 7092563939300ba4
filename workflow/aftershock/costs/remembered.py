"""What methods take that keep facts beside the model: as text before prompts, or for a second model."""

from aftershock.costs.editing import GRADIENT_TOKENS, Editing, padding
from aftershock.costs.work import FLOAT, Work, run


def text(e: Editing) -> Work:
    """Facts that are read before prompts: one pass over the requests of a case, for its loss."""
    sizes, width = e.sizes, more_tokens(e) + e.texts.prompt + e.texts.target - 1
    rows = e.cases * e.requests
    batches = e.room.batches(rows * width, 1.0, 1.0, GRADIENT_TOKENS)
    return run(sizes, batches, rows * width, sizes.layers, width, rows * e.texts.target, narrow=True)


def text_bytes(e: Editing) -> float:
    """What a layer makes of one case's texts, and the scores of their targets."""
    width = e.texts.prompt + e.texts.target + more_tokens(e)
    return e.requests * (
        width * e.sizes.token_bytes(1, width) + 4 * e.texts.target * e.sizes.vocabulary * FLOAT
    )


def more_tokens(e: Editing) -> float:
    """Tokens of the statements and examples before a prompt."""
    facts = min(e.requests, getattr(e.settings, "nearest", e.requests)) + 2 * e.settings.examples
    return facts * (e.texts.prompt + e.texts.target + 1)


def cache(e: Editing) -> Work:
    """The requests of a case scored before and after its edit.

    What the classifier and the counterfactual model take in later states is within the passes through all
    layers that are counted for these, which SERAC makes but once.
    """
    sizes, width = e.sizes, (e.texts.prompt + e.texts.target - 1) * padding(e)
    rows = e.cases * e.requests
    batches = e.room.batches(rows * width, 1.0, 1.0, GRADIENT_TOKENS)
    return run(sizes, batches, rows * width, sizes.layers, width, rows * e.texts.target, narrow=True) * 2


def cache_bytes(e: Editing) -> float:
    """What scoring the requests of one case keeps."""
    width = e.texts.prompt + e.texts.target - 1
    read = 3 * e.texts.target * e.sizes.vocabulary * FLOAT
    return e.requests * (width * e.sizes.token_bytes(1, width) + read)
