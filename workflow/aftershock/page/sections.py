"""Sections of a page below the summary, in their order, and what stands at their heads."""

from aftershock.page.listed import ABILITIES, CERTAINTY, DETAIL, HEALTH, PAPER, RANKING

VARIANTS = "variants"

NAVIGATION = {
    RANKING: "Which method for what",
    "tables": "Tables",
    "cases": "Cases",
    "figures": "Figures",
    ABILITIES: "Abilities along the sequence",
    "controls": "Controls",
    HEALTH: "Health of edits",
    CERTAINTY: "How sure",
    VARIANTS: "Published variants",
    PAPER: "Beside the paper",
    DETAIL: "In detail",
    "making": "Making of",
    "definitions": "Definitions",
    "run": "Run",
}
"""Sections below the summary; one of tables alone is left out where it has none."""

INTRODUCTIONS = {
    RANKING: "Methods are compared on what all of them have a value for, and over the same resamples of "
    "clusters of cases. A winner is better than every other method by more than chance explains; where "
    "several may be the best, there is none. Being first in one question says nothing about the next.",
    "tables": "Bold marks the best value of a column, which is no test: look at the intervals, and at the "
    "comparisons where there are any.",
    ABILITIES: "What many edits, one after another or at once, do to everything else. What is retained is "
    "the share of the score above what is reached by accident: by guessing, or by always giving one answer. "
    "Tables show means over orders; the files hold each order.",
    "controls": "What the same edits do where there is no conflict.",
    HEALTH: "How much an edit changes weights, and whether the model still speaks after it. The text whose "
    "perplexity is measured was written by the unedited model itself, and no edit is about it.",
    CERTAINTY: "Differences that chance explains are no findings. These tables say which remain.",
    VARIANTS: "Some published results are those of another method than their name says. Each such variant "
    "was run here beside the method of its name, on the same cases and with the same settings otherwise.",
    PAPER: "What Li et al. (2024) report and claim, beside this run.",
    DETAIL: "For looking things up. The files beside the page hold every digit.",
    "making": "How cases came about, what the model knew before, and how methods were set up.",
}
