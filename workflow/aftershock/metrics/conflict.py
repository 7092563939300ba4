"""Metrics of ConflictEdit: success of the second edit over the first, and the knowledge that it costs."""

import pandas as pd

from aftershock.metrics import formulas
from aftershock.metrics.efficacy import carried_over, kept, written
from aftershock.metrics.observed import (
    ALONE,
    CONTROL,
    FIRST,
    SECOND,
    UNEDITED,
    Facts,
    Readings,
    case_mean,
    scores,
)

LOWEST_DROP = -1.0
"""The released code lets no case's conflict magnitude fall below this; the paper's Eq. 8 has no such limit.
"""

CONDITIONAL = (
    "success",
    "success_released",
    "conflict_score_exp",
    "conflict_score_imp",
    "conflict_magnitude",
    "conflict_magnitude_released",
    "conflict_magnitude_log_ratio",
    "tied_fact_damage",
    "tied_fact_damage_released",
    "tied_fact_damage_log_ratio",
)
"""Metrics that are also given for the cases whose first edit worked."""


def score_conflict(cases: pd.DataFrame, facts: Facts, dataset: str) -> pd.DataFrame:
    """SCORES of coverage, reverse or composite cases.

    k_o (`old`) is what the first edit wrote, k_n what the second one wrote (`new_exp`, its own fact) or what
    follows from it for the first edit's relation (`new_imp`), k_f (`tied`) the fact that joins both.
    """
    read = Readings(cases, facts)
    single = dataset == "coverage"
    old, new, implied = read.one("old"), read.one("new_exp"), read.one("new_imp")
    columns = {
        **conflict_headlines(read, single),
        **_ties(read, single),
        **_conflict_score("exp", new, old),
        **_conflict_score("imp", implied, old),
        **_magnitude(read),
        **written("e1", read, "old", ["e1_true"], FIRST),
        **written("e2", read, "new_exp", ["e2_true", "old"], SECOND),
        "e1_failed": 1 - formulas.exceeds(old[FIRST], old[UNEDITED]),
        "known": read.one("e1_true", "exact")[UNEDITED],
    }
    if "tied" in read.roles:
        known = cases.set_index("case_id")["tied_known"].eq(True)
        columns |= _tied_fact(read, known) | {"known": known.astype(float)}
    if single:
        columns |= written("single", read, "new_exp", ["e1_true"], ALONE)
        columns |= carried_over(read, "new_exp", "e1_true", ALONE) | kept(read)
    for name, role in (("old", old), ("new_exp", new), ("new_imp", implied)):
        columns |= before_and_after(name, role)
    return scores(columns | given_first(columns, CONDITIONAL))


def conflict_headlines(read: Readings, single: bool) -> dict[str, pd.Series]:
    """The metrics that the paper's Table 1 shows, as it defines them and as its code computes them."""
    old, new, implied = read.one("old"), read.one("new_exp"), read.one("new_imp")
    replaced = _replaced(read)
    model = ALONE if single else SECOND
    magnitude = formulas.relative_drop(old[FIRST], old[SECOND])
    columns = {
        "success": formulas.exceeds(new[SECOND], new[UNEDITED]),
        "success_released": formulas.exceeds(new[model], replaced[model]),
        "conflict_score_exp": formulas.exceeds(new[SECOND], old[SECOND]),
        "conflict_score_imp": formulas.exceeds(implied[SECOND], old[SECOND]),
        "conflict_magnitude": magnitude,
        "conflict_magnitude_released": magnitude.clip(lower=LOWEST_DROP),
    }
    if "tied" in read.roles:
        tied = read.one("tied")
        columns["tied_fact_damage"] = formulas.relative_drop(tied[FIRST], tied[SECOND])
        columns["tied_fact_damage_released"] = formulas.relative_drop(tied[UNEDITED], tied[SECOND])
    if single:
        columns["single_success"] = formulas.exceeds(new[ALONE], new[UNEDITED])
    return columns


def _replaced(read: Readings) -> pd.DataFrame:
    """The fact that the second edit replaces; in coverage that of the first edit, without its own probe."""
    return read.one("e2_true").combine_first(read.one("old"))


