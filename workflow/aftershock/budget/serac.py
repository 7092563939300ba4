"""The costs of training SERAC's scope classifier and counterfactual model."""

from dataclasses import replace
from typing import Any

from aftershock.budget.editing import TOUCHED_BY_ADAM
from aftershock.budget.work import FLOAT, Sizes, Texts, Work, run


def parts(sizes: Sizes, settings: Any) -> tuple[Sizes, Sizes]:
    """The sizes of the classifier and of the counterfactual model, the lowest layers of a model."""
    return (
        replace(sizes, layers=min(settings.scope_layers, sizes.layers)),
        replace(sizes, layers=min(settings.counterfactual_layers, sizes.layers)),
    )


def trained_weights(sizes: Sizes, settings: Any) -> int:
    """Number of weights of both."""
    return sum(part.parameters for part in parts(sizes, settings)) + settings.dimension * sizes.width


def training(sizes: Sizes, settings: Any, texts: Texts) -> tuple[Work, float]:
    """All batches and evaluations on the dev split, and the bytes that a batch keeps."""
    classifier, answering = parts(sizes, settings)
    looks = settings.val_edits / settings.batch_edits / settings.val_interval  # batches for each batch
    asked = settings.batch_edits * (2 + settings.other_texts)
    read, answered = asked * texts.prompt, settings.batch_edits * (3 * texts.prompt + 2 * texts.target)
    found, kept = Work(), 4.0 * trained_weights(sizes, settings) * FLOAT
    for part, tokens, scored in ((classifier, read, 0.0), (answering, answered, answered)):
        width = tokens / (asked if part is classifier else settings.batch_edits)
        own = Work(flops=2 * tokens * part.layers * part.layer + 2 * scored * part.width * part.vocabulary)
        both = run(part, 1, tokens, part.layers, width, read=scored, backward=True)
        forth = run(part, 1, tokens, part.layers, width, read=scored)
        found += both + own + forth * looks
        kept += tokens * part.token_bytes(part.layers, width) + 4 * scored * part.vocabulary * FLOAT
    step = Work(bytes=TOUCHED_BY_ADAM * trained_weights(sizes, settings))
    return (found + step) * settings.steps, kept
