"""The kinds of figures of a run, their content and file names. No drawing library is loaded."""

from dataclasses import dataclass

WHOLE = "all"
"""Stands for a dataset in figures of a model's whole run."""


@dataclass(frozen=True)
class Kind:
    """One kind of figure: its title, put beside a dataset's name, and a description."""

    title: str
    about: str


KINDS = {
    "cost": Kind(
        "cost against harm",
        "Seconds that a case takes (edits and the scoring of every probe) against what an edit "
        "damages; near the lower left corner is best. Lines are intervals. The percentage beside a "
        "method says how often the model gives what was written last, or for round cases a true object. More "
        "than eight methods have a row each, the least harmful first; a mark is filled where no other method "
        "is both cheaper and less harmful.",
    ),
    "health": Kind(
        "health of edits",
        "After both edits, for each dataset: perplexity of a text that no edit is about, in those of the "
        "unedited model, and the norm of the change relative to that of the weight. Filled marks are medians "
        "over cases, hollow ones the worst case; the broken line is where a model counts as collapsed.",
    ),
    "metrics": Kind(
        "metrics by method",
        "Bars are means over all cases, lines intervals, diamonds show a comparison.",
    ),
    "trajectories": Kind(
        "old and new facts from state to state",
        "Mean probability of each fact in the unedited model, after the first edit and after both, with "
        "intervals.",
    ),
    "sizes": Kind(
        "by number of true objects",
        "Means over the cases with as many true objects, with intervals. The released code divides the "
        "distortion by that number. Of more than eight methods only the means are shown, as numbers.",
    ),
    "objects": Kind(
        "object by object",
        "Probability of each true object before any edit, after the first and after both, in a few cases.",
    ),
}
"""Every kind, in the order in which a reader wants them."""

SEQUENCE_KINDS = {
    "abilities": Kind(
        "abilities along the sequence",
        "Every task over the number of edits, with intervals over items. Dotted: what is reached by "
        "accident; dashed: the unedited model. Grey panels are of tasks that it does no better than by "
        "accident. A cross is where a sequence ended early.",
    ),
    "edits": Kind(
        "what becomes of edits",
        "The latest edits (since the checkpoint before), right after they were made and at the checkpoint; "
        "edits before them; paraphrases; and neighbours that the unedited model had right.",
    ),
    "course": Kind(
        "health of the model",
        "Perplexity of a fixed text by that of the unedited model, the largest change of a weight by its "
        "norm, and the condition of the equations that were solved. Bars reach from the least to the most "
        "over orders.",
    ),
    "unrelated": Kind(
        "cases among unrelated edits",
        "Metrics of the same cases with more and more edits about other subjects before the two of a case, "
        "between them or after them; with 0 they are those of cases alone. Panels of one row have one scale.",
    ),
}
"""Every kind of figure of a model and plan, in the order of the page."""


def figure_name(model: str, dataset: str, kind: str) -> str:
    """File name, without ending, of the figure `kind` (one of KINDS) of a dataset, or of the WHOLE run."""
    return f"{model.replace('/', '.')}.{dataset}.{kind}"
