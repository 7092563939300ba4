"""The figures of a run: what each kind shows, and how its files are called. No drawing library is loaded."""

from dataclasses import dataclass

WHOLE = "all"
"""In place of a dataset: a figure of a model's whole run."""


@dataclass(frozen=True)
class Kind:
    """One kind of figure: its title, beside a dataset's name, and what it shows in a sentence or two."""

    title: str
    about: str


KINDS = {
    "cost": Kind(
        "cost against harm",
        "Seconds that a case takes (loading, edits and the scoring of every probe) against what an edit "
        "damages; near the lower left corner is best. Lines are intervals. The percentage beside a "
        "method says how often the model gives what was written last, or for round cases a true object.",
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
        "distortion by that number.",
    ),
    "objects": Kind(
        "object by object",
        "Probability of each true object before any edit, after the first and after both.",
    ),
}
"""Every kind, in the order in which a reader wants them."""


def figure_name(model: str, dataset: str, kind: str) -> str:
    """File name, without ending, of the figure `kind` (one of KINDS) of a dataset, or of the WHOLE run."""
    return f"{model.replace('/', '.')}.{dataset}.{kind}"