def _ties(read: Readings, single: bool) -> dict[str, pd.Series]:
    """Shares of undecided comparisons, and the released success before any edit."""
    new, replaced = read.one("new_exp"), _replaced(read)
    model = ALONE if single else SECOND
    columns = {
        "success_tie": formulas.ties(new[SECOND], new[UNEDITED]),
        "success_released_tie": formulas.ties(new[model], replaced[model]),
        "success_released_before": formulas.exceeds(new[UNEDITED], replaced[UNEDITED]),
    }
    if single:
        columns["single_success_tie"] = formulas.ties(new[ALONE], new[UNEDITED])
    return columns


def before_and_after(name: str, fact: pd.DataFrame) -> dict[str, pd.Series]:
    """p(k) in the three states of an edit sequence."""
    return {
        f"probability_{name}_before": fact[UNEDITED],
        f"probability_{name}_after_first": fact[FIRST],
        f"probability_{name}": fact[SECOND],
    }


def given_first(columns: dict[str, pd.Series], names: tuple[str, ...]) -> dict[str, pd.Series]:
    """The available ones of `names`, for cases whose first edit worked; empty for the others."""
    worked = columns["e1_failed"] == 0
    return {f"{name}_given_e1": columns[name].where(worked) for name in names if name in columns}


def _conflict_score(kind: str, new: pd.DataFrame, old: pd.DataFrame) -> dict[str, pd.Series]:
    """Li et al. (2024), Eq. 6 and 7: the comparison in several states, and the score's differences."""
    name = f"conflict_score_{kind}"
    after = formulas.exceeds(new[SECOND], old[SECOND])
    before = formulas.exceeds(new[UNEDITED], old[UNEDITED])
    control = formulas.exceeds(new[CONTROL], old[CONTROL])
    return {
        f"{name}_before": before,
        f"{name}_after_first": formulas.exceeds(new[FIRST], old[FIRST]),
        f"{name}_change": after - before,
        f"{name}_control": control,
        f"{name}_control_difference": after - control,
        f"{name}_tie": formulas.ties(new[SECOND], old[SECOND]),
    }


def _magnitude(read: Readings) -> dict[str, pd.Series]:
    """Li et al. (2024), Eq. 8: the share of the old fact removed by the second edit, and by a control."""
    columns: dict[str, pd.Series] = {}
    for name, fact, drop in (
        ("conflict_magnitude", read.one("old"), formulas.relative_drop),
        ("conflict_magnitude_log_ratio", read.one("old", "log_probability"), formulas.log_drop),
    ):
        columns |= _controlled(name, drop(fact[FIRST], fact[SECOND]), drop(fact[FIRST], fact[CONTROL]))
    return columns


def _controlled(name: str, raw: pd.Series, control: pd.Series) -> dict[str, pd.Series]:
    return {name: raw, f"{name}_control": control, f"{name}_control_difference": raw - control}


def _tied_fact(read: Readings, known: pd.Series) -> dict[str, pd.Series]:
    """Share lost of the tied fact, and of facts that are not tied to the conflict.

    The paper defines the loss like Eq. 8, from after the first to after the second edit; the released code
    starts from the unedited model. Neither has a lower limit; `_clamped` has that of the released conflict
    magnitude. `known` says whose tied fact the unedited model knows: another cannot be lost.
    """
    tied, logs = read.one("tied"), read.one("tied", "log_probability")
    damage = formulas.relative_drop(tied[FIRST], tied[SECOND])
    released = formulas.relative_drop(tied[UNEDITED], tied[SECOND])
    columns = {
        **_controlled("tied_fact_damage", damage, formulas.relative_drop(tied[FIRST], tied[CONTROL])),
        **_controlled(
            "tied_fact_damage_log_ratio",
            formulas.log_drop(logs[FIRST], logs[SECOND]),
            formulas.log_drop(logs[FIRST], logs[CONTROL]),
        ),
        "tied_fact_damage_known": damage.where(known),
        "tied_fact_damage_clamped": damage.clip(lower=LOWEST_DROP),
        "tied_fact_damage_released_clamped": released.clip(lower=LOWEST_DROP),
        "tied_fact_damage_e2_only": formulas.relative_drop(tied[UNEDITED], tied[ALONE]),
        **before_and_after("tied", tied),
    }
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
