"""Reasons why candidates become no cases, and the settings that would let more of them."""

NOT_STRICT = "old and new fact can both hold (relation is not functional)"
UNKNOWN_FACT = "the model does not know the fact that the first edit changes"
UNKNOWN_TIED = "the model does not know the tied fact"
FIRST_OFTEN = "the first edit's subject and relation are used often enough"
TIED_OFTEN = "the tied fact is used often enough"
OBJECT_OFTEN = "the first edit's old object is used often enough"
PAIR_USED = "both edits' subjects and relations are used already"
NO_TARGET = "no false object to draw"
UNLIKE = "no known object on this side of the similarity threshold"
NO_SIMILARITY = "no known object has a similarity"
QUOTA = "beyond the quota"
COUNT_FULL = "enough cases with this number of true objects"


def few_known(min_known: int) -> str:
    """The reason that a key has fewer than `min_known` known objects."""
    return f"fewer than {min_known} objects known to the model"


REMEDIES = {
    NOT_STRICT: "cases.strict_only: false, or a lower cases.functionality",
    UNKNOWN_FACT: "a less strict cases.verification, or a model that knows more",
    UNKNOWN_TIED: "a less strict cases.verification, or a model that knows more",
    FIRST_OFTEN: "a higher cases.max_per_first_edit",
    TIED_OFTEN: "a higher cases.max_per_tied_fact",
    OBJECT_OFTEN: "a higher cases.max_per_object",
    PAIR_USED: "more instances: mining.max_per_subject, mining.max_combinations",
    NO_TARGET: "a larger graph: the relation has too few objects",
    UNLIKE: "a larger graph, or more kept one-to-many relations",
    NO_SIMILARITY: "labels that the encoder knows",
    COUNT_FULL: "cases.object_counts: matched",
}
"""The setting to relax for each reason; few_known has cases.min_known_objects."""


def remedy(reason: str) -> str | None:
    """The setting to relax so that fewer candidates are dropped for `reason`; None if there is none."""
    if reason.startswith("fewer than "):
        return "a lower cases.min_known_objects, or a less strict cases.verification"
    return REMEDIES.get(reason)
