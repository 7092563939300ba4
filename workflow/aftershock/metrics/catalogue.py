"""What each metric is: its title, its scale, which direction is better and its definition in one sentence."""

from dataclasses import dataclass, replace
from functools import lru_cache

from aftershock.metrics.scales import DIFFERENCE, DROP, NATS, SHARE, Scale


@dataclass(frozen=True)
class Metric:
    """One metric; `better` is up, down or empty, `percent` says that it is printed times 100."""

    name: str
    title: str
    about: str
    better: str = "up"
    scale: Scale = SHARE
    percent: bool = True


BASE = (
    Metric(
        "success",
        "success",
        "The object that an edit writes is likelier than before: for conflict cases the second edit's "
        "object in the model after both edits against the unedited model, for round cases the mean over "
        "both edits, each against the model it started from.",
    ),
    Metric(
        "success_released",
        "success, as released",
        "The object that an edit writes is likelier than the one it replaces, both in the edited model: for "
        "coverage in the model with the second edit alone (the paper's Single), for round cases the mean "
        "over both edits.",
    ),
    Metric(
        "conflict_score_exp",
        "conflict score, explicit",
        "After both edits, what the second edit wrote is likelier than what the first one wrote.",
    ),
    Metric(
        "conflict_score_imp",
        "conflict score, implicit",
        "After both edits, what follows from the second edit for the first edit's relation is likelier than "
        "what the first edit wrote.",
    ),
    Metric(
        "conflict_magnitude",
        "conflict magnitude",
        "The share of the first edit's new fact, in probability, that the second edit removes; negative "
        "where it makes the fact likelier, without limit.",
        scale=DROP,
    ),
    Metric(
        "conflict_magnitude_released",
        "conflict magnitude, as released",
        "The conflict magnitude, where no case counts for less than -100 %.",
        scale=DROP,
    ),
    Metric(
        "conflict_magnitude_log_ratio",
        "conflict magnitude, log ratio",
        "ln of the first edit's new fact's probability after the first edit over that after the second.",
        scale=DIFFERENCE,
        percent=False,
    ),
    Metric(
        "tied_fact_damage",
        "tied-fact damage",
        "The share of the tied fact's probability after the first edit that is gone after the second.",
        better="down",
        scale=DROP,
    ),
    Metric(
        "tied_fact_damage_released",
        "tied-fact damage, as released",
        "The share of the tied fact's probability in the unedited model that is gone after both edits.",
        better="down",
        scale=DROP,
    ),
    Metric(
        "tied_fact_damage_e2_only",
        "tied-fact damage of the second edit alone",
        "The share of the tied fact's probability in the unedited model that is gone after the second edit "
        "alone.",
        better="down",
        scale=DROP,
    ),
    Metric(
        "tied_fact_damage_log_ratio",
        "tied-fact damage, log ratio",
        "ln of the tied fact's probability after the first edit over that after the second.",
        better="down",
        scale=DIFFERENCE,
        percent=False,
    ),
    Metric(
        "tied_fact_damage_same",
        "damage to other facts of the tied fact's subject",
        "The same loss for other facts of the same subject, which the conflict does not touch.",
        better="down",
        scale=DROP,
    ),
    Metric(
        "tied_fact_damage_unrelated",
        "damage to tied facts of unrelated cases",
        "The same loss for tied facts of cases with other entities.",
        better="down",
        scale=DROP,
    ),
    Metric(
        "e1_exact", "first edit, exact", "Greedy decoding gives the first edit's object after its prompt."
    ),
    Metric(
        "e1_paraphrase",
        "first edit, paraphrases",
        "The same for the ten paraphrases, as a share.",
    ),
    Metric(
        "e1_held_out",
        "first edit, held-out paraphrases",
        "The same for the last three paraphrases, which no earlier stage uses.",
    ),
    Metric(
        "e2_exact", "second edit, exact", "After both edits, greedy decoding gives the second edit's object."
    ),
    Metric(
        "e2_paraphrase",
        "second edit, paraphrases",
        "The same for the ten paraphrases, as a share.",
        scale=SHARE,
    ),
    Metric(
        "e2_held_out",
        "second edit, held-out paraphrases",
        "The same for the last three paraphrases.",
        scale=SHARE,
    ),
    Metric(
        "any_exact",
        "a true object, exact",
        "After both edits, greedy decoding gives one of the true objects.",
    ),
    Metric(
        "e1_failed",
        "first edit failed",
        "The first edit did not make its object likelier.",
        better="down",
    ),
    Metric(
        "known",
        "known to the unedited model",
        "What a case is built on is known before any edit: for coverage and reverse the fact that the first "
        "edit replaces, for composite the tied fact, for round cases the share of the true objects.",
    ),
    Metric("edit_failed", "edit broke off", "An edit of the case ended without a result.", better="down"),
    Metric(
        "single_success", "single edit, success", "An edit's object is likelier than in the unedited model."
    ),
    Metric("single_exact", "single edit, exact", "Greedy decoding gives the edit's object after its prompt."),
    Metric(
        "single_paraphrase",
        "single edit, paraphrases",
        "The same for the ten paraphrases, as a share.",
    ),
    Metric(
        "single_held_out",
        "single edit, held-out paraphrases",
        "The same for the last three paraphrases, which no earlier stage uses.",
    ),
    Metric(
        "single_neighbours_kept",
        "neighbours kept",
        "Of facts of other subjects with the edited relation that the unedited model gives exactly, the "
        "share it still gives.",
    ),
    Metric(
        "single_same_subject_kept",
        "same subject's other facts kept",
        "Of facts of the edited subject with other relations that the unedited model gives exactly, the "
        "share it still gives.",
    ),
    Metric(
        "distortion",
        "distortion",
        "Jensen-Shannon divergence (natural log) of the distribution over a key's true objects after an "
        "edit and its reversal from that of the unedited model.",
        better="down",
        scale=NATS,
    ),
    Metric(
        "distortion_released",
        "distortion, as released",
        "The distortion divided by the number of true objects.",
        better="down",
        scale=NATS,
    ),
    Metric(
        "distortion_overshoot",
        "distortion by overshoot",
        "The part of the distortion that comes from the object edited back being likelier than before.",
        better="down",
        scale=NATS,
    ),
    Metric(
        "distortion_loss",
        "distortion by loss",
        "The part of the distortion that comes from other true objects being less likely than before.",
        better="down",
        scale=NATS,
    ),
    Metric(
        "ignore_rate",
        "ignore rate",
        "The share of the other true objects that are less likely than in the unedited model; 50 % by "
        "chance.",
        better="down",
    ),
    Metric(
        "failure_rate",
        "failure rate",
        "More than half of the other true objects are less likely than in the unedited model.",
        better="down",
    ),
    Metric(
        "failure_rate_by_chance",
        "failure rate by chance",
        "The failure rate if each object lost or gained probability with even chance.",
        better="",
    ),
    Metric(
        "ignore_rate_margin",
        "ignore rate, with a margin",
        "The share of the other true objects that lose more than the margin (0.1 unless set) in "
        "log-probability.",
        better="down",
    ),
    Metric(
        "others_log_ratio",
        "change of the other objects",
        "Mean over the other true objects of ln of their probability after over that before.",
        scale=DIFFERENCE,
        percent=False,
    ),
    *(
        Metric(f"probability_{name}", f"probability of {title}", f"p(k) of {title}.", better="")
        for name, title in (
            ("old", "what the first edit wrote"),
            ("new_exp", "what the second edit wrote"),
            ("new_imp", "what follows from the second edit"),
            ("tied", "the tied fact"),
            ("target", "the object edited in and out again"),
            ("original", "the object edited back"),
            ("others", "the other true objects, on average"),
        )
    ),
)

