"""Efficacy, generalisation and locality of an edit, by case.

Each question has several answers in use, which differ by name: an object is likelier than the one it replaces
(`efficacy`, Meng et al., 2022), it is what greedy decoding gives token by token (`exact`), the share of its
tokens for which that holds (`token_accuracy`), or it is the model's greedy continuation (`generated`).
"""

from functools import reduce

import pandas as pd

from aftershock.metrics import formulas
from aftershock.metrics.observed import ALONE, UNEDITED, Readings, case_mean

NEAR = {"neighbours": "neighbour", "same_subject": "same_subject", "texts": "locality_text"}
"""Roles of facts that an edit should leave alone, by how metrics call them."""
GIVEN = {"locality_text"}
"""Roles that only a run with a file of texts has."""


def written(edit: str, read: Readings, new: str, replaced: list[str], state: str) -> dict[str, pd.Series]:
    """Efficacy in `state` of the object of role `new`, each measure also in the unedited model.

    The object is compared with that of the first role of `replaced` that a case has.
    """
    columns: dict[str, pd.Series] = {}
    for ending, when in (("", state), ("_before", UNEDITED)):
        found = _written(read, new, replaced, when)
        columns |= {f"{edit}_{name}{ending}": values for name, values in found.items()}
    return columns


def _written(read: Readings, new: str, replaced: list[str], state: str) -> dict[str, pd.Series]:
    mine, other = (
        read.by_prompt(new, state),
        reduce(pd.DataFrame.combine_first, (read.by_prompt(role, state) for role in replaced)),
    )
    wins = formulas.exceeds(mine, other)
    return {
        "efficacy": wins[0],
        "efficacy_magnitude": mine[0] - other[0],
        "paraphrase_efficacy": wins.iloc[:, 1:].mean(axis=1),
        "exact": read.one(new, "exact")[state],
        "paraphrase": read.one(new, "paraphrase")[state],
        "held_out": read.one(new, "held_out")[state],
        "token_accuracy": read.one(new, "token_accuracy")[state],
        "paraphrase_token_accuracy": read.one(new, "paraphrase_token_accuracy")[state],
        "generated": read.one(new, "generated")[state],
    }


def carried_over(read: Readings, new: str, replaced: str, state: str) -> dict[str, pd.Series]:
    """Success on paraphrases that the unedited model answers, and the share of these.

    A wording that it does not answer with the true object says little about an edit that is not answered
    there either; the embedded model was trained on every wording, a real one was not.
    """
    before = read.by_prompt(replaced, UNEDITED, exact=True).iloc[:, 1:]
    after = read.by_prompt(new, state, exact=True).iloc[:, 1:]
    return {
        "single_paraphrase_answered": after.where(before == 1).mean(axis=1),
        "single_paraphrases_known": before.mean(axis=1),
    }


def kept(read: Readings) -> dict[str, pd.Series]:
    """Locality of the single edit: how much of the unedited model's nearby facts is preserved.

    Of the facts that it gives exactly, the share still given; the share of their tokens and how their
    probability changes, over all; and, for neighbours, how often their own object is likelier than the one
    that the edit wrote for its subject, those aside whose own object that is.
    """
    columns: dict[str, pd.Series] = {}
    for name, role in NEAR.items():
        if role in GIVEN - read.roles:
            continue
        exact, tokens = read.many(role, "exact"), read.many(role, "token_accuracy")
        change = read.many(role, "log_probability")
        columns |= {
            f"single_{name}_kept": case_mean(exact[ALONE].where(exact[UNEDITED] == 1), read.cases),
            f"single_{name}_token_accuracy": case_mean(tokens[ALONE], read.cases),
            f"single_{name}_token_accuracy_before": case_mean(tokens[UNEDITED], read.cases),
            f"single_{name}_log_ratio": case_mean(change[ALONE] - change[UNEDITED], read.cases),
        }
    own, other = (read.many(role, "edit_probability") for role in ("neighbour", "neighbour_new"))
    other = other.reindex(own.index)
    for ending, state in (("", ALONE), ("_before", UNEDITED)):
        holds = formulas.exceeds(own[state], other[state]).where(own[UNEDITED] != other[UNEDITED])
        columns[f"single_neighbours_efficacy{ending}"] = case_mean(holds, read.cases)
    return columns
