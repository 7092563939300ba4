"""The costs of methods that train a memory beside one matrix, one request after the other."""

from aftershock.budget.editing import TOUCHED_BY_ADAM, Editing, context_tokens
from aftershock.budget.work import FLOAT, Work, run


def memory(e: Editing) -> Work:
    """A matrix trained on each request in all its contexts, from its layer on."""
    s, sizes, texts = e.settings, e.sizes, e.texts
    contexts, first = context_tokens(s), min(s.layers)
    width = max(contexts) + texts.prompt + texts.target
    edits = e.cases * e.requests
    rows = edits * len(contexts)
    look = run(sizes, edits, rows * width, first + 1, width)
    step = run(
        sizes, edits, rows * width, sizes.layers - 1 - first, width, rows * texts.target, backward=True
    )
    # a product with the memory and one for its gradient
    own = Work(4 * rows * width * sizes.matrix, bytes=edits * sizes.matrix * TOUCHED_BY_ADAM * FLOAT)
    return look + (step + own) * (s.steps * e.steps_made)


def memory_bytes(e: Editing) -> float:
    """Weights of one case's memory, its gradient and what an update makes, and what a backward pass keeps."""
    contexts, texts = context_tokens(e.settings), e.texts
    width = max(contexts) + texts.prompt + texts.target
    kept = width * e.sizes.token_bytes(e.sizes.layers - min(e.settings.layers), width)
    scores = 4 * texts.target * e.sizes.vocabulary * FLOAT
    return 4 * e.sizes.matrix * FLOAT + len(contexts) * (kept + scores)
