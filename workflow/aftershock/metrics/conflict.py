"""Metrics of ConflictEdit: does the second edit win over the first, and what does it cost?"""

import pandas as pd

from aftershock.metrics import formulas
from aftershock.metrics.observed import ALONE, CONTROL, FIRST, SECOND, UNEDITED, Readings, case_mean, scores

LOWEST_MAGNITUDE = -1.0
"""The released code lets no case's conflict magnitude fall below this; the paper's Eq. 8 has no such limit.
"""


def score_conflict(cases: pd.DataFrame, probabilities: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """SCORES of coverage, reverse or composite cases from PROBABILITIES.

    k_o (`old`) is what the first edit wrote, k_n what the second one wrote (`new_exp`, its own fact) or what
    follows from it for the first edit's relation (`new_imp`), k_f (`tied`) the fact that joins both.
    """
    read = Readings(cases, probabilities)
    old, new, implied = read.one("old"), read.one("new_exp"), read.one("new_imp")
    # Where the second edit replaces what the first one wrote, as in coverage, that fact has no probe of its
    # own.
    replaced = read.one("e2_true").combine_first(old)
    single = dataset == "coverage"
    model = ALONE if single else SECOND
    columns = {
        "success": formulas.exceeds(new[SECOND], new[UNEDITED]),
        "success_released": formulas.exceeds(new[model], replaced[model]),
        "success_released_tie": formulas.ties(new[model], replaced[model]),
        **_conflict_score("exp", new, old),
        **_conflict_score("imp", implied, old),
        **_magnitude(old),
        **_written("e1", read, "old", FIRST),
        **_written("e2", read, "new_exp", SECOND),
        "e1_failed": 1 - formulas.exceeds(old[FIRST], old[UNEDITED]),
        "known": read.one("e1_true", "exact")[UNEDITED],
    }
    if "tied" in read.roles:
        known = cases.set_index("case_id")["tied_known"].eq(True)
        columns |= _tied_fact(read, known) | {"known": known.astype(float)}
    if single:
        columns |= _single(read)
    for name, role in (("old", old), ("new_exp", new), ("new_imp", implied)):
        columns |= before_and_after(name, role)
    return scores(columns)


def before_and_after(name: str, fact: pd.DataFrame) -> dict[str, pd.Series]:
    """p(k) itself in the three states of an edit sequence."""
    return {
        f"probability_{name}_before": fact[UNEDITED],
        f"probability_{name}_after_first": fact[FIRST],
        f"probability_{name}": fact[SECOND],
    }


def _written(edit: str, read: Readings, role: str, state: str) -> dict[str, pd.Series]:
    """Does greedy decoding give what the edit wrote: after its prompt, and for which share of paraphrases?"""
    return {
        f"{edit}_exact": read.one(role, "exact")[state],
        f"{edit}_paraphrase": read.one(role, "paraphrase")[state],
        f"{edit}_held_out": read.one(role, "held_out")[state],
    }


def _conflict_score(kind: str, new: pd.DataFrame, old: pd.DataFrame) -> dict[str, pd.Series]:
    """Li et al. (2024), Eq. 6 and 7, with the same comparison before the second and before both edits."""
    name = f"conflict_score_{kind}"
    after = formulas.exceeds(new[SECOND], old[SECOND])
    before = formulas.exceeds(new[UNEDITED], old[UNEDITED])
    return {
        name: after,
        f"{name}_before": before,
        f"{name}_after_first": formulas.exceeds(new[FIRST], old[FIRST]),
        f"{name}_change": after - before,
        f"{name}_tie": formulas.ties(new[SECOND], old[SECOND]),
    }


def _magnitude(old: pd.DataFrame) -> dict[str, pd.Series]:
    """Li et al. (2024), Eq. 8: how much of the old fact the second edit removes; beside it what a control
    does.
    """
    columns = {}
    for name, drop in (
        ("conflict_magnitude", formulas.relative_drop),
        ("conflict_magnitude_log_ratio", formulas.log_ratio),
    ):
        raw, control = drop(old[FIRST], old[SECOND]), drop(old[FIRST], old[CONTROL])
        columns |= {name: raw, f"{name}_control": control, f"{name}_control_difference": raw - control}
    columns["conflict_magnitude_released"] = columns["conflict_magnitude"].clip(lower=LOWEST_MAGNITUDE)
    return columns


def _tied_fact(read: Readings, known: pd.Series) -> dict[str, pd.Series]:
    """How much of the tied fact is lost, and of facts that are not tied to the conflict.

    The paper defines the loss like Eq. 8, from after the first to after the second edit; the released code
    starts from the unedited model. `known` says whose tied fact the unedited model knows: another cannot be
    lost.
    """
    tied = read.one("tied")
    damage = formulas.relative_drop(tied[FIRST], tied[SECOND])
    columns = {
        "tied_fact_damage": damage,
        "tied_fact_damage_known": damage.where(known),
        "tied_fact_damage_released": formulas.relative_drop(tied[UNEDITED], tied[SECOND]),
        "tied_fact_damage_e2_only": formulas.relative_drop(tied[UNEDITED], tied[ALONE]),
        "tied_fact_damage_log_ratio": formulas.log_ratio(tied[FIRST], tied[SECOND]),
        "tied_fact_damage_control": formulas.relative_drop(tied[FIRST], tied[CONTROL]),
        **before_and_after("tied", tied),
    }
    columns["tied_fact_damage_control_difference"] = damage - columns["tied_fact_damage_control"]
    edit_prompt = read.one("tied", "edit_probability")
    edit_damage = formulas.relative_drop(edit_prompt[FIRST], edit_prompt[SECOND])
    for kind in ("same", "unrelated"):
        role = f"control_{kind}"
        fact = read.many(role)
        control = formulas.relative_drop(fact[FIRST], fact[SECOND])
        # A control scored on the edit prompt only is compared with the tied fact on that prompt.
        by_row = fact.index.get_level_values("case_id")
        like = damage.reindex(by_row).where(
            (read.prompts(role) == "all").to_numpy(), edit_damage.reindex(by_row)
        )
        columns[f"tied_fact_damage_{kind}"] = case_mean(control, read.cases)
        columns[f"tied_fact_damage_{kind}_difference"] = case_mean(
            like.set_axis(fact.index) - control, read.cases
        )
    return columns


def _single(read: Readings) -> dict[str, pd.Series]:
    """The second edit alone on the unedited model: is it written, and what stays?"""
    new = read.one("new_exp")
    return {
        "single_success": formulas.exceeds(new[ALONE], new[UNEDITED]),
        **_written("single", read, "new_exp", ALONE),
        "single_neighbours_kept": _kept(read, "neighbour"),
        "single_same_subject_kept": _kept(read, "same_subject"),
    }


def _kept(read: Readings, role: str) -> pd.Series:
    """Of the facts that the unedited model gives exactly, the share it still gives after the single edit."""
    exact = read.many(role, "exact")
    return case_mean(exact[ALONE].where(exact[UNEDITED] == 1), read.cases)