SUFFIXES = (
    (
        "_control_difference",
        ", minus control",
        "The value minus that of its control, case by case.",
        DIFFERENCE,
    ),
    (
        "_random_difference",
        ", minus random change",
        "The value minus that after a random change.",
        DIFFERENCE,
    ),
    (
        "_difference",
        ", tied minus control",
        "The tied fact's value minus this one, case by case.",
        DIFFERENCE,
    ),
    ("_change", ", change", "The value minus that in the unedited model, case by case.", DIFFERENCE),
    ("_before", ", unedited model", "The same in the unedited model.", None),
    ("_after_first", ", after the first edit", "The same after the first edit.", None),
    ("_tie", ", ties", "How often both sides of the comparison are exactly equal.", None),
    ("_known", ", known facts", "The same over the facts that the unedited model knows.", None),
    (
        "_random",
        ", random change",
        "The same after a random change of the weights as large as both edits.",
        None,
    ),
    (
        "_control",
        ", control",
        "The same for the control: for conflict cases a second edit borrowed from another case, for round "
        "cases the true objects of another subject and relation.",
        None,
    ),
)
"""Endings, tried in this order, that make a variant of a metric, with the variant's scale where it has its
own.
"""


BY_NAME = {entry.name: entry for entry in BASE}


def metric(name: str) -> Metric:
    """The entry of `name`, made from its base where it ends in a suffix; ValueError for an unknown one."""
    entry = find_metric(name)
    if entry is None:
        raise ValueError(f"metric {name!r} is in no catalogue; describe it in metrics/catalogue.py")
    return entry


@lru_cache
def find_metric(name: str) -> Metric | None:
    """The entry of `name`, or None."""
    if name in BY_NAME:
        return BY_NAME[name]
    for ending, title, about, scale in SUFFIXES:
        base = find_metric(name.removesuffix(ending)) if name.endswith(ending) else None
        if base:
            variant = replace(base, name=name, title=base.title + title, about=f"{about} {base.about}")
            return replace(variant, scale=scale) if scale else variant
    return None
