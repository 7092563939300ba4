"""Definitions of metrics shared by all edits: efficacy, generalisation and locality."""

from collections.abc import Iterator

from aftershock.metrics.metric import Metric
from aftershock.metrics.scales import DIFFERENCE, GAP, SHARE

EDITS = {
    "e1": ("first edit", "After the first edit"),
    "e2": ("second edit", "After both edits"),
    "single": ("single edit", "After the edit alone"),
}
WRITTEN = (
    (
        "efficacy",
        "efficacy",
        "the edit's object is likelier than the one it replaces after the edit prompt (the efficacy score of "
        "Meng et al., 2022).",
        SHARE,
    ),
    (
        "efficacy_magnitude",
        "efficacy, margin",
        "how much likelier the edit's object is than the one it replaces after the edit prompt.",
        GAP,
    ),
    (
        "paraphrase_efficacy",
        "efficacy, paraphrases",
        "the share of the ten paraphrases after which the edit's object is likelier than the one it replaces "
        "(the paraphrase score of Meng et al., 2022).",
        SHARE,
    ),
    ("exact", "exact", "greedy decoding gives the edit's object after its prompt, token by token.", SHARE),
    (
        "paraphrase",
        "paraphrases",
        "the share of the ten paraphrases after which greedy decoding gives the edit's object.",
        SHARE,
    ),
    (
        "held_out",
        "held-out paraphrases",
        "the share of the last three paraphrases, which no earlier stage uses, after which greedy decoding "
        "gives the edit's object.",
        SHARE,
    ),
    (
        "token_accuracy",
        "token accuracy",
        "the share of the object's tokens that greedy decoding gives after the edit prompt and the tokens "
        "before them.",
        SHARE,
    ),
    (
        "paraphrase_token_accuracy",
        "token accuracy, paraphrases",
        "the share of the object's tokens that greedy decoding gives, mean over the ten paraphrases.",
        SHARE,
    ),
    (
        "generated",
        "free generation",
        "the model, left to itself after the edit prompt, goes on with the edit's object.",
        SHARE,
    ),
)
"""Metrics of every edit: name, title, definition, scale."""


def written() -> Iterator[Metric]:
    for edit, (title, when) in EDITS.items():
        for name, words, about, scale in WRITTEN:
            yield Metric(f"{edit}_{name}", f"{title}, {words}", f"{when}, {about}", scale=scale)


def carried_over() -> Iterator[Metric]:
    yield Metric(
        "single_paraphrase_answered",
        "single edit, paraphrases answered before",
        "After the edit alone, of the paraphrases after which the unedited model gives the true object, the "
        "share after which greedy decoding gives the edit's object.",
    )
    yield Metric(
        "single_paraphrases_known",
        "paraphrases answered before",
        "The share of the ten paraphrases after which the unedited model gives the true object.",
    )


def nearby() -> Iterator[Metric]:
    for name, title, facts in (
        ("neighbours", "neighbours", "facts of other subjects with the edited relation"),
        ("same_subject", "same subject's other facts", "facts of the edited subject with other relations"),
        ("texts", "other texts", "texts of a file that are about something else"),
    ):
        yield Metric(
            f"single_{name}_token_accuracy",
            f"{title}, token accuracy",
            f"The share of the object's tokens that greedy decoding gives, mean over {facts}.",
        )
        yield Metric(
            f"single_{name}_log_ratio",
            f"{title}, change",
            f"Mean over {facts} of ln of their probability after the edit over that before.",
            scale=DIFFERENCE,
            percent=False,
        )
